"""Losses of the paper: concordance (eq. 2), cross entropy (eq. 1), their sum (eq. 3).

Both count only rows that have the label: a class of -1 or a nan attribute leaves its
row out of that loss. A loss without rows is zero and still hangs on the graph, so that
every parameter always has a gradient (distributed training needs one).

Everything is computed in at least float32, whatever autocast says.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from espnet_ext.errors import UserError
from espnet_ext.ser.attributes import ATTRIBUTES

MISSING_CLASS = -1

# Below this, variances and squared mean difference together are rounding noise: float32
# resolves about 5e-7 around 5, the upper end of a rating scale.
_NEGLIGIBLE = 1e-12


def concordance(predictions: Tensor, targets: Tensor) -> Tensor:
    """Concordance correlation coefficient with biased (1/N) moments (eq. 2, eq. 4).

    Args:
        predictions: (N,) predicted values.
        targets: (N,) true values, no nan.

    Returns:
        Scalar in [-1, 1]. Where it is undefined (both constant and equal) it is 0 with
        zero gradient.
    """
    centred_p = predictions - predictions.mean()  # (N,)
    centred_t = targets - targets.mean()  # (N,)
    covariance = (centred_p * centred_t).mean()
    shift = predictions.mean() - targets.mean()
    spread = centred_p.square().mean() + centred_t.square().mean() + shift.square()
    defined = spread > _NEGLIGIBLE
    # where() twice: a division by zero would be nan in the gradient even if masked.
    return torch.where(
        defined, 2 * covariance / spread.where(defined, 1.0), covariance * 0
    )


def released_concordance_loss(predictions: Tensor, targets: Tensor) -> Tensor:
    """Concordance loss as the released recipe computes it, for comparison only.

    Its covariance is biased (1/N), its variances are not (1/(N-1)), 1e-8 is added below
    the fraction, and a single row falls back to the squared error, of which a batch
    takes the mean over attributes, not the sum.
    """
    if len(predictions) < 2:
        return (predictions - targets).square().mean() / len(ATTRIBUTES)
    covariance = (
        (predictions - predictions.mean()) * (targets - targets.mean())
    ).mean()
    shift = predictions.mean() - targets.mean()
    spread = predictions.var() + targets.var() + shift.square() + 1e-8
    return 1 - 2 * covariance / spread


def attribute_losses(
    predictions: Tensor, targets: Tensor, kind: str = "ccc"
) -> tuple[Tensor, Tensor]:
    """Loss of each attribute over the rows where it is labelled.

    Args:
        predictions: (N, 3) valence, arousal, dominance.
        targets: (N, 3), nan where missing.
        kind: "ccc", "released_ccc" or "mse".

    Returns:
        Losses (3,) and numbers of labelled rows (3,). A concordance of fewer than two
        rows says nothing and is a zero loss.
    """
    losses, counts = [], []
    for column in range(predictions.size(1)):
        known = ~targets[:, column].isnan()  # (N,)
        predicted = predictions[known, column]  # (n,)
        true = targets[known, column].to(predicted.dtype)  # (n,)
        counts.append(known.sum())
        if len(predicted) < (2 if kind == "ccc" else 1):
            losses.append((predictions[:, column] * 0).sum())
        elif kind == "ccc":
            losses.append(1 - concordance(predicted, true))
        elif kind == "released_ccc":
            losses.append(released_concordance_loss(predicted, true))
        else:
            losses.append((predicted - true).square().mean())
    return torch.stack(losses), torch.stack(counts)


def class_loss(
    logits: Tensor,
    classes: Tensor,
    weight: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Cross entropy (eq. 1), averaged over the rows that have a class.

    Args:
        logits: (N, K).
        classes: (N,) int, -1 where missing.
        weight: (K,) weight of each class, or None.
        label_smoothing: as in `torch.nn.functional.cross_entropy`.

    Returns:
        Scalar loss and the number of labelled rows.
    """
    known = classes != MISSING_CLASS  # (N,)
    count = known.sum()
    if count == 0:
        return (logits * 0).sum(), count
    loss = F.cross_entropy(
        logits[known],
        classes[known],
        weight=None if weight is None else weight.to(logits.dtype),
        label_smoothing=label_smoothing,
    )
    return loss, count


@dataclass(frozen=True, slots=True)
class LossParts:
    """A loss and what it is made of.

    Attributes:
        total: alpha * (sum over attributes) + beta * cross entropy (eq. 3).
        stats: detached parts by name; only those that had labelled rows.
    """

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

    def __init__(
        self,
        alpha: float = 1.0,
        beta: float = 1.0,
        continuous: str = "ccc",
        class_weights: Sequence[float] | str | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        if continuous not in ("ccc", "mse", "released_ccc"):
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
        self.class_weights: Tensor | None
        self.continuous = continuous
        self.label_smoothing = label_smoothing
        # Not in the state dict: the configuration says it already.
        self.register_buffer(
            "class_weights",
            None if class_weights is None else torch.tensor(list(class_weights)),
            persistent=False,
        )

    def forward(
        self,
        logits: Tensor | None,
        attributes: Tensor | None,
        classes: Tensor,
        targets: Tensor,
    ) -> LossParts:
        """Add up the losses of the branches there are.

        Args:
            logits: (N, K), or None without a discrete branch.
            attributes: (N, 3), or None without a continuous branch.
            classes: (N,) int, -1 where missing.
            targets: (N, 3), nan where missing.

        Returns:
            The total and its parts.
        """
        total = targets.new_zeros(())
        stats: dict[str, Tensor] = {}
        with torch.autocast(targets.device.type, enabled=False):
            if attributes is not None:
                losses, counts = attribute_losses(
                    at_least_float32(attributes), targets, self.continuous
                )
                total = total + self.alpha * losses.sum()
                for name, loss, count in zip(ATTRIBUTES, losses, counts, strict=True):
                    if count > 0:
                        stats[f"loss_{name}"] = loss.detach()
            if logits is not None:
                loss, count = class_loss(
                    at_least_float32(logits),
                    classes,
                    self.class_weights,
                    self.label_smoothing,
                )
                total = total + self.beta * loss
                if count > 0:
                    stats["loss_emotion"] = loss.detach()
        return LossParts(total, stats)


def at_least_float32(values: Tensor) -> Tensor:
    """Widen half precision; leave float32 and float64 alone."""
    return values.float() if values.dtype in (torch.half, torch.bfloat16) else values
