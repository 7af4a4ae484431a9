"""Load a frozen upstream by name, from any of its sources.

HuBERT, wav2vec 2.0 and WavLM weights of any source run on the exact path of
`packed_encoder`; every other upstream of s3prl runs through s3prl itself, one utterance
at a time, since only that is sure not to depend on batch mates.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from espnet_ext.corpora.audio import RATE
from espnet_ext.errors import UserError
from espnet_ext.features import egemaps
from espnet_ext.features.architecture import Architecture, measure_frame_shift
from espnet_ext.features.canonical_weights import (
    Checkpoint,
    from_fairseq,
    from_torchaudio,
    weights_hash,
)
from espnet_ext.features.config import FeatureConfig, UpstreamConfig
from espnet_ext.features.functionals import FunctionalsUpstream
from espnet_ext.features.huggingface import first_line, load_folder_or_name, unreadable
from espnet_ext.features.mfcc import MfccUpstream, OneAtATime
from espnet_ext.features.packed_encoder import PackedEncoder

# Of linear layers and attention, and of the extractor's convolutions.
PRECISIONS = {
    "float32": (torch.float32, torch.float32),
    "bfloat16": (torch.bfloat16, torch.float32),
    "bfloat16_all": (torch.bfloat16, torch.bfloat16),
}
# s3prl's models that run on the exact path, and where each keeps whether it normalizes.
_S3PRL_FAMILIES = {
    "s3prl.upstream.hubert.hubert_model.HubertModel": "task_cfg.normalize",
    "s3prl.upstream.wav2vec2.wav2vec2_model.Wav2Vec2Model": "wav_normalize",
    "s3prl.upstream.wavlm.WavLM.WavLM": "cfg.normalize",
}


class ExactUpstream:
    """HuBERT, wav2vec 2.0 or WavLM on the exact path."""

    def __init__(
        self,
        architecture: Architecture,
        weights: Mapping[str, Tensor],
        normalize: bool,
        compute: str,
    ) -> None:
        precisions = PRECISIONS[compute]
        self.model = PackedEncoder(architecture, weights, normalize, *precisions)
        self.architecture = architecture
        self.num_states = (
            architecture.num_hidden_layers + 1
        )  # the encoder's input, and each layer
        self.dim = architecture.hidden_size
        self.min_samples = architecture.samples_of(1)  # that give a frame
        self.frame_shift = architecture.stride  # samples from a frame to the next
        self.weights = weights_hash(weights)
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
        """Compute the hidden states of these numbers, (L, T, D) for each waveform.

        Waveforms are (n,), fp32, 16 kHz, on the upstream's device; `dtype` is that of
        the result.
        """
        lengths = [self.architecture.num_frames(len(wave)) for wave in waves]
        shape = (len(layers), sum(lengths), self.dim)
        out = waves[0].new_empty(shape, dtype=dtype)  # (L, N, D)
        for number, state in enumerate(self.model.states(waves, max(layers))):
            if number in layers:
                out[layers.index(number)] = state
        return list(out.split(lengths, dim=1))


class S3prlUpstream(OneAtATime):
    """What ``s3prl.hub`` makes.

    The frames are those that the upstream itself gives, before s3prl's wrapper cuts or
    repeats some to reach a round number; s3prl decides whether to normalize.
    """

    min_samples = 800  # s3prl pads shorter ones; what it then gives is padding

    def __init__(self, expert: torch.nn.Module, name: str) -> None:
        self.expert = expert.eval().requires_grad_(False)
        with torch.no_grad():
            states = self.states(torch.linspace(-0.1, 0.1, RATE))
        self.num_states = len(states)
        if len({state.shape for state in states}) != 1:
            raise UserError(
                f"s3prl upstream {name}: its hidden states differ in size "
                f"({', '.join(str(tuple(s.shape)) for s in states)}); choose another"
            )
        frames, self.dim = states[0].shape
        self.frame_shift = measure_frame_shift(RATE, frames)
        self.weights = weights_hash(expert.state_dict())

    def to(self, device: torch.device | str) -> "S3prlUpstream":
        """Move to a device and return self."""
        self.expert.to(device)
        return self

    def states(self, wave: Tensor) -> list[Tensor]:
        """Compute all hidden states (T, D) of a waveform (n,)."""
        return [state[0] for state in self.expert([wave])["hidden_states"]]


Upstream = ExactUpstream | OneAtATime
# Upstreams without weights, by source and name.
_WITHOUT_WEIGHTS: dict[str, dict[str, type[OneAtATime]]] = {
    "kaldi": {"mfcc": MfccUpstream, "functionals": FunctionalsUpstream},
    "opensmile": {egemaps.NAME: egemaps.OpenSmileUpstream},
}


def load_upstream(config: FeatureConfig) -> Upstream:
    """Load an upstream from its source's own cache, or over the network.

    Raises:
        UserError: The weights are not at hand, or not of a kind that can be used.
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


def load_checkpoint(upstream: UpstreamConfig) -> Checkpoint | OneAtATime:
    """Load weights by source and name; a Hugging Face folder goes with any source."""
    source, name = upstream.source, upstream.name
    is_folder = (Path(name).expanduser() / "config.json").is_file()
    if source == "huggingface" or is_folder or "/" in name:
        return load_folder_or_name(name)  # no other source has names with a slash
    if source in _WITHOUT_WEIGHTS:
        known = _WITHOUT_WEIGHTS[source]
        if name not in known:
            names = ", ".join(known)
            raise UserError(f"{source} has no upstream {name!r}; it has {names}")
        return known[name]()
    return _load_torchaudio(name) if source == "torchaudio" else _load_s3prl(upstream)


def _load_torchaudio(name: str) -> Checkpoint:
    """Load one of ``torchaudio.pipelines``' bundles."""
    from torchaudio import pipelines

    kind, where = pipelines.Wav2Vec2Bundle, f"torchaudio bundle {name!r}"
    bundles = {n: x for n, x in vars(pipelines).items() if isinstance(x, kind)}
    if name not in bundles:
        raise UserError(
            f"torchaudio.pipelines has no upstream {name!r}; it has "
            f"{', '.join(bundles)}"
        )
    bundle = bundles[name]
    try:
        tensors = bundle.get_model().state_dict()
    except Exception as error:  # its errors share no base class
        raise _not_loaded(where, error) from error
    bare = {key.removeprefix("model."): x for key, x in tensors.items()}
    found = from_torchaudio(bundle._params, bare, where)
    return Checkpoint(*found, bundle._normalize_waveform)


def _not_loaded(what: str, error: Exception, otherwise: str = "") -> UserError:
    return UserError(
        f"{what} could not be loaded ({first_line(error)}). If its weights are "
        "missing: on a machine with a network, run ser_fetch_weights with this config, "
        "copy the folder that it writes here and pass it with --upstream FOLDER"
        + otherwise
    )


def _load_s3prl(upstream: UpstreamConfig) -> Checkpoint | S3prlUpstream:
    """Load by s3prl's name; the known families are taken out of its wrapper."""
    name, path = upstream.name, upstream.path
    make = _find_s3prl_upstream(name)
    if path is not None and not Path(path).is_file():
        raise UserError(f"upstream.path {path}: no such file")
    try:
        expert = make() if path is None else make(ckpt=path)
    except Exception as error:  # its errors share no base class
        if path is not None:
            raise unreadable(Path(path), error) from error
        local = (
            "; or download the checkpoint and name it as upstream.path, with the "
            "matching *_local name as upstream.name"
        )
        raise _not_loaded(f"s3prl upstream {name!r}", error, local) from error
    model = type(getattr(expert, "model", None))
    flag = _S3PRL_FAMILIES.get(f"{model.__module__}.{model.__name__}")
    if flag is not None:
        found = from_fairseq(expert.model, f"s3prl upstream {name}")
        if found is not None:
            return Checkpoint(*found, bool(attrgetter(flag)(expert)))
    return S3prlUpstream(expert, name)


def _find_s3prl_upstream(name: str) -> Callable[..., Any]:
    """Find what makes an upstream of that name."""
    try:  # in three modules first: importing all of s3prl.hub takes half a minute
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
