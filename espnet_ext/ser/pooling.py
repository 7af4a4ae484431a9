"""Self-attentive pooling over time (paper section 3.2; Safari et al. 2020, eq. 5-6).

    a_t = softmax_t(w^T h_t),    pooled = sum_t a_t h_t

A bias inside the softmax would cancel, so there is none. With `deviation` the weighted
standard deviation follows the mean (attentive statistics pooling, Okabe et al. 2018,
eq. 5-6).

Both sums are written as products of elements. As matrix products they have an outer
product for a gradient, and such a one is compiled at run time on a GPU, which needs a C
compiler there.
"""

import torch
from torch import Tensor, nn


def frame_mask(lengths: Tensor, num_frames: int) -> Tensor:
    """Return (B, T) bool, True on the real frames of rows of true `lengths` (B,)."""
    frames = torch.arange(num_frames, device=lengths.device)  # (T,)
    return frames[None, :] < lengths[:, None]  # (B, T)


class SelfAttentivePooling(nn.Module):
    """Weighted mean over frames with learned weights; padding weighs exactly zero.

    H heads are as many poolings side by side (the released recipe has one each for
    valence, arousal and dominance). `deviation` pools the standard deviation, too.
    """

    def __init__(
        self, input_size: int, num_heads: int = 1, *, deviation: bool = False
    ) -> None:
        super().__init__()
        self.deviation = deviation
        self.output_size = input_size * (2 if deviation else 1)
        self.score = nn.Linear(input_size, num_heads, bias=False)

    def forward(self, hidden: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Pool frames (B, T, D) over each row's own, of which there is at least 1.

        Returns:
            The pooled vectors (B, H, D), with `deviation` (B, H, 2 D), and the
            attention weights (B, H, T), which sum to one over a row's true frames.
        """
        frames = hidden[:, None]  # (B, 1, T, D)
        scores = (frames * self.score.weight[:, None]).sum(-1)  # (B, H, T)
        mask = frame_mask(lengths, hidden.size(1))  # (B, T)
        scores = scores.masked_fill(~mask[:, None, :], float("-inf"))
        weights = scores.softmax(dim=-1)  # (B, H, T)
        pooled = (weights[..., None] * frames).sum(2)  # (B, H, D)
        if self.deviation:
            squares = (weights[..., None] * (frames - pooled[:, :, None]).square()).sum(
                2
            )
            # The root's slope is infinite at 0, where all frames are equal.
            pooled = torch.cat([pooled, squares.clamp(min=1e-6).sqrt()], dim=-1)
        return pooled, weights
