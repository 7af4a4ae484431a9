"""Folders of other tools that are read as manifests."""

from collections.abc import Mapping
from pathlib import Path

from espnet_ext.corpora.manifest.rows import Rows, read_rows
from espnet_ext.errors import UserError


def open_folder(path: Path, columns: Mapping[str, str]) -> Rows:
    """Open a folder in the format that its files tell.

    ====================== =========================================================
    ``wav.scp``            a data directory of Kaldi or ESPnet (`kaldi`)
    ``fold_1/*.jsonl``     a corpus of EmoBox (`emobox`)
    ``metadata.csv``       an AudioFolder of Hugging Face (or ``.jsonl``)
    ``db.yaml``            an audformat database (`audformat_db`)
    ====================== =========================================================

    `columns` (their names first) is for formats whose columns have names.

    Raises:
        UserError: It is none of these.
    """
    if (path / "wav.scp").exists():
        from espnet_ext.corpora.manifest.formats.kaldi import read_kaldi

        return read_kaldi(path)
    if (path / "fold_1").is_dir():
        from espnet_ext.corpora.manifest.formats.emobox import read_emobox

        return read_emobox(path)
    if (path / "db.yaml").exists():
        from espnet_ext.corpora.manifest.formats.audformat_db import read_audformat

        return read_audformat(path, columns)
    for name in ("metadata.csv", "metadata.jsonl"):
        if (path / name).exists():
            return read_rows(path / name, columns)
    split = audio_folder_parts(path)
    if split:
        return read_audio_folder(split, columns)
    raise UserError(
        f"{path}: no manifest, but a folder without wav.scp (Kaldi, ESPnet), fold_1 "
        "(EmoBox), metadata.csv (Hugging Face) and db.yaml (audformat); give a csv, "
        "tsv or jsonl file"
    )


def audio_folder_parts(path: Path) -> dict[str, Path]:
    """Find the metadata of an AudioFolder that has a folder for each part."""
    names = [
        n for kind in ("csv", "jsonl") for n in sorted(path.glob(f"*/metadata.{kind}"))
    ]
    return {file.parent.name: file for file in names}


def read_audio_folder(parts: Mapping[str, Path], columns: Mapping[str, str]) -> Rows:
    """Read an AudioFolder whose folders ``train``, ``test``, ... are its parts.

    Raises:
        UserError: A metadata file is malformed.
    """
    opened = {part: read_rows(file, columns) for part, file in parts.items()}
    root = next(iter(parts.values())).absolute().parent.parent
    rows = (
        (where, {"split": part, **row, "path": f"{part}/{row.get('path', '')}"})
        for part, found in opened.items()
        for where, row in found.rows
    )
    return Rows(rows, root, [note for found in opened.values() for note in found.notes])
