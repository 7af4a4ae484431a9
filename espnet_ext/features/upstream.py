"""Load a frozen upstream by name: Hugging Face, s3prl, torchaudio or openSMILE.

HuBERT, wav2vec 2.0 and WavLM weights of any of the three run on the exact path of
`packed`; every other upstream of s3prl runs through s3prl itself, one utterance at a
time, since only that is sure not to depend on batch mates.
"""

import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from espnet_ext.errors import UserError
from espnet_ext.features import convert
from espnet_ext.features.architecture import Architecture
from espnet_ext.features.config import FeatureConfig, UpstreamConfig
from espnet_ext.features.egemaps import OpenSmileUpstream
from espnet_ext.features.huggingface import (
    WEIGHT_FILES,
    list_shards,
    read_json,
    read_weights,
    unreadable,
)
from espnet_ext.features.mfcc import MfccUpstream
from espnet_ext.features.packed import PackedUpstream
from espnet_ext.utils.atomic import atomic_dir

# Of linear layers and attention, and of the extractor's convolutions.
_PRECISIONS = {
    "float32": (torch.float32, torch.float32),
    "bfloat16": (torch.bfloat16, torch.float32),
    "bfloat16_all": (torch.bfloat16, torch.bfloat16),
}


class Upstream(Protocol):
    """A frozen model that turns waveforms into hidden states.

    Attributes:
        num_states: Hidden states that it has.
        dim: Width of each.
        min_samples: Shortest waveform that gives a frame.
        weights: Hash of the weights.
        normalize: Whether it normalises each waveform; None if that is s3prl's affair.
    """

    num_states: int
    dim: int
    min_samples: int
    weights: str
    normalize: bool | None

    def extract(
        self, waves: Sequence[Tensor], layers: Sequence[int], dtype: torch.dtype
    ) -> list[Tensor]:
        """Compute hidden states.

        Args:
            waves: Waveforms (n,), fp32, 16 kHz, on the upstream's device.
            layers: Numbers of the states that are wanted.
            dtype: Of the result.

        Returns:
            For each waveform (L, T, D).
        """
        ...

    def to(self, device: torch.device | str) -> "Upstream":
        """Move to a device and return self."""
        ...


class ExactUpstream:
    """HuBERT, wav2vec 2.0 or WavLM on the exact path.

    Args:
        architecture: Sizes and variants.
        weights: Tensors under canonical names.
        normalize: Normalise each waveform.
        compute: As in `FeatureConfig`.
    """

    def __init__(
        self,
        architecture: Architecture,
        weights: Mapping[str, Tensor],
        normalize: bool,
        compute: str,
    ) -> None:
        self.model = PackedUpstream(
            architecture, weights, normalize, *_PRECISIONS[compute]
        )
        self.architecture = architecture
        self.num_states = architecture.num_states
        self.dim = architecture.hidden
        self.min_samples = architecture.min_samples
        self.weights = convert.weights_hash(weights)
        self.normalize: bool | None = normalize

    def to(self, device: torch.device | str) -> "ExactUpstream":
        """Move to a device and return self."""
        wanted = torch.empty(0, device=device).device  # "cuda" is a certain one
        if next(self.model.parameters()).device != wanted:
            self.model.to(wanted)
        return self

    @torch.no_grad()
    def extract(
        self, waves: Sequence[Tensor], layers: Sequence[int], dtype: torch.dtype
    ) -> list[Tensor]:
        """Compute hidden states; see `Upstream.extract`."""
        lengths = [self.architecture.num_frames(len(wave)) for wave in waves]
        out = waves[0].new_empty(
            (len(layers), sum(lengths), self.dim), dtype=dtype
        )  # (L, N, D)
        place = {number: i for i, number in enumerate(layers)}
        for number, state in enumerate(self.model.states(waves, max(layers))):
            if number in place:
                out[place[number]] = state
        return list(out.split(lengths, dim=1))


class S3prlUpstream:
    """Any upstream of s3prl, one utterance at a time.

    The frames are those that the upstream itself gives, before s3prl's wrapper cuts or
    repeats some to reach a round number.

    Args:
        expert: What ``s3prl.hub`` makes.
        name: Its name, for messages.

    Raises:
        UserError: Its hidden states differ in width.
    """

    def __init__(self, expert: torch.nn.Module, name: str) -> None:
        self.expert = expert.eval().requires_grad_(False)
        self.min_samples = 800  # s3prl pads shorter ones; what it then gives is padding
        self.normalize: bool | None = None
        states = self._run(torch.linspace(-0.1, 0.1, 16000))
        self.num_states = len(states)
        if len({state.shape for state in states}) != 1:
            raise UserError(
                f"s3prl upstream {name}: its hidden states differ in size "
                f"({', '.join(str(tuple(s.shape)) for s in states)}); choose another"
            )
        self.dim = states[0].shape[-1]
        self.weights = convert.weights_hash(
            {key: value for key, value in expert.state_dict().items()}
        )

    def to(self, device: torch.device | str) -> "S3prlUpstream":
        """Move to a device and return self."""
        self.expert.to(device)
        return self

    def extract(
        self, waves: Sequence[Tensor], layers: Sequence[int], dtype: torch.dtype
    ) -> list[Tensor]:
        """Compute hidden states; see `Upstream.extract`."""
        result = []
        for wave in waves:
            states = self._run(wave)
            result.append(torch.stack([states[i].to(dtype) for i in layers]))
        return result  # each (L, T, D)

    @torch.no_grad()
    def _run(self, wave: Tensor) -> list[Tensor]:
        return [state[0] for state in self.expert([wave])["hidden_states"]]


def load_upstream(config: FeatureConfig) -> Upstream:
    """Load the upstream of a feature config.

    Weights come from the source's own cache, or are fetched where there is a network.

    Raises:
        UserError: The weights are not at hand, or not of a kind that we can use.
    """
    loaded = load_checkpoint(config.upstream)
    if not isinstance(loaded, Checkpoint):
        source = config.upstream.source
        if config.compute != "float32" or config.normalize != "auto":
            raise UserError(
                f"{source} upstream {config.upstream.name} runs through {source} "
                "itself: only compute: float32 and normalize: auto apply"
            )
        return loaded
    normalize = loaded.normalize if config.normalize == "auto" else config.normalize
    return ExactUpstream(loaded.architecture, loaded.weights, normalize, config.compute)


@dataclass(frozen=True)
class Checkpoint:
    """Weights for the exact path.

    Attributes:
        architecture: Sizes and variants.
        weights: Tensors under canonical names.
        normalize: Whether the model was trained on normalised waveforms.
    """

    architecture: Architecture
    weights: Mapping[str, Tensor]
    normalize: bool


def load_checkpoint(
    upstream: UpstreamConfig,
) -> Checkpoint | S3prlUpstream | OpenSmileUpstream | MfccUpstream:
    """Load weights by source and name; a Hugging Face folder goes with any source.

    Raises:
        UserError: As `load_upstream`.
    """
    if (Path(upstream.name).expanduser() / "config.json").is_file():
        return _load_huggingface(upstream)
    load = {
        "huggingface": _load_huggingface,
        "s3prl": _load_s3prl,
        "torchaudio": _load_torchaudio,
        "kaldi": lambda upstream: MfccUpstream(upstream.name),
        "opensmile": lambda upstream: OpenSmileUpstream(upstream.name),
    }[upstream.source]
    return load(upstream)


def save_checkpoint(checkpoint: Checkpoint, folder: Path) -> None:
    """Write a Hugging Face folder, for machines that have no network.

    The weights' hash stays the same, and with it what a store is made from.
    """
    from safetensors.torch import save_file

    config = convert.to_huggingface_config(checkpoint.architecture)
    preprocessor = {
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
        "do_normalize": checkpoint.normalize,
        "sampling_rate": 16000,
    }
    with atomic_dir(folder) as new:
        (new / "config.json").write_text(json.dumps(config, indent=2))
        (new / "preprocessor_config.json").write_text(json.dumps(preprocessor))
        save_file(
            dict(checkpoint.weights),
            new / "model.safetensors",
            metadata={"format": "pt"},
        )


def _load_huggingface(upstream: UpstreamConfig) -> Checkpoint:
    """Load a folder, or a name from the cache or the Hub."""
    name = upstream.name
    folder = Path(name).expanduser()
    if folder.is_dir():
        files = {path.name: path for path in folder.iterdir()}
    elif name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise UserError(
            f"{name}: no such folder (and not a Hugging Face name, which has the form "
            "owner/model)"
        )
    else:
        files = fetch_huggingface(name)
    if "config.json" not in files:
        raise UserError(f"{name}: no config.json there; is it a Hugging Face folder?")
    config = read_json(files["config.json"])
    tensors = read_weights(name, files)
    architecture, weights = convert.from_huggingface(config, tensors, name)
    preprocessor: dict[str, Any] = {}
    if "preprocessor_config.json" in files:
        preprocessor = read_json(files["preprocessor_config.json"])
    # Published group-norm models were trained on plain audio, whatever their
    # preprocessor_config.json says; s3prl, the reference, treats them so.
    layer = architecture.extractor_norm == "layer"
    return Checkpoint(
        architecture, weights, layer and preprocessor.get("do_normalize", True)
    )


def fetch_huggingface(name: str) -> dict[str, Path]:
    """Find a model's files in the local cache, or download them.

    Args:
        name: ``owner/model``.

    Returns:
        File name -> path: the configuration, and the weights in one of their forms.

    Raises:
        UserError: They are neither there nor to be had.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    files: dict[str, Path] = {}
    wanted = ("config.json", "preprocessor_config.json", *WEIGHT_FILES)
    reason = "it has no weights that we know"
    try:
        for file in wanted:
            try:
                files[file] = Path(hf_hub_download(name, file))
            except EntryNotFoundError as error:
                # Not there, or (without a network) not in the cache.
                if file == "config.json":
                    raise
                reason = _first_line(error)
            if file in WEIGHT_FILES and file in files:
                if file.endswith(".json"):
                    for shard in list_shards(files[file]):
                        files[shard] = Path(hf_hub_download(name, shard))
                return files
    except UserError:
        raise
    except Exception as error:  # its errors share no base class
        reason = _first_line(error)
    raise UserError(
        f"Hugging Face model {name!r} is not in the local cache and could not be "
        f"downloaded ({reason}). On a machine with a network run ser_fetch_weights "
        f"with this config (or 'hf download {name}'), copy the folder with "
        "config.json, preprocessor_config.json and the weights here and pass it with "
        "--upstream FOLDER"
    )


def _load_s3prl(upstream: UpstreamConfig) -> Checkpoint | S3prlUpstream:
    """Load by s3prl's name; the known families are taken out of its wrapper."""
    name = upstream.name
    make = _find_s3prl_upstream(name)
    arguments = {} if upstream.path is None else {"ckpt": upstream.path}
    if upstream.path is not None and not Path(upstream.path).is_file():
        raise UserError(f"upstream.path {upstream.path}: no such file")
    expert = _or_explain(
        lambda: make(**arguments),
        f"s3prl upstream {name!r}",
        upstream.path,
        "run ser_fetch_weights with this config, copy the folder that it writes here "
        "and pass it with --upstream FOLDER; or download the checkpoint and name it as "
        "upstream.path, with the matching *_local name as upstream.name",
    )
    normalize = _s3prl_normalizes(expert)
    if normalize is None:
        return S3prlUpstream(expert, name)
    found = convert.from_fairseq(expert.model, f"s3prl upstream {name}")
    if found is None:
        return S3prlUpstream(expert, name)
    return Checkpoint(*found, normalize)


def _s3prl_normalizes(expert: Any) -> bool | None:
    """Say whether a known kind of upstream normalises waveforms; None for others."""
    model = type(getattr(expert, "model", None))
    kind = f"{model.__module__}.{model.__name__}"
    if kind == "s3prl.upstream.hubert.hubert_model.HubertModel":
        return bool(expert.task_cfg.normalize)
    if kind == "s3prl.upstream.wav2vec2.wav2vec2_model.Wav2Vec2Model":
        return bool(expert.wav_normalize)
    if kind == "s3prl.upstream.wavlm.WavLM.WavLM":
        return bool(expert.cfg.normalize)
    return None


def _find_s3prl_upstream(name: str) -> Callable[..., Any]:
    """Find what makes an upstream of that name.

    The three families are looked up in their own modules first: importing all of
    ``s3prl.hub`` takes half a minute.
    """
    try:
        for family in ("hubert", "wavlm", "wav2vec2"):
            module = importlib.import_module(f"s3prl.upstream.{family}.hubconf")
            if hasattr(module, name) and not name.startswith("_"):
                return getattr(module, name)
        hub = importlib.import_module("s3prl.hub")
    except ImportError as error:
        raise UserError(
            f"s3prl cannot be imported ({error}). Install espnet-s3prl (the package "
            "named s3prl does not work with current torchaudio, and the two must not "
            "be installed together), or use upstream.source: huggingface"
        ) from error
    if name not in hub.options():
        raise UserError(
            f"s3prl has no upstream {name!r}; its names are listed by "
            "'python -c \"import s3prl.hub; print(s3prl.hub.options())\"'"
        )
    return getattr(hub, name)


def _load_torchaudio(upstream: UpstreamConfig) -> Checkpoint:
    """Load one of ``torchaudio.pipelines``' bundles."""
    from torchaudio import pipelines

    bundle = getattr(pipelines, upstream.name, None)
    if not isinstance(bundle, pipelines.Wav2Vec2Bundle):
        names = [
            name
            for name in dir(pipelines)
            if isinstance(getattr(pipelines, name), pipelines.Wav2Vec2Bundle)
        ]
        raise UserError(
            f"torchaudio.pipelines has no upstream {upstream.name!r}; it has "
            + ", ".join(names)
        )
    model = _or_explain(
        bundle.get_model,
        f"torchaudio bundle {upstream.name!r}",
        None,
        "run ser_fetch_weights with this config, copy the folder that it writes here "
        "and pass it with --upstream FOLDER",
    )
    tensors = {
        name.removeprefix("model."): tensor
        for name, tensor in model.state_dict().items()
    }
    architecture, weights = convert.from_torchaudio(
        bundle._params, tensors, f"torchaudio bundle {upstream.name}"
    )
    return Checkpoint(architecture, weights, bundle._normalize_waveform)


def _or_explain[T](
    load: Callable[[], T], what: str, path: str | None, advice: str
) -> T:
    """Run a third party's loader; say what to do where it could not get the weights.

    `path` is the user's own file that it reads, if there is one.
    """
    try:
        return load()
    except Exception as error:  # their errors share no base class
        if path is not None:
            raise unreadable(Path(path), error) from error
        raise UserError(
            f"{what} could not be loaded ({_first_line(error)}). If its weights are "
            f"missing: on a machine with a network, {advice}"
        ) from error


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
