"""A corpus of EmoBox as a manifest.

Its folder (``data/emodb`` there) has for each fold what is trained on and tested::

    fold_1/emodb_train_fold_1.jsonl   {"key": ..., "wav": ..., "emo": ...}
    fold_1/emodb_test_fold_1.jsonl    two of its sets write audio and label instead
    fold_1/meld_valid_fold_1.jsonl    of some sets
    label_map.json                    (or label_dict.json) label to its common name
    data.seg.wrd.stm                  id, channel, speaker, ...

Speakers are in its train and test parts both in aesdd, ased, asvpesd, cremad, emns,
emovdb, emozionalmente, enterface, meld, mesd, oreau, pavoque, shemo, tess, turevdb and
urdu (as of its release of 2024); that is allowed here, with a warning.

Paths are relative to where its programs are started (``--root``), two folders above.
Where it has one fold, its parts are the split, and validation is drawn from training if
there is none; of several, the test parts are the folds. Its own protocol trains on what
is not tested; here the fold before the tested one validates.

Reference: Z. Ma et al., "EmoBox: multilingual multi-corpus speech emotion recognition
toolkit and benchmark", Interspeech 2024.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

from espnet_ext.corpora.manifest.rows import Row, Rows, read_json_line
from espnet_ext.corpora.textio import read_lines
from espnet_ext.errors import UserError

_FILE = re.compile(r"(?P<set>.+)_(?P<part>train|valid|test)_fold_?(?P<fold>\d+)\.jsonl")
_SPEAKER = re.compile(r"[<,]spk=([^,>]+)")
_NAMES = {
    "id": ("key",),
    "path": ("wav", "audio"),
    "emotion": ("emo", "label"),
    "start": ("start_time",),
    "end": ("end_time",),
}


def read_emobox(folder: Path) -> Rows:
    """Read a corpus' folder.

    Raises:
        UserError: A fold has no test or train file, a line is malformed, or a label is
            not in the label map.
    """
    folds = _find_folds(folder)
    names = _label_names(folder)
    speakers = _speakers(folder / "data.seg.wrd.stm")
    notes = []
    if not speakers:
        notes.append(f"{folder}: no data.seg.wrd.stm, so no speakers")
    rows = _rows(folds, names, speakers)
    if len(folds) > 1:
        notes.append(
            f"EmoBox' {len(folds)} folds: each is tested once, and the one before "
            "validates (EmoBox trains on that one, too)"
        )
    root = folder.absolute().parent.parent
    return Rows(rows, root, notes, shared_speakers=True)


def _find_folds(folder: Path) -> dict[int, dict[str, Path]]:
    folds: dict[int, dict[str, Path]] = {}
    for path in sorted(folder.glob("fold_*/*.jsonl")):
        match = _FILE.fullmatch(path.name)
        if match:
            # Some sets hold each file under two names (fold1, fold_1).
            folds.setdefault(int(match["fold"]), {})[match["part"]] = path
    for number, parts in folds.items():
        for part in ("train", "test"):
            if part not in parts:
                raise UserError(
                    f"{folder}/fold_{number}: no file like NAME_{part}_fold_{number}"
                    ".jsonl"
                )
    if not folds:
        raise UserError(f"{folder}: no files like fold_1/NAME_train_fold_1.jsonl")
    return dict(sorted(folds.items()))


def _label_names(folder: Path) -> dict[str, str] | None:
    for name in ("label_map.json", "label_dict.json"):
        path = folder / name
        if not path.exists():
            continue
        try:
            found = json.loads(path.read_text(encoding="utf-8-sig"))
        except (ValueError, OSError) as error:
            raise UserError(f"{path}: not JSON: {error}") from error
        if not isinstance(found, dict):
            raise UserError(f"{path}: not an object of labels and their names")
        # Capitals differ between map and folds ("Neutral" of emodb).
        return {str(label).lower(): str(name) for label, name in found.items()}
    return None


def _speakers(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    speakers = {}
    for number, text in read_lines(path, errors="replace"):
        words = text.split(maxsplit=3)
        if text.strip() and len(words) < 3:
            raise UserError(f"{path}:{number}: not 'id channel speaker ...'")
        if words:
            # The tag is right where the third column holds blanks (jlcorpus).
            tag = _SPEAKER.search(text)
            speakers[words[0]] = tag[1] if tag else words[2]
    return speakers


def _rows(
    folds: dict[int, dict[str, Path]],
    names: dict[str, str] | None,
    speakers: dict[str, str],
) -> Iterator[tuple[str, Row]]:
    """Yield each utterance once: in the fold that tests it, or its part."""
    seen: set[str] = set()
    if len(folds) == 1:
        (parts,) = folds.values()
        for part, path in parts.items():
            for where, row in _file(path, names, speakers):
                yield where, {**row, "split": part}
        return
    for number, parts in folds.items():
        for where, row in _file(parts["test"], names, speakers):
            if row["id"] in seen:
                raise UserError(f"{where}: {row['id']} is tested in two folds")
            seen.add(row["id"])
            yield where, {**row, "fold": str(number)}
    # What no fold tests is trained on in all of them.
    for parts in folds.values():
        for part in ("train", "valid"):
            if part not in parts:
                continue
            for where, row in _file(parts[part], names, speakers):
                if row["id"] not in seen:
                    seen.add(row["id"])
                    yield where, {**row, "split": "train"}


def _file(
    path: Path, names: dict[str, str] | None, speakers: dict[str, str]
) -> Iterator[tuple[str, dict[str, str]]]:
    for number, text in read_lines(path):
        if not text.strip():
            continue
        where = f"{path}:{number}"
        found = read_json_line(text, where)
        row = {
            ours: next((found[name] for name in theirs if name in found), "")
            for ours, theirs in _NAMES.items()
        }
        for name in ("path", "emotion"):
            if not row[name]:
                raise UserError(f"{where}: neither {' nor '.join(_NAMES[name])} in it")
        if not row["id"]:
            row["id"] = row["path"].rpartition(".")[0].replace("/", "_")
        if names is not None:
            if row["emotion"].lower() not in names:
                raise UserError(
                    f"{where}: the label map has no {row['emotion']!r}; it has "
                    f"{', '.join(names)}"
                )
            row["emotion"] = names[row["emotion"].lower()]
        yield where, {**row, "speaker": speakers.get(row["id"], "")}
