"""Extract the features of a data directory into a store.

Utterances are computed from the longest to the shortest of the corpus, in batches of
similar and bounded lengths whatever the size of a shard, so that memory does not grow
with the corpus.
"""

import hashlib
import os
import shutil
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np
from tqdm import tqdm

from espnet_ext.corpora.audio import RATE, load_waveform, measure_seconds
from espnet_ext.corpora.datadir import read_data_dir
from espnet_ext.corpora.labels import load_class_map
from espnet_ext.corpora.pieces import part_piece
from espnet_ext.errors import UserError
from espnet_ext.features.config import FeatureConfig, resolve_layers
from espnet_ext.features.store import FeatureStore, write_shape_file
from espnet_ext.features.store_files import INDEX_NAME, Audio, ShardWriter
from espnet_ext.features.store_writer import (
    Claimed,
    StoreWriter,
    pack,
    read_description,
)
from espnet_ext.utils.atomic import atomic_write_text

if TYPE_CHECKING:
    import torch

    from espnet_ext.features.upstream import Upstream

# Weights folders are recognized by their files' sizes and times before they are read.
_WEIGHT_SUFFIXES = (".json", ".safetensors", ".bin", ".pt")
_PROGRESS = (
    "{desc}: {percentage:3.0f}%|{bar}| {n:.2f}/{total:.2f} h of speech "
    "[{elapsed}<{remaining}{postfix}]"
)


@dataclass(frozen=True)
class Recording:
    """An utterance's file and its duration in seconds (0 if not known)."""

    path: str
    seconds: float


@dataclass(frozen=True)
class Loaded:
    """A waveform (n,) and its file, or the reason why it cannot be used."""

    utterance: str
    wave: np.ndarray | None = None
    audio: Audio | None = None
    fault: str = ""


@dataclass(frozen=True)
class Resources:
    """What the extraction may use; see the options of ``ser_extract``."""

    device: str = "cpu"  # or "cuda"
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

    Where durations are missing, files' headers are read. With a class map only
    utterances that have a class in it; a UserError says that there are none.
    """
    data = read_data_dir(data_dir)
    utterances, seconds = data.utterances, data.durations
    if labels is not None:
        class_map = load_class_map(labels)
        utterances = {u: x for u, x in utterances.items() if class_map.keeps(x)}
        if not utterances:
            raise UserError(f"{labels}: keeps no utterance of {data_dir}")
    if seconds:
        return {u: Recording(x.wav, seconds[u]) for u, x in utterances.items()}
    recordings = {}
    for utterance, record in utterances.items():
        recordings[utterance] = Recording(record.wav, 0.0)
        with suppress(UserError):  # named when its turn comes
            recordings[utterance] = Recording(record.wav, measure_seconds(record.wav))
    return recordings


def is_finished(
    output: Path,
    config: FeatureConfig,
    recordings: Mapping[str, Recording],
    on_bad_audio: str = "error",
) -> bool:
    """Say, without loading the upstream, whether the store holds all this already.

    With `on_bad_audio` ``skip`` it need not hold what it found unusable before. A
    UserError says that it was made from other audio.
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
    for name in filter(None, (config.upstream.name, config.upstream.path)):
        path = Path(name).expanduser()
        if path.is_file():
            files.append(path)
        elif path.is_dir():
            files += [x for x in sorted(path.iterdir()) if x.suffix in _WEIGHT_SUFFIXES]
    stamps = [[x.name, x.stat().st_size, x.stat().st_mtime_ns] for x in files]
    return {"config": config.as_dict(), "files": stamps}


def extract(
    recordings: Mapping[str, Recording],
    config: FeatureConfig,
    output: Path,
    resources: Resources,
    on_bad_audio: str = "error",
) -> FeatureStore:
    """Fill a store with the features of `recordings` (by utterance), and open it.

    What the store holds already is not computed again; other processes may fill the
    same store at the same time. With `on_bad_audio` ``error`` all others are computed
    before it fails, ``skip`` leaves unusable recordings out and says so.

    Raises:
        UserError: No space, no weights, a store of something else, or unusable audio.
    """
    from espnet_ext.features.upstream import load_upstream

    upstream = load_upstream(config)
    writer = StoreWriter(output, _describe(config, upstream))
    held, unusable = writer.present()
    _refuse_other_audio(output, held, recordings)
    done = {*held, *(unusable if on_bad_audio == "skip" else ())}
    wanted = {u: r.seconds for u, r in recordings.items() if u not in done}
    seconds, shift = sum(wanted.values()), upstream.frame_shift
    if wanted:
        print(_check_space(output, writer.description, seconds, shift), file=sys.stderr)
    rate = _bytes_per_second(writer.description, shift)
    shard_seconds = int(resources.shard_mb * 1e6) / rate
    writer.plan(wanted, shard_seconds, resources.shard_seconds)
    upstream = upstream.to(resources.device)
    _Extraction(writer, recordings, upstream, resources).fill()
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


def _bytes_per_second(description: Mapping[str, Any], frame_shift: int) -> float:
    width = np.dtype(description["dtype"]).itemsize
    return RATE / frame_shift * len(description["layers"]) * description["dim"] * width


def _check_space(
    output: Path, description: Mapping[str, Any], seconds: float, frame_shift: int
) -> str:
    """Compare the need of so much speech with the free space; put both into a line."""
    folder = output.absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    need, last, int8 = (
        _bytes_per_second({**description, **changes}, frame_shift) * seconds
        for changes in ({}, {"layers": [0]}, {"dtype": "int8"})
    )
    text = (
        f"{seconds / 3600:.2f} h of speech need {_size(need)} in {output}, where "
        f"{_size(free)} are free (the last layer alone: {_size(last)}; "
        f"all in int8: {_size(int8)})"
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
    """
    for utterance, audio in held.items():
        if utterance not in recordings:
            continue
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


# A recording, and its states (L, T, D) unless it cannot be used.
_Result = tuple[Loaded, "torch.Tensor | None"]


@dataclass(frozen=True)
class _Extraction:
    """Computes the shards that fall to this process."""

    store: StoreWriter
    recordings: Mapping[str, Recording]
    upstream: "Upstream"
    resources: Resources

    def fill(self) -> None:
        """Compute until nothing is left."""
        bar: tqdm | None = None
        speech = 0.0
        with ThreadPoolExecutor(2) as pool:
            for shards in self.store.claim(self.recordings.keys()):
                if bar is None:  # loading is over: its clock starts here
                    bar = self._progress_bar()
                results = self._compute_block(shards, pool)
                for ids, writer in shards:
                    if writer is None:
                        continue
                    with writer:
                        for u in ids:
                            if u not in self.recordings:
                                writer.refuse(u, "planned with another data directory")
                                continue
                            seconds = self._write(u, results, writer)
                            speech += seconds
                            elapsed = max(bar.format_dict["elapsed"], 1e-3)
                            text = f"{speech / elapsed:.1f} x real time"
                            bar.set_postfix_str(text, refresh=False)
                            # Rounded durations: never go beyond the whole.
                            bar.update(min(seconds / 3600, bar.total - bar.n))
        if bar is not None:
            bar.close()

    def _progress_bar(self) -> tqdm:
        held = self.store.present()[0].keys() & self.recordings.keys()
        hours = sum(r.seconds for r in self.recordings.values()) / 3600
        begin = min(sum(self.recordings[u].seconds for u in held) / 3600, hours)
        title = f"features to {self.store.path}"
        return tqdm(desc=title, total=hours, initial=begin, bar_format=_PROGRESS)

    def _compute_block(
        self, shards: Sequence[Claimed], pool: ThreadPoolExecutor
    ) -> Iterator[_Result]:
        """Compute what the shards lack, in their order, and read one batch ahead.

        Batches go across the shards and are those of the whole block whatever of it is
        there already, so that an interruption changes no byte. Utterances of a finished
        shard come along where they share a batch with others.
        """
        known = self.recordings
        seconds = {u: known[u].seconds for ids, _ in shards for u in ids if u in known}
        lacking = {u for ids, writer in shards if writer is not None for u in ids}
        groups = pack(seconds, self.resources.seconds_at_once)
        waiting: deque[list[Future[Loaded]]] = deque()
        for group in groups:
            if lacking.isdisjoint(group):
                continue
            waiting.append([pool.submit(_load, u, known[u].path) for u in group])
            if len(waiting) > 1:
                yield from self._compute(waiting.popleft())
        while waiting:
            yield from self._compute(waiting.popleft())

    def _compute(self, batch: Sequence[Future[Loaded]]) -> Iterator[_Result]:
        """Compute a batch; results come in its order."""
        import torch

        from espnet_ext.features.precision import storage_dtype

        items = [future.result() for future in batch]
        waves = {
            item.utterance: torch.from_numpy(item.wave).to(self.resources.device)
            for item in items
            if item.wave is not None and len(item.wave) >= self.upstream.min_samples
        }
        states: list[torch.Tensor] = []
        if waves:
            layers = self.store.description["layers"]
            dtype = storage_dtype(self.store.description["dtype"])
            states = self.upstream.extract(list(waves.values()), layers, dtype)
        results = dict(zip(waves, states, strict=True))
        for item in items:
            yield item, results.get(item.utterance)

    def _write(
        self, utterance: str, results: Iterator[_Result], writer: ShardWriter
    ) -> float:
        """Add an utterance to its shard, or note why not; return its seconds.

        Results before the utterance's are of shards that are there. None is kept: each
        would keep its whole batch in memory while the next one is computed.
        """
        from espnet_ext.features.precision import quantize, reads_finite

        item, states = next(x for x in results if x[0].utterance == utterance)
        if item.wave is None or item.audio is None:
            writer.refuse(utterance, item.fault)
            return 0.0
        if states is None:
            there, least = len(item.wave), self.upstream.min_samples
            text = f"{there} samples at 16 kHz; the upstream needs {least}"
            writer.refuse(utterance, text)
            return 0.0
        scale, held = None, writer.dtype.name
        if held == "int8":
            states, scale = quantize(states)
            held = "int8, which is read as float16,"
        if reads_finite(states, scale):
            step = None if scale is None else scale.cpu().numpy()
            writer.add(utterance, states.cpu().numpy(), step, item.audio)
        else:
            writer.refuse(
                utterance,
                f"its features do not fit into {held} (beyond the range, or no "
                "numbers); try dtype: float32",
            )
        return item.audio.samples / RATE


def digest_file(path: str) -> str:
    """BLAKE2b of a file's bytes (and of which piece of it), as `Audio` holds it."""
    recording = part_piece(path)[0]
    with open(recording, "rb") as stream:
        total = hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16))
    total.update(path[len(recording) :].encode())
    return total.hexdigest()


def size_and_time(path: str) -> tuple[int, int]:
    """Return a file's size and time, as `Audio` holds them.

    Another piece of the same file has another time, so that its digest is compared.
    """
    recording = part_piece(path)[0]
    status = os.stat(recording)
    return status.st_size, status.st_mtime_ns + crc32(path[len(recording) :].encode())


def _load(utterance: str, path: str) -> Loaded:
    try:
        wave = load_waveform(path, RATE)
        audio = Audio(len(wave), *size_and_time(path), digest_file(path))
    except UserError as error:
        return Loaded(utterance, fault=str(error))
    except OSError as error:
        return Loaded(utterance, fault=f"{path}: {error.strerror}")
    return Loaded(utterance, wave, audio)


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


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
