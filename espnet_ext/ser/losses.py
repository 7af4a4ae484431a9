"""Losses of the paper: concordance (eq. 2), cross entropy (eq. 1), their sum (eq. 3).

Both count only rows that have the label: a class of -1 or a nan attribute leaves its
row out of that loss. A loss without rows is zero and still hangs on the graph, so that
every parameter always has a gradient (distributed training needs one).

Everything is computed in at least float32, whatever autocast says, and in masked sums:
to take out the labeled rows would make the host wait for the GPU in every step.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from espnet_ext.attributes import ATTRIBUTES
from espnet_ext.errors import UserError

MISSING_CLASS = -1
CONTINUOUS = ("ccc", "mse", "released_ccc")

# Below this, variances and squared mean difference together are rounding noise: float32
# resolves about 5e-7 around 5, the upper end of a rating scale.
_NEGLIGIBLE = 1e-12


def concordance(
    predictions: Tensor, targets: Tensor, known: Tensor | None = None
) -> Tensor:
    """Concordance correlation coefficient with biased (1/N) moments (eq. 2, eq. 4).

    Args:
        predictions: (N, ...) predicted values.
        targets: (N, ...) true values, no nan.
        known: (N, ...) bool, which rows count; None for all.

    Returns:
        Of each column (...), in [-1, 1]. Where it is undefined (both constant and
        equal, or without a row) it is 0 with zero gradient.
    """
    if known is None:
        known = torch.ones_like(predictions, dtype=torch.bool)
    p, t, covariance, shift = _centered(predictions, targets, known)
    spread = _mean(p.square(), known) + _mean(t.square(), known) + shift
    defined = spread > _NEGLIGIBLE
    # where() twice: a division by zero would be nan in the gradient even if masked.
    return torch.where(
        defined, 2 * covariance / spread.where(defined, 1.0), covariance * 0
    )


def _released_ccc_loss(predictions: Tensor, targets: Tensor, known: Tensor) -> Tensor:
    """Concordance loss as the released recipe computes it, for comparison only.

    Its covariance is biased (1/N), its variances are not (1/(N-1)), 1e-8 is added below
    the fraction, and a single row falls back to the squared error, of which a batch
    takes the mean over attributes, not the sum.
    """
    p, t, covariance, shift = _centered(predictions, targets, known)
    count = known.sum(0)
    variances = (p.square() + t.square()).sum(0) / (count - 1).clamp(1)
    loss = 1 - 2 * covariance / (variances + shift + 1e-8)
    return torch.where(count < 2, shift / len(ATTRIBUTES), loss)


def _mean(values: Tensor, known: Tensor) -> Tensor:
    """Mean over the known rows (N, ...) -> (...); what is unknown must be zero."""
    return values.sum(0) / known.sum(0).clamp(1)


def _centered(
    predictions: Tensor, targets: Tensor, known: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return both minus their means (N, ...), covariance and squared shift (...)."""
    mean_p, mean_t = (_mean(v.where(known, 0), known) for v in (predictions, targets))
    p, t = (predictions - mean_p).where(known, 0), (targets - mean_t).where(known, 0)
    return p, t, _mean(p * t, known), (mean_p - mean_t).square()


def attribute_losses(
    predictions: Tensor, targets: Tensor, kind: str = "ccc"
) -> tuple[Tensor, Tensor]:
    """Loss, one of `CONTINUOUS`, of each attribute over the rows where it is labeled.

    Predictions and targets are (N, 3) valence, arousal, dominance, nan where missing.

    Returns:
        Losses (3,) and numbers of labeled rows (3,). A concordance of fewer than two
        rows says nothing and is a zero loss.
    """
    known = ~targets.isnan()  # (N, 3)
    true = targets.where(known, 0).to(predictions.dtype)  # (N, 3)
    counts = known.sum(0)  # (3,)
    if kind == "ccc":
        losses = 1 - concordance(predictions, true, known)
    elif kind == "released_ccc":
        losses = _released_ccc_loss(predictions, true, known)
    else:
        losses = _mean((predictions - true).square().where(known, 0), known)
    enough = counts >= (2 if kind == "ccc" else 1)
    return losses.where(enough, predictions.sum(0) * 0), counts


def class_loss(
    logits: Tensor,
    classes: Tensor,
    weight: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Cross entropy (eq. 1), averaged over the rows that have a class.

    It is of logits (N, K) and classes (N,) int, -1 where missing. The weights of
    classes (K,) and smoothing are torch's.

    Returns:
        Scalar loss and the number of labeled rows.
    """
    known = classes != MISSING_CLASS  # (N,)
    weight = logits.new_ones(logits.size(1)) if weight is None else weight.to(logits)
    # Torch's own mean is nan without a row.
    total = F.cross_entropy(
        logits,
        classes,
        weight,
        ignore_index=MISSING_CLASS,
        reduction="sum",
        label_smoothing=label_smoothing,
    )
    weights = weight[classes.clamp(0)].where(known, 0).sum()
    return total / weights.where(weights > 0, 1), known.sum()


@dataclass(frozen=True, slots=True)
class LossParts:
    """The total (eq. 3); its detached parts by name, nan where no row is labeled."""

    total: Tensor
    stats: dict[str, Tensor]


class JointLoss(nn.Module):
    """alpha (L_V + L_A + L_D) + beta L_disc (eq. 3).

    Args:
        alpha: weight of the attribute losses (paper: 1).
        beta: weight of the cross entropy (paper: 1).
        continuous: "ccc" (paper), "mse", or "released_ccc".
        class_weights: a weight for each class in the class list's order, None for
            plain cross entropy (paper), or "balanced", which the task replaces by
            weights from the training labels.
        label_smoothing: 0 in the paper, 0.15 in the released recipe.

    Raises:
        UserError: an option has a value that is not among those above.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        alpha: float = 1.0,
        beta: float = 1.0,
        continuous: str = "ccc",
        class_weights: Sequence[float] | str | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        if continuous not in CONTINUOUS:
            raise UserError(
                f"loss_conf: continuous is {continuous!r}; choose ccc, mse or "
                "released_ccc"
            )
        if isinstance(class_weights, str):
            raise UserError(
                f"loss_conf: class_weights is {class_weights!r}; give a list of "
                "numbers, one a class, or balanced with a training set"
            )
        self.alpha, self.beta = alpha, beta
        self.continuous, self.label_smoothing = continuous, label_smoothing
        weights = None if class_weights is None else torch.tensor([*class_weights])
        # Not in the state dict: the configuration has it already.
        self.register_buffer("class_weights", weights, persistent=False)

    def forward(
        self,
        logits: Tensor | None,
        attributes: Tensor | None,
        classes: Tensor,
        targets: Tensor,
    ) -> LossParts:
        """Add up the losses of the branches there are; the others' outputs are None.

        Logits are (N, K), classes (N,) int, -1 where missing, attributes and targets
        (N, 3), nan where missing.
        """
        total = targets.new_zeros(())
        stats: dict[str, Tensor] = {}

        def note(name: str, loss: Tensor, count: Tensor) -> None:
            # ESPnet's means leave nan out.
            stats[f"loss_{name}"] = loss.detach().where(count > 0, float("nan"))

        with torch.autocast(targets.device.type, enabled=False):
            if attributes is not None:
                values = at_least_float32(attributes)
                losses, counts = attribute_losses(values, targets, self.continuous)
                total = total + self.alpha * losses.sum()
                for each in zip(ATTRIBUTES, losses, counts, strict=True):
                    note(*each)
            if logits is not None:
                scores, smoothing = at_least_float32(logits), self.label_smoothing
                loss, n = class_loss(scores, classes, self.class_weights, smoothing)
                total = total + self.beta * loss
                note("emotion", loss, n)
        return LossParts(total, stats)


def at_least_float32(values: Tensor) -> Tensor:
    """Widen half precision; leave float32 and float64 alone."""
    return values.float() if values.dtype in (torch.half, torch.bfloat16) else values
