"""Data directories of Kaldi and ESPnet as manifests.

``wav.scp`` and ``utt2spk`` (and ``segments``, where utterances are pieces of
recordings), with labels in further files of a line an utterance. Every file but
``wav.scp`` may be missing::

    emotion          utt angry          or utt2emo, utt2emotion, utt2class, utt2label
    attributes       utt V A D          nan where missing
    attribute_scale  corpus LOW HIGH    one line
    utt2spk  utt2gender (or spk2gender)  utt2split  utt2fold  utt2session  utt2lang
"""

from collections.abc import Iterator
from pathlib import Path

from espnet_ext.attributes import ATTRIBUTES
from espnet_ext.corpora.manifest.columns import is_missing, is_part
from espnet_ext.corpora.manifest.rows import Row, Rows
from espnet_ext.corpora.textio import read_lines
from espnet_ext.errors import UserError

_COLUMNS = {
    "speaker": ("utt2spk",),
    "gender": ("utt2gender",),
    "session": ("utt2session",),
    "split": ("utt2split",),
    "fold": ("utt2fold",),
    "language": ("utt2lang",),
    "emotion": ("emotion", "utt2emo", "utt2emotion", "utt2class", "utt2label"),
}


def read_kaldi(folder: Path) -> Rows:
    """Read a data directory.

    Raises:
        UserError: ``wav.scp`` has a pipe, or a line is malformed; by file and line.
    """
    recordings = read_recordings(folder / "wav.scp")
    columns = {
        column: table
        for column, names in _COLUMNS.items()
        if (table := _first(folder, names))
    }
    if "gender" not in columns and (folder / "spk2gender").exists():
        of_speaker = _table(folder / "spk2gender")
        speakers = columns.get("speaker", {})
        columns["gender"] = {u: of_speaker.get(s, "") for u, s in speakers.items()}
    if (folder / "attributes").exists():
        columns |= _attributes(folder / "attributes")
    parts = columns.get("split", {}).values()
    if not all(is_missing(part) or is_part(part) for part in parts):
        # Our own folders have folds or sessions there.
        values = columns.pop("split")
        name = "fold" if all(v.startswith("fold") for v in values.values()) else ""
        columns[name or "session"] = {
            utt: value.removeprefix("fold") for utt, value in values.items()
        }
    scale = _scale(folder / "attribute_scale")
    pieces = folder / "segments"
    rows = _pieces(pieces, recordings) if pieces.exists() else _whole(recordings)
    return Rows(
        (
            (where, {**row, **{c: t.get(row["id"], "") for c, t in columns.items()}})
            for where, row in rows
        ),
        # Kaldi's paths are relative to where its programs are started.
        Path.cwd(),
        scale=scale,
    )


def read_recordings(path: Path) -> dict[str, tuple[str, str]]:
    """Return where each recording of a ``wav.scp`` is named, and its file.

    Raises:
        UserError: A line has no file, a command, or an id once more.
    """
    found = {}
    for where, id_, value in _lines(path):
        if value.endswith("|") or value.startswith("|"):
            raise UserError(
                f"{where}: {id_} is the output of a command ({value[:60]!r}), which is "
                "not run here; write the recordings to files first (ESPnet's "
                "scripts/audio/format_wav_scp.sh) and give that directory"
            )
        if id_ in found:
            raise UserError(f"{where}: {id_} occurs twice")
        found[id_] = (where, value)
    return found


def _whole(recordings: dict[str, tuple[str, str]]) -> Iterator[tuple[str, Row]]:
    for id_, (where, path) in recordings.items():
        yield where, {"id": id_, "path": path}


def _pieces(
    path: Path, recordings: dict[str, tuple[str, str]]
) -> Iterator[tuple[str, Row]]:
    for where, id_, value in _lines(path):
        parts = value.split()
        if len(parts) != 3:
            raise UserError(f"{where}: not 'utterance recording start end'")
        if parts[0] not in recordings:
            raise UserError(f"{where}: wav.scp has no recording {parts[0]}")
        _, wav = recordings[parts[0]]
        end = "" if parts[2].startswith("-") else parts[2]  # -1: to the end
        yield where, {"id": id_, "path": wav, "start": parts[1], "end": end}


def _first(folder: Path, names: tuple[str, ...]) -> dict[str, str]:
    for name in names:
        if (folder / name).exists():
            return _table(folder / name)
    return {}


def _table(path: Path) -> dict[str, str]:
    return {id_: value for _, id_, value in _lines(path)}


def _attributes(path: Path) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {name: {} for name in ATTRIBUTES}
    for where, id_, value in _lines(path):
        parts = value.split()
        if len(parts) != len(ATTRIBUTES):
            raise UserError(f"{where}: {len(parts)} values instead of V A D")
        for name, part in zip(ATTRIBUTES, parts, strict=True):
            found[name][id_] = part
    return found


def _scale(path: Path) -> tuple[float, float] | None:
    if not path.exists():
        return None
    scales = set()
    for where, _, value in _lines(path):
        try:
            low, high = map(float, value.split())
        except ValueError as error:
            raise UserError(f"{where}: not 'corpus low high'") from error
        scales.add((low, high))
    return scales.pop() if len(scales) == 1 else None


def _lines(path: Path) -> Iterator[tuple[str, str, str]]:
    """Yield place, first word and the rest of each line."""
    for number, text in read_lines(path, errors="surrogateescape"):
        if not text.strip():
            continue
        words = text.split(maxsplit=1)
        if len(words) != 2:
            raise UserError(f"{path}:{number}: not 'id value': {text[:80]!r}")
        yield f"{path}:{number}", words[0], words[1].strip()
