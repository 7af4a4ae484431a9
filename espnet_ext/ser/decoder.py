"""The paper's decoder: two branches and who helps whom (sections 2.1-2.4, figure 1).

A branch is self-attentive pooling, then a two-layer perceptron whose output is the
task's embedding (E_D for the discrete emotion, E_C for the continuous attributes). An
output layer reads the branch's own embedding and, in the hierarchical models, the other
one too. The five models of the paper are settings of this one class:

    ===============  ======================  =========  ==========================
    model            branches                hierarchy  outputs
    ===============  ======================  =========  ==========================
    Baseline C       continuous              none       c(E_C)
    Baseline D       discrete                none       y(E_D)
    Multi-task C,D   discrete, continuous    none       y(E_D), c(E_C)
    Hierarchical DC  discrete, continuous    dc         y(E_D), c([E_D E_C])
    Hierarchical CD  discrete, continuous    cd         y([E_C E_D]), c(E_C)
    (no paper's)     discrete, continuous    mutual     y([E_C E_D]), c([E_D E_C])
    ===============  ======================  =========  ==========================
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from espnet_ext.attributes import ATTRIBUTES
from espnet_ext.errors import UserError
from espnet_ext.ser.pooling import SelfAttentivePooling

BRANCHES = ("discrete", "continuous")

# hierarchy -> for each branch, whose embeddings its output layer reads, in order.
HIERARCHIES: dict[str, dict[str, tuple[str, ...]]] = {
    "none": {"discrete": ("discrete",), "continuous": ("continuous",)},
    "dc": {"discrete": ("discrete",), "continuous": ("discrete", "continuous")},
    "cd": {"discrete": ("continuous", "discrete"), "continuous": ("continuous",)},
    "mutual": {
        "discrete": ("continuous", "discrete"),
        "continuous": ("discrete", "continuous"),
    },
}
ACTIVATIONS: dict[str, type[nn.Module]] = {"leaky_relu": nn.LeakyReLU, "relu": nn.ReLU}
ATTRIBUTE_OUTPUTS = ("relu", "linear", "sigmoid")


@dataclass(frozen=True, slots=True)
class EmotionOutput:
    """What the decoder predicts for B utterances.

    Attributes:
        logits: (B, K) scores of the K classes; None without a discrete branch.
        attributes: (B, 3) valence, arousal, dominance on the corpus' raw scale; None
            without a continuous branch.
        embeddings: E_D (B, 32) and E_C (B, 32 H) by branch name.
        attention: SAP weights (B, H, T) by branch name.
    """

    logits: Tensor | None = None
    attributes: Tensor | None = None
    embeddings: dict[str, Tensor] = field(default_factory=dict)
    attention: dict[str, Tensor] = field(default_factory=dict)


class Branch(nn.Module):
    """Encoder output to task embedding: pooling, then 64 and 32 units (section 3.2).

    H poolings side by side share the perceptron and give an embedding each. Options are
    those of `EmotionDecoder`.
    """

    def __init__(
        self,
        input_size: int,
        num_poolings: int,
        hidden_size: int,
        embedding_size: int,
        activation: str,
        dropout_rate: float,
        pooled_activation: bool,
        pooled_deviation: bool,
        pooled_norm: bool,
    ) -> None:
        super().__init__()
        make_activation = ACTIVATIONS[activation]
        self.pooling = SelfAttentivePooling(
            input_size, num_poolings, deviation=pooled_deviation
        )
        layers: list[nn.Module] = []
        if pooled_norm:
            layers.append(_PooledNorm(self.pooling.output_size))
        if pooled_activation:
            layers.append(nn.ReLU())
        if layers:
            layers.append(nn.Dropout(dropout_rate))
        self.pooled = nn.Sequential(*layers)
        self.mlp = nn.Sequential(
            nn.Linear(self.pooling.output_size, hidden_size),
            make_activation(),
            nn.Dropout(dropout_rate),
            nn.Linear(hidden_size, embedding_size),
            make_activation(),
            nn.Dropout(dropout_rate),
        )

    def forward(self, hidden: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return embeddings (B, H, E) and attention (B, H, T) of frames (B, T, D)."""
        pooled, attention = self.pooling(hidden, lengths)  # (B, H, D or 2 D), (B, H, T)
        return self.mlp(self.pooled(pooled)), attention  # (B, H, E), (B, H, T)


class _PooledNorm(nn.BatchNorm1d):
    """BatchNorm over the rows and poolings of (B, H, D)."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.flatten(0, 1)).view_as(input)


class EmotionDecoder(nn.Module):
    """Discrete and continuous branch with a hierarchy between them.

    Args:
        encoder_output_size: D, width of the encoder output.
        num_classes: K, number of emotion classes.
        branches: "discrete", "continuous" or both.
        hierarchy: "none", "dc", "cd" or "mutual"; other than "none" needs both.
        hidden_size: units of a branch's first layer (paper: 64).
        embedding_size: units of a branch's second layer (paper: 32).
        activation: "leaky_relu" (paper) or "relu", after both layers.
        dropout_rate: after each activation of a branch (paper: 0.2).
        attribute_output: "relu" (paper: "strictly positive"), "linear" or "sigmoid".
        attribute_range: what a sigmoid output spans. CCC does not change when target
            and prediction are scaled together, so a sigmoid that spans the raw scale
            is the same model as a plain one trained on targets mapped to [0, 1].
        initial_attribute: value that the attributes start from, put into the output
            bias. A ReLU unit whose bias happens to be drawn negative never wakes up;
            one that starts on the scale cannot be born dead. None: torch's own draw.
        attribute_poolings: 1 (paper) or 3, one for each attribute (released recipe):
            then E_C is 96-d where it helps the classes, and one output layer with a
            single unit reads each attribute's own 32.
        pooled_activation: ReLU and dropout on the pooled vector (released recipe).
        pooled_deviation: pool the frames' standard deviation beside their mean
            (small corpora).
        pooled_norm: BatchNorm and dropout on the pooled vector, as in an x-vector: the
            perceptron sees each statistic at variance 1 (small corpora).
        detach_auxiliary: stop the gradient into the embedding of the other branch.

    Raises:
        UserError: an option has a value that is not among those above.
    """

    def __init__(
        self,
        encoder_output_size: int,
        num_classes: int,
        branches: Sequence[str] = BRANCHES,
        hierarchy: str = "none",
        hidden_size: int = 64,
        embedding_size: int = 32,
        activation: str = "leaky_relu",
        dropout_rate: float = 0.2,
        attribute_output: str = "relu",
        attribute_range: Sequence[float] = (1.0, 5.0),
        initial_attribute: float | None = 3.0,
        attribute_poolings: int = 1,
        pooled_activation: bool = False,
        pooled_deviation: bool = False,
        pooled_norm: bool = False,
        detach_auxiliary: bool = False,
    ) -> None:
        super().__init__()
        _check_choice("activation", activation, ACTIVATIONS)
        _check_choice("attribute_output", attribute_output, ATTRIBUTE_OUTPUTS)
        _check_choice("hierarchy", hierarchy, HIERARCHIES)
        _check_choice("attribute_poolings", attribute_poolings, (1, len(ATTRIBUTES)))
        for branch in branches:
            _check_choice("branches", branch, BRANCHES)
        if not branches or (hierarchy != "none" and len(set(branches)) < 2):
            raise UserError(
                f"decoder_conf: hierarchy {hierarchy} does not go with branches "
                f"{list(branches)}; give [discrete, continuous] or hierarchy none"
            )
        self.sources = {b: HIERARCHIES[hierarchy][b] for b in BRANCHES if b in branches}
        self.attribute_output = attribute_output
        self.attribute_range = tuple(float(bound) for bound in attribute_range)
        self.detach_auxiliary = detach_auxiliary

        poolings = {"discrete": 1, "continuous": attribute_poolings}
        units = {"discrete": num_classes, "continuous": len(ATTRIBUTES)}
        mlp = hidden_size, embedding_size, activation, dropout_rate, pooled_activation
        self.branches = nn.ModuleDict()
        for branch in self.sources:
            self.branches[branch] = Branch(
                encoder_output_size,
                poolings[branch],
                *mlp,
                pooled_deviation=pooled_deviation,
                pooled_norm=pooled_norm,
            )
        outputs = {}
        for branch, sources in self.sources.items():
            read = 1 + sum(poolings[source] for source in sources if source != branch)
            outputs[branch] = nn.Linear(
                read * embedding_size, units[branch] // poolings[branch]
            )
        if initial_attribute is not None and "continuous" in outputs:
            bias = self._inverse_activation(initial_attribute)
            nn.init.constant_(outputs["continuous"].bias, bias)
        self.outputs = nn.ModuleDict(outputs)

    def forward(self, hidden: Tensor, lengths: Tensor) -> EmotionOutput:
        """Predict from the encoder output (B, T, D) and its true lengths (B,)."""
        embeddings, attention = {}, {}
        for name, branch in self.branches.items():
            embeddings[name], attention[name] = branch(hidden, lengths)  # (B, H, E)
        raw = {
            name: _apply(layer, self._output_input(name, embeddings)).flatten(1)
            for name, layer in self.outputs.items()
        }
        attributes = raw.get("continuous")  # (B, 3)
        return EmotionOutput(
            logits=raw.get("discrete"),  # (B, K)
            attributes=None if attributes is None else self._activate(attributes),
            embeddings={name: e.flatten(1) for name, e in embeddings.items()},
            attention=attention,
        )

    def _output_input(self, name: str, embeddings: dict[str, Tensor]) -> Tensor:
        """Concatenate what the output layer of branch `name` reads, (B, H, sizes)."""
        own = embeddings[name]  # (B, H, E)
        parts = []
        for source in self.sources[name]:
            other = embeddings[source].flatten(1)[:, None]  # (B, 1, H' E)
            if self.detach_auxiliary:
                other = other.detach()
            parts.append(
                own if source == name else other.expand(-1, own.size(1), -1)
            )  # (B, H, E or H' E)
        return torch.cat(parts, dim=-1)

    def _activate(self, raw: Tensor) -> Tensor:
        if self.attribute_output == "relu":
            return raw.relu()
        if self.attribute_output == "sigmoid":
            low, high = self.attribute_range
            return low + (high - low) * raw.sigmoid()
        return raw

    def _inverse_activation(self, value: float) -> float:
        """Return the bias with which the activated output is `value`."""
        if self.attribute_output != "sigmoid":
            return value
        low, high = self.attribute_range
        if not low < value < high:
            raise UserError(
                f"decoder_conf: initial_attribute {value} is not inside "
                f"attribute_range [{low}, {high}]"
            )
        return math.log((value - low) / (high - value))


def _apply(layer: nn.Module, values: Tensor) -> Tensor:
    """Apply a layer (..., n) -> (..., units); one of a single unit as in pooling.py."""
    assert isinstance(layer, nn.Linear)
    if layer.out_features > 1:
        return layer(values)
    return (values * layer.weight[0]).sum(-1, keepdim=True) + layer.bias


def _check_choice(option: str, value: object, allowed: Collection[object]) -> None:
    if value not in allowed:
        raise UserError(
            f"decoder_conf: {option} is {value!r}; choose from {list(allowed)}"
        )
