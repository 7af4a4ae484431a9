"""A model from its configuration, without what only a training needs.

The classes that a configuration may choose stand here, once: `tasks.ser` makes its
options of them, and whoever uses a trained model builds it here. A class is imported
when it is chosen, and never ESPnet's tasks and trainer: those take seconds.
"""

import argparse
import io
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from espnet_ext.errors import UserError
from espnet_ext.ser import DECODERS, LOSSES
from espnet_ext.utils.tensors import UNREADABLE

if TYPE_CHECKING:
    from espnet_ext.ser.model import ESPnetSERModel


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a model. Classes are named as ``MODULE:CLASS``.

    Attributes:
        kind: What each of the classes is derived from.
        default: Name of the class where a configuration names none; None: no such part.
        classes: By the names that a configuration uses.
    """

    kind: str
    default: str | None
    classes: dict[str, str]


PARTS = {
    "frontend": Part(
        "espnet2.asr.frontend.abs_frontend:AbsFrontend",
        "cached",
        {
            "cached": "espnet_ext.features.frontend:CachedFeatures",
            "online": "espnet_ext.features.frontend:OnlineUpstream",
        },
    ),
    "specaug": Part(
        "espnet2.asr.specaug.abs_specaug:AbsSpecAug",
        None,
        {"specaug": "espnet2.asr.specaug.specaug:SpecAug"},
    ),
    "normalize": Part(
        "espnet2.layers.abs_normalize:AbsNormalize",
        None,
        {
            "utterance_mvn": "espnet2.layers.utterance_mvn:UtteranceMVN",
            "training_mvn": "espnet_ext.train.training_mvn:TrainingMVN",
        },
    ),
    "preencoder": Part(
        "espnet2.asr.preencoder.abs_preencoder:AbsPreEncoder",
        None,
        {"linear": "espnet2.asr.preencoder.linear:LinearProjection"},
    ),
    "encoder": Part(
        "espnet2.asr.encoder.abs_encoder:AbsEncoder",
        "conformer",
        {
            "conformer": "espnet2.asr.encoder.conformer_encoder:ConformerEncoder",
            "transformer": "espnet2.asr.encoder.transformer_encoder:TransformerEncoder",
            "linear": "espnet_ext.encoders.linear_probe:LinearEncoder",
            "identity": "espnet_ext.encoders.identity:IdentityEncoder",
        },
    ),
    "decoder": Part(
        "torch.nn:Module",
        "emotion",
        {**DECODERS, "mean": "espnet_ext.encoders.linear_probe:MeanPoolingDecoder"},
    ),
    "loss": Part("torch.nn:Module", "joint", LOSSES),
    "model": Part(
        "espnet2.train.abs_espnet_model:AbsESPnetModel",
        "espnet",
        {"espnet": "espnet_ext.ser.model:ESPnetSERModel"},
    ),
}
# What `assemble` reads where a configuration leaves it out.
DEFAULTS: dict[str, Any] = {
    "conv_norm": "batch",
    **{name: part.default for name, part in PARTS.items()},
    **{f"{name}_conf": {} for name in PARTS},
}

# What a packed config.yaml keeps: the model, and how it was trained. Never a path.
PACKED_KEYS = (
    *("class_list", *DEFAULTS),
    *("optim", "optim_conf", "scheduler", "scheduler_conf", "grad_clip", "seed"),
    *("batch_type", "batch_bins", "min_batch_size", "max_batch_frames", "max_epoch"),
    *("max_steps", "patience", "best_model_criterion", "keep_nbest_models"),
    *("corpus_sampling", "batch_norm_statistics", "use_amp", "version"),
)

# Parameters of the classes that are not for a configuration: they follow from the data.
FILLED_IN: dict[str, set[str]] = {
    "encoder": {"input_size"},
    "decoder": {"encoder_output_size", "num_classes"},
    "model": {*PARTS, "class_list"},
}


def find_class(part: str, choice: str | None) -> Any:
    """Import the class of a part by its name; None for no such part.

    Raises:
        UserError: There is no class of that name.
    """
    if choice is None:
        return None
    classes = PARTS[part].classes
    name = choice.lower() if isinstance(choice, str) else choice
    if name not in classes:
        raise UserError(f"{part} is {choice!r}; choose from {', '.join(classes)}")
    with _importing_espnet():
        return resolve_name(classes[name])


def assemble(args: argparse.Namespace) -> "ESPnetSERModel":
    """Put a model together; parameters are drawn as torch draws them.

    Args:
        args: `DEFAULTS` and a configuration over them. Sizes of parts that follow from
            others are filled in, so that they are in a training's config.yaml.

    Raises:
        UserError: A name or value that cannot be.
    """

    def build(name: str, **filled: Any) -> Any:
        chosen = find_class(name, getattr(args, name))
        conf = getattr(args, f"{name}_conf") or {}
        return None if chosen is None else chosen(**filled, **conf)

    args.class_list = read_class_list(args.class_list)
    parts = {"frontend": build("frontend")}
    size = parts["frontend"].output_size()
    if args.preencoder is not None:
        args.preencoder_conf = {"input_size": size, **args.preencoder_conf}
    if args.normalize == "training_mvn":
        args.normalize_conf = {"size": size}
    parts |= {name: build(name) for name in ("specaug", "normalize", "preencoder")}
    if parts["preencoder"] is not None:
        size = parts["preencoder"].output_size()
    parts["encoder"] = encoder = build("encoder", input_size=size)
    _adapt_encoder(encoder, args.conv_norm)
    width, num_classes = encoder.output_size(), len(args.class_list)
    parts["decoder"] = build(
        "decoder", encoder_output_size=width, num_classes=num_classes
    )
    parts["loss"] = build("loss")
    weights = args.loss_conf.get("class_weights")
    if weights is not None and len(weights) != num_classes:
        raise UserError(
            f"loss_conf: class_weights has {len(weights)} numbers for the "
            f"{num_classes} classes {args.class_list}"
        )
    return build("model", **parts, class_list=args.class_list)


def load_trained(
    config: Mapping[str, Any], config_file: Path | str, model_file: Path | str
) -> "ESPnetSERModel":
    """Build the model of a training's config.yaml and load its parameters.

    Args:
        config: Content of the config.yaml.
        config_file: Its name, for messages.
        model_file: The parameters; their keys and shapes must be the model's.

    Raises:
        UserError: A file is missing or damaged, or they do not fit together.
    """
    if not isinstance(config.get("class_list"), list):
        raise UserError(
            f"{config_file} is not the config.yaml of a training: class_list is no "
            "list of classes"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = assemble(argparse.Namespace(**{**DEFAULTS, **config}))
    except UNREADABLE as error:
        raise UserError(
            f"{config_file}: no model can be built of it ({error})"
        ) from error
    load_parameters(model, model_file)
    return model


def read_class_list(class_list: str | Sequence[str] | None) -> list[str]:
    """Return the class names from a file with one a line, or from a list."""
    if class_list is None:
        raise UserError("class_list is missing; give --class_list SETDIR/classes")
    if isinstance(class_list, str):
        if not Path(class_list).is_file():
            raise UserError(f"class_list: there is no file {class_list}")
        class_list = Path(class_list).read_text(encoding="utf-8").split()
    if not class_list:
        raise UserError("class_list: there are no classes in it")
    return list(class_list)


def load_parameters(model: nn.Module, model_file: Path | str) -> None:
    """Load a checkpoint whose keys and shapes must be exactly the model's.

    ESPnet's own ``build_model_from_file`` ignores keys that do not fit.
    """
    try:
        state = torch.load(model_file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"there is no model file {model_file}") from None
    except (*UNREADABLE, OSError) as error:  # OSError: torch's word for some cut files
        raise UserError(f"{model_file} cannot be read: {error}") from error
    try:
        model.load_state_dict(state)
    except (RuntimeError, TypeError) as error:
        raise UserError(
            f"{model_file} does not fit its configuration: {error}"
        ) from None


def _adapt_encoder(encoder: Any, conv_norm: str) -> None:
    """Give an ESPnet encoder, in place, what this project adds to it."""
    with _importing_espnet():
        from espnet_ext.encoders.block_attention import use_block_attention
        from espnet_ext.encoders.frame_norm import replace_batch_norm
        from espnet_ext.encoders.recompute import recompute_long_batches
    if conv_norm == "layer":
        replace_batch_norm(encoder)
    use_block_attention(encoder)
    recompute_long_batches(encoder)


@contextmanager
def _importing_espnet() -> Iterator[None]:
    """Import ESPnet's encoders without torch's compiler, which takes 2 s.

    They forbid it to compile one function, by a decorator that imports it. torch's
    own modules use one that does the same when the function is called first.

    The remark that Flash Attention is not installed, which nothing here uses, is left
    out.
    """
    eager = torch.compiler.disable
    torch.compiler.disable = getattr(torch, "_disable_dynamo", eager)
    printed = io.StringIO()
    try:
        with redirect_stderr(printed):
            yield
    finally:
        torch.compiler.disable = eager
        for line in printed.getvalue().splitlines():
            if "Flash Attention" not in line:
                print(line, file=sys.stderr)
