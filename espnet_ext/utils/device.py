"""Where a command computes."""

from espnet_ext.errors import UserError


def device_of(ngpu: int) -> str:
    """Return torch's name of the device for ``--ngpu 0`` or ``1``, if there is one."""
    if ngpu == 0:
        return "cpu"
    import torch

    if not torch.cuda.is_available():
        raise UserError(f"--ngpu {ngpu}: torch sees no GPU here; use --ngpu 0")
    return "cuda"
