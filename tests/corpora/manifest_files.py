"""Small manifests and recordings that tests generate."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import soundfile as sf

from espnet_ext.corpora.manifest.reader import Manifest, ManifestOptions, read_manifest

Rows = Sequence[Mapping[str, object]]


def speech_rows(speakers: int = 6, emotions: Sequence[str] = ("angry", "sad")) -> Rows:
    """Rows of a corpus in which every speaker speaks every emotion once."""
    return [
        {"path": f"s{s}_{e}.wav", "speaker": f"s{s}", "emotion": e}
        for s in range(speakers)
        for e in emotions
    ]


def write_csv(
    path: Path,
    rows: Rows,
    separator: str = ",",
    end: str = "\n",
    bom: str = "",
) -> Path:
    """Write rows as a spreadsheet would; every cell is in quotes."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    table = [names, *([str(row.get(name, "")) for name in names] for row in rows)]
    lines = [
        separator.join('"' + cell.replace('"', '""') + '"' for cell in line)
        for line in table
    ]
    path.write_bytes((bom + end.join(lines) + end).encode())
    return path


def write_jsonl(path: Path, rows: Rows) -> Path:
    """Write an object a line."""
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def write_wavs(folder: Path, rows: Rows, seconds: float = 0.3) -> None:
    """Write a short tone for each row's path."""
    for number, row in enumerate(rows):
        path = folder / str(row["path"])
        path.parent.mkdir(parents=True, exist_ok=True)
        time = np.arange(int(16000 * seconds)) / 16000  # (n,)
        sf.write(path, 0.1 * np.sin(2 * np.pi * (200 + 10 * number) * time), 16000)


def read(path: Path, **options: object) -> Manifest:
    """Read a manifest without looking for its recordings."""
    given = {"check_files": False, **options}
    return read_manifest(path, "my", ManifestOptions(**given))  # type: ignore[arg-type]
