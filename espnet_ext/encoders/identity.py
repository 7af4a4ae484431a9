"""No encoder: for corpora of some hundred utterances, where every layer costs."""

from typing import Any

from espnet2.asr.encoder.abs_encoder import AbsEncoder
from torch import Tensor


class IdentityEncoder(AbsEncoder):
    """Gives the frames as they came in to the pooling."""

    def __init__(self, input_size: int) -> None:
        super().__init__()
        self.size = input_size

    def output_size(self) -> int:
        """Return the width of a frame."""
        return self.size

    def forward(
        self, xs_pad: Tensor, ilens: Tensor, prev_states: Any = None, **_: Any
    ) -> tuple[Tensor, Tensor, None]:
        """Return (B, T, D) and the lengths as they are."""
        return xs_pad, ilens, None
