"""Extract the features of a data directory into a store.

Utterances are computed from the longest to the shortest of the corpus, in batches of
similar and bounded lengths whatever the size of a shard, so that memory does not grow
with the corpus.
"""

import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from espnet_ext.corpora.audio import measure_seconds
from espnet_ext.corpora.datadir import read_data_dir
from espnet_ext.corpora.labels import load_class_map
from espnet_ext.errors import UserError
from espnet_ext.features.config import FeatureConfig, resolve_layers
from espnet_ext.features.store import FeatureStore, write_shape_file
from espnet_ext.features.store_files import INDEX_NAME, Audio, ShardWriter
from espnet_ext.features.store_writer import (
    Claimed,
    StoreWriter,
    bytes_per_second,
    read_description,
)
from espnet_ext.features.waveform_batches import (
    RATE,
    Loaded,
    Recording,
    digest_file,
    group_batches,
    read_ahead,
    size_and_time,
)
from espnet_ext.utils.atomic import atomic_write_text

if TYPE_CHECKING:
    import torch

    from espnet_ext.features.upstream import Upstream

# Weights folders are recognized by their files' sizes and times before they are read.
_WEIGHT_SUFFIXES = (".json", ".safetensors", ".bin", ".pt")


@dataclass(frozen=True)
class Resources:
    """What the extraction may use.

    Attributes:
        device: ``cpu`` or ``cuda``.
        batch_seconds: Speech computed at once; with the longest utterance it bounds
            the memory. None leaves it to the device.
        shard_mb: Bound on a shard's size, and with `shard_seconds` on what a kill can
            cost.
        shard_seconds: Bound on the speech that a process takes to itself at a time,
            in one shard or several.
    """

    device: str = "cpu"
    batch_seconds: float | None = None
    shard_mb: float = 512.0
    shard_seconds: float = 1800.0

    @property
    def seconds_at_once(self) -> float:
        """Speech computed at once: enough for large products, not more."""
        if self.batch_seconds is not None:
            return self.batch_seconds
        return 60.0 if self.device == "cpu" else 240.0


def find_recordings(data_dir: Path, labels: Path | None = None) -> dict[str, Recording]:
    """Find the recordings of a data directory, by utterance.

    Args:
        data_dir: Where durations are missing, files' headers are read.
        labels: Class map: only utterances that have a class in it.

    Raises:
        UserError: The class map keeps none.
    """
    data = read_data_dir(data_dir)
    utterances, seconds = data.utterances, data.durations
    if labels is not None:
        class_map = load_class_map(labels)
        utterances = {u: x for u, x in utterances.items() if class_map.keeps(x)}
        if not utterances:
            raise UserError(f"{labels}: keeps no utterance of {data_dir}")
    if not seconds:
        seconds = {u: _seconds_or_zero(x.wav) for u, x in utterances.items()}
    return {u: Recording(x.wav, seconds[u]) for u, x in utterances.items()}


def _seconds_or_zero(path: str) -> float:
    try:
        return measure_seconds(path)
    except UserError:
        return 0.0  # named when its turn comes


def is_finished(
    output: Path,
    config: FeatureConfig,
    recordings: Mapping[str, Recording],
    on_bad_audio: str = "error",
) -> bool:
    """Say, without loading the upstream, whether the store holds all this already.

    With `on_bad_audio` ``skip`` it need not hold what it found unusable before.

    Raises:
        UserError: It does, but made from other audio.
    """
    if not (output / INDEX_NAME).is_file():
        return False
    description = read_description(output)
    if description is None or description.get("request") != _request_of(config):
        return False
    store = FeatureStore(output)
    known = {*store.ids, *(store.unusable if on_bad_audio == "skip" else ())}
    if not recordings.keys() <= known or not store.is_whole():
        return False
    held = {u: store.audio(u) for u in recordings if u in store}
    _refuse_other_audio(output, held, recordings)
    return True


def _request_of(config: FeatureConfig) -> dict[str, Any]:
    """Describe a request by what can be seen without loading the weights."""
    files = []
    for name in (config.upstream.name, config.upstream.path):
        path = Path(name).expanduser() if name else None
        if path is not None and path.is_file():
            files.append(_stamp(path))
        elif path is not None and path.is_dir():
            files += [
                _stamp(file)
                for file in sorted(path.iterdir())
                if file.suffix in _WEIGHT_SUFFIXES
            ]
    return {"config": config.as_dict(), "files": files}


def extract(
    recordings: Mapping[str, Recording],
    config: FeatureConfig,
    output: Path,
    resources: Resources,
    on_bad_audio: str = "error",
) -> FeatureStore:
    """Fill a store with the features of `recordings`, and open it.

    What the store holds already is not computed again; other processes may fill the
    same store at the same time.

    Args:
        recordings: Utterance id -> file.
        config: What to extract.
        output: Folder of the store.
        resources: What may be used.
        on_bad_audio: ``error`` computes all others and then fails, ``skip`` leaves
            unusable recordings out and says so.

    Raises:
        UserError: No space, no weights, a store of something else, or unusable audio.
    """
    from espnet_ext.features.upstream import load_upstream

    upstream = load_upstream(config)
    writer = StoreWriter(output, _describe(config, upstream))
    held, unusable = writer.present()
    _refuse_other_audio(
        output, {u: a for u, a in held.items() if u in recordings}, recordings
    )
    wanted = {u: r for u, r in recordings.items() if u not in held}
    if on_bad_audio == "skip":
        wanted = {u: r for u, r in wanted.items() if u not in unusable}
    if wanted:
        seconds = sum(r.seconds for r in wanted.values())
        print(_check_space(output, writer.description, seconds), file=sys.stderr)
    writer.plan(
        {u: r.seconds for u, r in wanted.items()},
        int(resources.shard_mb * 1e6),
        resources.shard_seconds,
    )
    _fill(writer, recordings, upstream, resources)
    held, unusable = writer.present()
    unusable = {u: unusable[u] for u in sorted(unusable) if u in recordings}
    _report_unusable(output, unusable, on_bad_audio)
    writer.finish()
    store = FeatureStore(output)
    write_shape_file(store, store.ids, output / "speech_shape")
    return store


def _describe(config: FeatureConfig, upstream: "Upstream") -> dict[str, Any]:
    """Describe what a store of this upstream holds, and where it comes from."""
    import torch

    return {
        "weights": upstream.weights,
        "layers": list(resolve_layers(config.layers, upstream.num_states)),
        "num_states": upstream.num_states,
        "dim": upstream.dim,
        "dtype": config.dtype,
        "compute": config.compute,
        "normalize": upstream.normalize,
        "request": _request_of(config),
        "versions": {"torch": torch.__version__, "numpy": np.__version__},
    }


def _check_space(output: Path, description: Mapping[str, Any], seconds: float) -> str:
    """Compare the need with the free space, and put both into a line.

    Raises:
        UserError: It does not fit.
    """
    folder = output.absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    need = bytes_per_second(description) * seconds

    def other(**changes: Any) -> str:
        return _size(bytes_per_second({**description, **changes}) * seconds)

    text = (
        f"{seconds / 3600:.2f} h of speech need {_size(need)} in {output}, where "
        f"{_size(free)} are free (the last layer alone: {other(layers=[0])}; "
        f"all in int8: {other(dtype='int8')})"
    )
    if need > free:
        raise UserError(
            f"{text}. Choose another disk for --output, or 'layers: last' or 'dtype: "
            "int8' in the feature config"
        )
    return text


def _refuse_other_audio(
    output: Path, held: Mapping[str, Audio], recordings: Mapping[str, Recording]
) -> None:
    """Compare the files with those that the features were made from.

    Size and time are compared first; the content only where they differ.

    Raises:
        UserError: A file has another content, or is missing.
    """
    for utterance, audio in held.items():
        path = recordings[utterance].path
        try:
            size, time = size_and_time(path)
        except OSError as error:
            raise UserError(
                f"utterance {utterance}: {path}: {error.strerror}; put the recording "
                "back, or prepare the data directory again"
            ) from None
        if (size, time) == (audio.size, audio.mtime):
            continue
        if size != audio.size or digest_file(path) != audio.digest:
            raise UserError(
                f"{output}: the features of {utterance} were made from another "
                f"recording than {path} is now. Choose another folder for --output, "
                "or remove this one"
            )


@dataclass(frozen=True)
class _Result:
    """What a shard is to hold of an utterance, or the reason why it cannot be used."""

    utterance: str
    audio: Audio | None = None
    states: "torch.Tensor | None" = None  # (L, T, D)
    fault: str = ""


def _fill(
    store: StoreWriter,
    recordings: Mapping[str, Recording],
    upstream: "Upstream",
    resources: Resources,
) -> None:
    """Compute the shards that fall to this process."""
    upstream = upstream.to(resources.device)
    bar: tqdm | None = None
    speech = 0.0
    with ThreadPoolExecutor(2) as pool:
        for shards in store.claim(recordings.keys()):
            if bar is None:  # loading is over: the clock of the progress starts here
                bar = _make_progress_bar(store, recordings)
            results = _compute_block(
                shards, recordings, upstream, store.description, resources, pool
            )
            for ids, writer in shards:
                if writer is None:
                    continue
                with writer:
                    for u in ids:
                        if u not in recordings:
                            writer.refuse(u, "planned with another data directory")
                            continue
                        seconds = _write(u, results, writer)
                        speech += seconds
                        elapsed = max(bar.format_dict["elapsed"], 1e-3)
                        text = f"{speech / elapsed:.1f} x real time"
                        bar.set_postfix_str(text, refresh=False)
                        # Rounded durations: never go beyond the whole.
                        bar.update(min(seconds / 3600, bar.total - bar.n))
    if bar is not None:
        bar.close()


def _make_progress_bar(store: StoreWriter, recordings: Mapping[str, Recording]) -> tqdm:
    """Hours of speech done, speed relative to real time, and time left."""
    hours = sum(r.seconds for r in recordings.values()) / 3600
    held = [u for u in store.present()[0] if u in recordings]
    return tqdm(
        total=hours,
        initial=min(sum(recordings[u].seconds for u in held) / 3600, hours),
        desc=f"features to {store.path}",
        unit="h",
        bar_format=(
            "{desc}: {percentage:3.0f}%|{bar}| {n:.2f}/{total:.2f} h of speech "
            "[{elapsed}<{remaining}{postfix}]"
        ),
    )


def _compute_block(
    shards: Sequence[Claimed],
    recordings: Mapping[str, Recording],
    upstream: "Upstream",
    description: Mapping[str, Any],
    resources: Resources,
    pool: ThreadPoolExecutor,
) -> Iterator[_Result]:
    """Compute what the shards lack, in their order.

    Batches go across the shards and are those of the whole block whatever of it is
    there already, so that an interruption changes no byte. Utterances of a finished
    shard come along where they share a batch with others.
    """
    ids = [u for names, _ in shards for u in names if u in recordings]
    lacking = {u for names, writer in shards if writer is not None for u in names}
    groups = group_batches(ids, recordings, resources.seconds_at_once)
    wanted = [group for group in groups if not lacking.isdisjoint(group)]
    for batch in read_ahead(wanted, recordings, pool):
        yield from _compute(batch, upstream, description, resources.device)


def _compute(
    batch: Sequence[Loaded],
    upstream: "Upstream",
    description: Mapping[str, Any],
    device: str,
) -> Iterator[_Result]:
    """Compute a batch; results come in its order."""
    import torch

    from espnet_ext.features.precision import storage_dtype

    waves: dict[str, torch.Tensor] = {}
    faults: dict[str, str] = {}
    for item in batch:
        if item.wave is None:
            faults[item.utterance] = item.fault
        elif len(item.wave) < upstream.min_samples:
            faults[item.utterance] = (
                f"{len(item.wave)} samples at 16 kHz; the upstream needs "
                f"{upstream.min_samples}"
            )
        else:
            waves[item.utterance] = torch.from_numpy(item.wave).to(device)
    results: dict[str, torch.Tensor] = {}
    if waves:
        dtype = storage_dtype(description["dtype"])
        states = upstream.extract(list(waves.values()), description["layers"], dtype)
        results = dict(zip(waves, states, strict=True))
    for item in batch:
        fault = faults.get(item.utterance, "")
        yield _Result(item.utterance, item.audio, results.get(item.utterance), fault)


def _write(utterance: str, results: Iterator[_Result], writer: ShardWriter) -> float:
    """Add an utterance to its shard, or note why not; return its seconds.

    Results before the utterance's are of shards that are there. None is kept: each
    would keep its whole batch in memory while the next one is computed.
    """
    result = next(result for result in results if result.utterance == utterance)
    if result.states is None:
        writer.refuse(utterance, result.fault)
        return 0.0
    from espnet_ext.features.precision import quantize, reads_finite

    assert result.audio is not None
    dtype = writer.dtype.name
    states, scale = result.states, None
    if dtype == "int8":
        states, scale = quantize(states)
    if reads_finite(states, scale):
        step = None if scale is None else scale.cpu().numpy()
        writer.add(utterance, states.cpu().numpy(), step, result.audio)
    else:
        held = "int8, which is read as float16," if dtype == "int8" else dtype
        writer.refuse(
            utterance,
            f"its features do not fit into {held} (beyond the range, or no numbers); "
            "try dtype: float32",
        )
    return result.audio.samples / RATE


def _report_unusable(
    output: Path, unusable: Mapping[str, str], on_bad_audio: str
) -> None:
    """List the recordings that could not be used; fail if `on_bad_audio` says so."""
    path = output / "unusable.txt"
    if not unusable:
        path.unlink(missing_ok=True)
        return
    atomic_write_text(path, "".join(f"{u} {why}\n" for u, why in unusable.items()))
    first = "\n".join(f"  {u}: {why}" for u, why in list(unusable.items())[:5])
    text = (
        f"{len(unusable)} recordings cannot be used (all of them in {path}):\n{first}"
    )
    if on_bad_audio == "error":
        raise UserError(
            f"{text}\nAll others are done and kept. Repair these files or take the "
            "utterances out of the data directory and run again, or pass "
            "--on_bad_audio skip to go on without them"
        )
    print(f"warning: {text}", file=sys.stderr)


def _stamp(path: Path) -> list[Any]:
    status = path.stat()
    return [path.name, status.st_size, status.st_mtime_ns]


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
