"""An audformat database as a manifest, through the library ``audformat`` (an extra).

The library joins the tables and looks up what a speaker's entry says (``gender``).
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from espnet_ext.attributes import ATTRIBUTES
from espnet_ext.corpora.manifest.columns import PARTS, match_columns
from espnet_ext.corpora.manifest.rows import Row, Rows
from espnet_ext.errors import UserError


def read_audformat(folder: Path, columns: Mapping[str, str]) -> Rows:
    """Read a database's emotions or attributes, with what is known of the speakers.

    Raises:
        UserError: The library is not installed, or the database has no labels.
    """
    try:
        import audformat
    except ImportError:
        raise UserError(
            f"{folder}: an audformat database, which needs the library: pip install "
            '"espnet_ext[audformat]"'
        ) from None
    database = audformat.Database.load(str(folder))
    schemes = list(database.schemes)
    for scheme in database.schemes.values():
        if scheme.uses_table or not isinstance(scheme.labels, dict):
            continue
        entries = [e for e in scheme.labels.values() if isinstance(e, dict)]
        schemes += sorted({name for entry in entries for name in entry} - {*schemes})
    ours = match_columns(["file", *schemes], columns, f"{folder}/db.yaml")
    del ours["path"]
    labels = [ours[name] for name in ("emotion", *ATTRIBUTES) if name in ours]
    if not labels:
        raise UserError(
            f"{folder}/db.yaml: none of the schemes {', '.join(schemes)} is emotion, "
            "valence, arousal or dominance; name one with --columns THEIRS=emotion"
        )
    used = {table.split_id for table in database.tables.values()}
    parts = {
        name: split.type
        for name, split in database.splits.items()
        if name in used and str(split.type).lower() in PARTS
    }
    return Rows(
        _rows(folder, database, labels[0], ours, parts),
        folder.absolute(),
        scale=_scale(database, ours),
    )


def _scale(database: Any, ours: Mapping[str, str]) -> tuple[float, float] | None:
    for name in ATTRIBUTES:
        scheme = database.schemes.get(ours[name]) if name in ours else None
        if scheme is not None and None not in (scheme.minimum, scheme.maximum):
            return float(scheme.minimum), float(scheme.maximum)
    return None


def _rows(
    folder: Path,
    database: Any,
    label: str,
    ours: Mapping[str, str],
    parts: Mapping[str, str],
) -> Iterator[tuple[str, Row]]:
    others = [theirs for theirs in ours.values() if theirs != label]
    for split, part in parts.items() or [(None, "")]:
        frame = database.get(label, others, splits=split)
        for number, (index, record) in enumerate(frame.iterrows(), start=1):
            file, *times = index if isinstance(index, tuple) else (index,)
            start, end = times or (None, None)
            row = {name: _text(record[theirs]) for name, theirs in ours.items()}
            row |= {"path": str(file), "start": _seconds(start), "end": _seconds(end)}
            if part:
                row["split"] = part
            yield f"{folder}: {split or 'row'} {number}", row


def _text(value: Any) -> str:
    return "" if value is None or value != value else str(value)


def _seconds(value: Any) -> str:
    """Write a time; a start of 0 and an end that is not known are left out."""
    seconds = 0.0 if value is None or value != value else value.total_seconds()
    return str(seconds) if seconds > 0 else ""
