"""Fill a feature store: plan shards, share them among processes, write the index.

Any number of processes, on one node or several, may fill one store. The plan says which
utterances go into which shard, longest first, and which shards make a block; whoever
holds the lock of a block computes its shards, and the operating system frees the lock
when that process dies. A shard that exists is complete.
"""

import errno
import fcntl
import json
import time
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from espnet_ext.errors import UserError
from espnet_ext.features.store_files import (
    FORMAT,
    IDENTITY,
    INDEX_NAME,
    PLAN_NAME,
    SHARDS_NAME,
    STORE_NAME,
    Audio,
    ShardWriter,
    read_shard,
    shard_path,
    write_arrays,
)
from espnet_ext.utils.atomic import atomic_write_text

# What else may lie in the folder: reports for people and other tools. Dot files are
# locks and what a killed job left behind.
KNOWN = {STORE_NAME, PLAN_NAME, INDEX_NAME, SHARDS_NAME, "unusable.txt", "speech_shape"}
_POLL_SECONDS = 0.5
# A shard's utterances, and its writer unless it is complete or not wanted.
Claimed = tuple[Sequence[str], ShardWriter | None]


def read_description(path: Path) -> dict[str, Any] | None:
    """Read what the store at `path` holds, or None if there is none yet."""
    try:
        return json.loads((path / STORE_NAME).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        text = f"{path / STORE_NAME}: damaged; remove the folder and extract again"
        raise UserError(text) from None


class StoreWriter:
    """A store that is being filled; its folder is made if it is not there.

    The description has the keys of `store_files.IDENTITY` and any others.

    Raises:
        UserError: The folder holds a store of something else, or no store at all.
    """

    def __init__(self, path: Path | str, description: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self.description = {"format": FORMAT, **description}
        self.shards = self.path / SHARDS_NAME
        for item in self.path.iterdir() if self.path.is_dir() else ():
            if item.name not in KNOWN and not item.name.startswith("."):
                raise UserError(
                    f"{self.path}: holds {item.name}, which is not of a feature store; "
                    "choose another folder for --output"
                )
        self.shards.mkdir(parents=True, exist_ok=True)
        with _locked(self.path / ".lock"):
            held = read_description(self.path)
            if held is None:
                text = json.dumps(self.description, indent=2)
                atomic_write_text(self.path / STORE_NAME, text)
                return
        for key in ("format", *IDENTITY):  # never mix what was made differently
            if held.get(key) != self.description.get(key):
                raise UserError(
                    f"{self.path}: this store was made with {key} "
                    f"{_short(held.get(key))} and you ask for "
                    f"{_short(self.description.get(key))}. Choose another folder for "
                    "--output, or remove this one"
                )
        self.description = held

    def present(self) -> tuple[dict[str, Audio], dict[str, str]]:
        """What complete shards hold: audio by utterance, and reasons of refusal."""
        audio: dict[str, Audio] = {}
        unusable: dict[str, str] = {}
        for path in self._complete().values():
            entries, refused = read_shard(path)
            audio |= {utterance: entry.audio for utterance, entry in entries.items()}
            unusable |= refused
        return audio, {utt: why for utt, why in unusable.items() if utt not in audio}

    def plan(
        self, seconds: Mapping[str, float], shard_seconds: float, block_seconds: float
    ) -> None:
        """Add shards for utterances that no complete or planned shard will hold.

        Neighbors in the plan have similar lengths: from the longest to the shortest.
        A shard and a block of them have at most so many seconds of speech.
        """
        with _locked(self.path / ".lock"):
            blocks = self._planned()
            complete = self._complete()
            covered = set(self.present()[0])
            planned = [ids for block in blocks for ids in block]
            for number, ids in enumerate(planned):
                if number not in complete:
                    covered.update(ids)
            # Where the plan was lost: no number twice.
            blocks += [[[]] for _ in range(len(planned), max(complete, default=-1) + 1)]
            missing = {u: s for u, s in seconds.items() if u not in covered}
            ordered = dict(sorted(missing.items(), key=lambda x: (-x[1], x[0])))
            for ids in pack(ordered, block_seconds):
                chosen = {utterance: ordered[utterance] for utterance in ids}
                blocks.append(pack(chosen, shard_seconds))
            text = json.dumps({"blocks": blocks}, indent=0)
            atomic_write_text(self.path / PLAN_NAME, text)

    def claim(self, wanted: Set[str]) -> Iterator[list[Claimed]]:
        """Give blocks of shards until all are complete, whoever computes them.

        Where only blocks are left that other processes hold, it waits: a process that
        dies leaves its block to the others. Shards without any of the `wanted`
        utterances are left to other runs.

        Yields:
            The shards of a block, in order. Where there is a writer, the utterances
            must be added or refused inside of its ``with`` block.
        """
        while True:
            left = held = first = 0
            for block in self._planned():
                shards = dict(enumerate(block, first))
                lock = self.shards / f".claim-{first:05d}"
                first += len(block)
                if not self._lacking(shards, wanted):
                    continue
                left += 1
                with _locked(lock, wait=False) as mine:
                    held += not mine
                    lacking = self._lacking(shards, wanted) if mine else ()
                    if lacking:
                        yield [
                            (ids, self._writer(n, ids) if n in lacking else None)
                            for n, ids in shards.items()
                        ]
            if left == 0:
                return
            if held:
                time.sleep(_POLL_SECONDS)

    def _lacking(
        self, shards: Mapping[int, Sequence[str]], wanted: Set[str]
    ) -> list[int]:
        """Numbers of the shards that are wanted and not there."""
        return [
            n
            for n, ids in shards.items()
            if not wanted.isdisjoint(ids) and not shard_path(self.path, n).exists()
        ]

    def _writer(self, number: int, ids: Sequence[str]) -> ShardWriter:
        path = shard_path(self.path, number)
        for stale in self.shards.glob(f".tmp-{path.name}-*"):
            stale.unlink()  # of a process that was killed
        layers = len(self.description["layers"])
        return ShardWriter(path, ids, layers, self.description["dtype"])

    def finish(self) -> None:
        """Write the index of all complete shards; a store without one is unfinished."""
        with _locked(self.path / ".lock"):
            paths = self._complete()
            sizes = np.zeros(max(paths, default=-1) + 1, dtype=np.int64)
            rows = []
            for number, path in paths.items():
                sizes[number] = path.stat().st_size
                rows += [(u, number, e) for u, e in read_shard(path)[0].items()]
            rows.sort(key=lambda row: row[0])
            ids = "\n".join(utterance for utterance, _, _ in rows).encode()
            digests = b"".join(bytes.fromhex(e.audio.digest) for _, _, e in rows)
            crc = np.array([e.checksums for _, _, e in rows], np.uint32)
            arrays: dict[str, np.ndarray] = {
                "ids": np.frombuffer(ids, np.uint8),
                "shard": np.array([number for _, number, _ in rows], np.int32),
                "shard_size": sizes,
                "offset": np.array([e.offset for _, _, e in rows], np.int64),
                "frames": np.array([e.frames for _, _, e in rows], np.int32),
                "crc": crc.reshape(-1, len(self.description["layers"])),
                "samples": np.array([e.audio.samples for _, _, e in rows], np.int64),
                "audio_size": np.array([e.audio.size for _, _, e in rows], np.int64),
                "audio_mtime": np.array([e.audio.mtime for _, _, e in rows], np.int64),
                "audio_digest": np.frombuffer(digests, np.uint8).reshape(-1, 16),
            }
            metadata = {
                "store": json.dumps(self.description),
                "unusable": json.dumps(self.present()[1]),
            }
            write_arrays(self.path / INDEX_NAME, arrays, metadata)
            for claim in self.shards.glob(".claim-*"):
                claim.unlink(missing_ok=True)

    def _complete(self) -> dict[int, Path]:
        """The shards that are there, by number."""
        paths = self.shards.glob("[0-9]*.safetensors")
        numbers = sorted(int(path.stem) for path in paths if path.stem.isdigit())
        return {number: shard_path(self.path, number) for number in numbers}

    def _planned(self) -> list[list[list[str]]]:
        """Read the plan: blocks of shards of utterances."""
        path = self.path / PLAN_NAME
        try:
            return json.loads(path.read_text(encoding="utf-8"))["blocks"]
        except FileNotFoundError:
            return []
        except (ValueError, KeyError, TypeError):
            text = f"{path}: damaged; remove it and run ser_extract again"
            raise UserError(text) from None


def pack(seconds: Mapping[str, float], limit: float) -> list[list[str]]:
    """Cut utterances, in order, into groups of at most `limit` seconds, or of one."""
    groups: list[list[str]] = []
    room = 0.0
    for utterance, duration in seconds.items():
        if not groups or duration > room:
            groups.append([])
            room = limit
        groups[-1].append(utterance)
        room -= duration
    return groups


@contextmanager
def _locked(path: Path, wait: bool = True) -> Iterator[bool]:
    """Lock a file; without waiting, give whether no other process holds it."""
    with open(path, "a") as stream:
        mine = True
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            mine = False
        except OSError as error:  # without locks work may be done twice
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP):
                raise
        yield mine


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
