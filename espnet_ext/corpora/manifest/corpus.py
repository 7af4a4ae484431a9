"""A manifest as a corpus like any other, its class map, and manifests of corpora."""

import csv
import io
import json
import math
import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

from espnet_ext.corpora.corpus import Corpus
from espnet_ext.corpora.datadir import DataDir
from espnet_ext.corpora.labels import load_class_map
from espnet_ext.corpora.manifest.columns import is_part
from espnet_ext.corpora.manifest.reader import Manifest, ManifestOptions, read_manifest
from espnet_ext.corpora.manifest.table import is_bare
from espnet_ext.corpora.pieces import part_piece
from espnet_ext.corpora.utterance import UNKNOWN
from espnet_ext.utils.atomic import atomic_write_text

NO_LABELS = "unlabelled"
"""The only class of a corpus that has attributes alone; no utterance has it."""

_COLUMNS = ("path", "id", "speaker", "gender", "emotion")


def manifest_corpus(path: Path, name: str, options: ManifestOptions) -> Corpus:
    """Make a corpus of a manifest, which is read now; see `read_manifest`."""
    found = read_manifest(path, name, options)
    return Corpus(
        name=name,
        display=name,
        read=lambda _: found.reading,
        labels={label: label for label in found.labels},
        attribute_scale=found.attribute_scale,
    )


def classes_of(labels: Path, corpus: str) -> Callable[[str], str | None]:
    """Return the function from a label of a manifest to its class in a class map.

    Raises:
        UserError: It is no class map of this corpus. From the function: it does not
            name the label.
    """
    class_map = load_class_map(labels)
    class_map.class_of_label(UNKNOWN, corpus)
    return partial(class_map.class_of_label, corpus=corpus)


def write_class_map(manifest: Manifest, corpus: str, path: Path) -> None:
    """Write a class map in which each label is a class, if it is not there already."""
    # JSON's strings are YAML's: a label may be `no` or hold a colon.
    classes = list(manifest.labels) or [NO_LABELS]
    labels = json.dumps({label: label for label in manifest.labels}, ensure_ascii=False)
    text = (
        f"# The emotions that occur in the manifest of {corpus}.\n"
        f"classes: {json.dumps(classes, ensure_ascii=False)}\n"
        f"own:\n  {json.dumps(corpus)}: {labels}\n"
    )
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        atomic_write_text(path, text)


def write_manifest(data: DataDir, path: Path) -> str:
    """Write the utterances of a data directory as a manifest (csv).

    Paths below the manifest's folder are written relative to it.

    Returns:
        What to say to read it again.
    """
    records = data.utterances.values()
    parts = {u.split for u in records} - {UNKNOWN}
    pieces = any(part_piece(u.wav)[0] != u.wav for u in records)
    values = not all(map(is_bare, records))
    part = _part_column(parts)
    names = list(_COLUMNS)
    names += [part] * bool(parts) + ["valence", "arousal", "dominance"] * values
    names += ["language"] * any(u.language != UNKNOWN for u in records)
    names += ["start", "end"] * pieces
    stream = io.StringIO()
    table = csv.DictWriter(stream, names, extrasaction="ignore", lineterminator="\n")
    table.writeheader()
    folder = path.absolute().parent
    for u in records:
        wav, start, end = part_piece(u.wav)
        row = {
            "path": wav.removeprefix(f"{folder}{os.sep}"),
            "id": u.id,
            "speaker": u.speaker,
            "gender": u.gender,
            "emotion": u.emotion,
            part: u.split.removeprefix("fold") if part == "fold" else u.split,
            "valence": u.valence,
            "arousal": u.arousal,
            "dominance": u.dominance,
            "language": u.language,
            "start": "" if wav == u.wav else start,
            "end": "" if math.isinf(end) else end,
        }
        table.writerow(
            {n: "" if v in (UNKNOWN, "nan") or v != v else v for n, v in row.items()}
        )
    atomic_write_text(path, stream.getvalue())
    scale = next(iter(data.scales.values()), None)
    option = f" --attribute_scale {scale[0]:g} {scale[1]:g}" if scale else ""
    return f"--manifest {path}{option}"


def _part_column(parts: set[str]) -> str:
    """Say as which column the parts of a corpus are read again."""
    if all(map(is_part, parts)):
        return "split"
    return "fold" if all(re.fullmatch(r"fold\d+", p) for p in parts) else "session"
