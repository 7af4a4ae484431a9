"""The columns of a manifest: their names, other names for them, and their values."""

import difflib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from espnet_ext.corpora.utterance import UNKNOWN
from espnet_ext.errors import UserError

COLUMNS: dict[str, tuple[str, ...]] = {
    "path": (
        *("file", "file_name", "filename", "wav", "audio", "file_path", "filepath"),
        *("audio_path", "audio_filepath", "wav_path", "audio_file", "wav_file"),
    ),
    "id": ("key", "utt", "utt_id", "utterance", "utterance_id"),
    "speaker": ("spk", "spkrid", "spkr_id", "speaker_id", "spk_id", "actor"),
    "gender": ("sex",),
    "session": ("session_id",),
    "split": ("split_set", "set", "subset", "partition"),
    "fold": ("fold_id",),
    "emotion": ("emoclass", "emo", "label", "emotion_label"),
    "valence": ("emoval", "val"),
    "arousal": ("emoact", "act", "activation", "aro"),
    "dominance": ("emodom", "dom"),
    "start": ("start_time", "begin", "onset"),
    "end": ("end_time", "stop", "offset"),
    "language": ("lang",),
}
"""Our name of each column, and the names that others give it, in lower case."""

PARTS = {
    **dict.fromkeys(("train", "training", "tr"), "train"),
    **dict.fromkeys(("valid", "validation", "val", "dev", "development"), "valid"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation", "test1"), "test"),
}
"""Names of the three parts of a split, in lower case."""

# Further test sets of some corpora: kept, and used by no part.
UNUSED_PARTS = ("test2", "test3", "unlabeled")

EMOTIONS = frozenset(
    (
        *("neutral", "angry", "anger", "happy", "happiness", "joy", "sad", "sadness"),
        *("disgust", "disgusted", "fear", "fearful", "surprise", "surprised"),
        *("contempt", "excited", "excitement", "frustrated", "frustration", "calm"),
        *("bored", "boredom", "annoyed", "concerned", "confused", "depressed"),
        *("disappointed", "amused", "relaxed", "delighted", "other"),
    )
)
"""Columns of these names hold the share of raters, as in EMO-SUPERB's tables."""

_GENDERS = {
    **dict.fromkeys(("f", "female", "w", "woman", "women"), "f"),
    **dict.fromkeys(("m", "male", "man", "men"), "m"),
}
_MISSING = frozenset(("", "nan", "none", "null", "na", "n/a", "-", UNKNOWN))
_BLANKS = re.compile(r"\s+")
_DECIMAL_COMMA = re.compile(r"[-+]?\d+,\d+")


def match_columns(
    names: Sequence[str], renamed: Mapping[str, str], where: str
) -> dict[str, str]:
    """Say which of a table's columns is which of `COLUMNS`: its name to theirs.

    `renamed` (their names first, from ``--columns``) wins over every alias.

    Raises:
        UserError: A renamed column is not there, two columns mean the same thing, or
            none is the path.
    """
    ours: dict[str, str] = {}
    for theirs, name in renamed.items():
        if name not in COLUMNS:
            raise UserError(
                f"--columns {theirs}={name}: a manifest has no column {name}; there "
                f"are {', '.join(COLUMNS)}"
            )
        if theirs not in names:
            raise UserError(
                f"{where}: has no column {theirs} (--columns {theirs}={name}); it has "
                f"{', '.join(names)}"
            )
        if name in ours:
            raise UserError(f"--columns: two columns are {name}; leave one out")
        ours[name] = theirs
    meant = {alias: name for name, more in COLUMNS.items() for alias in (name, *more)}
    for theirs in names:
        name = meant.get(_plain(theirs), "")
        if not name or theirs in renamed or (name in ours and ours[name] in renamed):
            continue
        if name in ours:
            raise UserError(
                f"{where}: the columns {ours[name]} and {theirs} both mean {name}; say "
                f"which one with --columns {theirs}={name}"
            )
        ours[name] = theirs
    if "path" not in ours:
        near = difflib.get_close_matches("path", names, 1, 0.4)
        hint = f" --columns {near[0] if near else 'THEIRS'}=path"
        raise UserError(
            f"{where}: no column names the recordings (path, "
            f"{', '.join(COLUMNS['path'])}); there are {', '.join(names)}. Say which "
            f"one with{hint}"
        )
    return ours


def share_columns(names: Iterable[str], ours: Mapping[str, str]) -> tuple[str, ...]:
    """Return the columns that hold the raters' shares, where there is no emotion."""
    if "emotion" in ours:
        return ()
    found = tuple(name for name in names if _plain(name) in EMOTIONS)
    return found if len(found) > 1 else ()


def largest_share(row: Mapping[str, str], columns: Sequence[str]) -> str:
    """Return the emotion that most raters chose, nothing where several lead.

    Raises:
        ValueError: A share is no number.
    """
    shares = {name: parse_number(row.get(name, "")) for name in columns}
    known = {name: share for name, share in shares.items() if not math.isnan(share)}
    leaders = [n for n in known if known[n] == max(known.values())]
    return leaders[0] if len(leaders) == 1 else ""


def is_part(text: str) -> bool:
    """Tell whether a cell names a part of a split."""
    name = text.strip().lower()
    return name in PARTS or name in UNUSED_PARTS


def is_missing(text: str) -> bool:
    """Tell whether a cell says nothing."""
    return not text or text.strip().lower() in _MISSING


@lru_cache(4096)  # speakers and emotions come again and again
def as_word(text: str) -> str:
    """Make a cell one word; a missing one is ``<unk>``."""
    return UNKNOWN if is_missing(text) else _BLANKS.sub("_", text.strip())


@lru_cache(64)
def as_gender(text: str) -> str:
    """Return ``f``, ``m`` or ``<unk>``."""
    return _GENDERS.get(text.strip().lower(), UNKNOWN)


def parse_number(text: str) -> float:
    """Read a number, also with a decimal comma; nan where it is missing.

    Raises:
        ValueError: It is none.
    """
    if not text:
        return math.nan
    try:
        value = float(text)
    except ValueError:
        if is_missing(text):
            return math.nan
        if not _DECIMAL_COMMA.fullmatch(text.strip()):
            raise
        value = float(text.replace(",", "."))
    if math.isinf(value):
        raise ValueError(f"{text} is infinite")
    return value


def _plain(name: str) -> str:
    return re.sub(r"[\s-]+", "_", name.strip().lower())
