"""Which GPUs of this machine which runs get."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from espnet_ext.errors import UserError

# With both, torch counts no GPU and does not ask CUDA, so that a process can fork.
HIDDEN = {"CUDA_VISIBLE_DEVICES": "", "PYTORCH_NVML_BASED_CUDA_CHECK": "1"}


@contextmanager
def hidden_gpus() -> Iterator[None]:
    """Hide the GPUs from what is imported: ESPnet and others look for them then."""
    before = {name: os.environ.get(name) for name in HIDDEN}
    os.environ.update(HIDDEN)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def gpus_of_runs(ngpu: int, visible: Sequence[str]) -> list[str]:
    """Part GPUs among runs of `ngpu` each, as ``CUDA_VISIBLE_DEVICES`` has them.

    Raises:
        UserError: If there are some, but fewer than one run needs.
    """
    if ngpu == 0 or not visible:
        return []
    if len(visible) < ngpu:
        raise UserError(
            f"--ngpu {ngpu}, but this machine offers {len(visible)}: "
            + ", ".join(visible)
        )
    whole = len(visible) // ngpu * ngpu
    return [",".join(visible[n : n + ngpu]) for n in range(0, whole, ngpu)]


def visible_gpus(devices: Path = Path("/dev")) -> list[str]:
    """Names of the GPUs that this run may use, without starting CUDA.

    CUDA counts what it finds from 0 on: in a container that is given nothing but
    ``/dev/nvidia3``, that is GPU 0.

    Args:
        devices: Where the device files are.
    """
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [name for name in given.split(",") if name]
    return [str(n) for n, _ in enumerate(devices.glob("nvidia[0-9]*"))]
