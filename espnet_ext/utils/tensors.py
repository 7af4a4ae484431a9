"""Tensors on the memory of files, and what damaged files of tensors raise."""

import pickle
import warnings

import numpy as np
import torch
from torch import Tensor

# What torch.load raises on a truncated or foreign file; its unpickler, fed with noise,
# may stumble in many ways.
UNREADABLE = (
    RuntimeError,
    pickle.UnpicklingError,
    EOFError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
)


def as_tensor(array: np.ndarray | Tensor) -> Tensor:
    """Return a tensor on an array's own memory, which may be a file's: only read it."""
    if isinstance(array, Tensor):
        return array
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writ")
        return torch.from_numpy(array)
