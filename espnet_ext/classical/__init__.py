"""The classical baseline: utterance statistics and support vector machines."""

from collections.abc import Mapping
from typing import Any


def is_classical(config: Mapping[str, Any]) -> bool:
    """Whether a model's configuration is of this baseline, which has no training."""
    return "functionals" in config
