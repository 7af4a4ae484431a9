"""Which utterances a system had to predict, and their truth: a set directory or ids."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from espnet_ext.attributes import ATTRIBUTES
from espnet_ext.errors import UserError


@dataclass(frozen=True, slots=True)
class Reference:
    """The utterances a system had to predict, and their truth where it is given."""

    path: str  # where it was read, for messages
    ids: tuple[str, ...]
    classes: tuple[str, ...] | None = None  # None of a list of ids
    emotion: Mapping[str, str] = field(default_factory=dict)  # where it is known
    # Utterance -> attribute -> value, where it is known.
    attributes: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    # speaker, gender, corpus -> utterance -> value
    columns: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def read_reference(path: Path | str) -> Reference:
    """Read a set directory, or a manifest with one utterance id a line.

    A set directory has ``utt2spk`` or ``wav.scp`` (the ids) and, as far as they are
    there, ``classes``, ``utt2class``, ``attributes``, ``utt2spk``, ``utt2gender`` and
    ``utt2corpus``.

    Raises:
        UserError: Nothing there, an empty or malformed file, a duplicate id.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(
            f"{path}: no such reference; give a set directory or a list of ids"
        )
    if not path.is_dir():
        return Reference(path=str(path), ids=_ids(path))
    id_files = [path / name for name in ("utt2spk", "wav.scp", "utt2class")]
    id_files = [file for file in id_files if file.exists()]
    if not id_files:
        raise UserError(f"{path}: no set directory (utt2spk and wav.scp are missing)")
    files = {"speaker": "utt2spk", "gender": "utt2gender", "corpus": "utt2corpus"}
    classes, emotion = _reference_classes(path)
    return Reference(
        path=str(path),
        ids=_ids(id_files[0]),
        classes=classes,
        emotion=emotion,
        attributes=_reference_attributes(path / "attributes"),
        columns={column: _pairs(path / name) for column, name in files.items()},
    )


def _reference_classes(path: Path) -> tuple[tuple[str, ...] | None, dict[str, str]]:
    if not (path / "classes").exists():
        return None, {}
    classes = tuple(line.strip() for _, line in _lines(path / "classes"))
    emotion, file = {}, path / "utt2class"
    ids = {str(index): name for index, name in enumerate(classes)} | {"-1": ""}
    for utterance, text in _pairs(file).items():
        if text not in ids:
            raise UserError(
                f"{file}: {utterance}: class id {text!r}; expected -1 (unknown) to "
                f"{len(classes) - 1}"
            )
        emotion[utterance] = ids[text]
    return classes, {utterance: name for utterance, name in emotion.items() if name}


def _reference_attributes(path: Path) -> dict[str, dict[str, float]]:
    attributes = {}
    for number, line in _lines(path) if path.exists() else ():
        utterance, *texts = line.split()
        try:
            values = dict(zip(ATTRIBUTES, map(float, texts), strict=True))
        except ValueError:
            raise UserError(
                f"{path}:{number}: expected 'utterance valence arousal dominance', "
                f"got {line.strip()!r}"
            ) from None
        attributes[utterance] = {k: v for k, v in values.items() if not math.isnan(v)}
    return attributes


def _lines(path: Path) -> list[tuple[int, str]]:
    """Numbered lines that are not blank; an empty file is an error."""
    text = path.read_text(encoding="utf-8")
    lines = [(n, line) for n, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not lines:
        raise UserError(f"{path}: empty file")
    return lines


def _pairs(path: Path) -> dict[str, str]:
    """Values by utterance; none where there is no file."""
    pairs: dict[str, str] = {}
    for number, line in _lines(path) if path.exists() else ():
        fields = line.split(maxsplit=1)
        if len(fields) != 2:
            raise UserError(
                f"{path}:{number}: expected 'utterance value', got {line.strip()!r}"
            )
        pairs[fields[0]] = fields[1].strip()
    return pairs


def _ids(path: Path) -> tuple[str, ...]:
    """Sorted first words of the lines, each of which must be there once."""
    ids = sorted(line.split()[0] for _, line in _lines(path))
    for before, utterance in pairwise(ids):
        if before == utterance:
            raise UserError(f"{path}: {utterance} occurs twice")
    return tuple(ids)


def check_utterances(path: Path, ids: tuple[str, ...], reference: Reference) -> None:
    """Refuse ids of the file at `path` that are not exactly the reference's."""
    for wrong, what in (
        (set(reference.ids) - set(ids), f"missing; {reference.path} has"),
        (set(ids) - set(reference.ids), f"extra; {reference.path} has not got"),
    ):
        if wrong:
            number = f"{len(wrong)} utterance{'s' * (len(wrong) > 1)}"
            raise UserError(f"{path}: {number} {what} {listed(sorted(wrong))}")


def listed(names: Iterable[str], limit: int = 8) -> str:
    """Join names for a message, the first `limit` of them."""
    names = list(names)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
