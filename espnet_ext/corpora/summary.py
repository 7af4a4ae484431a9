"""What is in a data directory, and whether it is what it should be.

The summary is printed, and stored as ``summary.txt`` and ``summary.json`` beside the
data, with the full list of what was left out in ``left_out.tsv``.
"""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from espnet_ext.attributes import ATTRIBUTES
from espnet_ext.corpora.corpus import Corpus, LeftOut
from espnet_ext.corpora.datadir import DataDir, Scale
from espnet_ext.corpora.textio import write_text
from espnet_ext.corpora.utterance import UNKNOWN, Utterance

_SHOWN = 10
_MOST_SPEAKERS = 30


@dataclass(frozen=True, slots=True)
class ReleaseCheck:
    """The labels that were read, compared with the release that fits best."""

    release: str
    agreeing: int  # counts
    differing: tuple[tuple[str, int, int], ...]  # what, the true and the found number

    def lines(self) -> list[str]:
        """Report the result; a difference loudly."""
        total = self.agreeing + len(self.differing)
        if not self.differing:
            return [f"release: {self.release}; all {total} known counts agree"]
        looks = f"this looks like {self.release}, but {len(self.differing)} of {total}"
        if not self.agreeing:
            looks = f"this is no known release; of {self.release}, the nearest, all"
        lines = [f"!!! WARNING: {looks} known counts differ"]
        lines += [
            f"!!!   {what}: {found} found, {true} in {self.release}"
            for what, true, found in self.differing[:_SHOWN]
        ]
        if len(self.differing) > _SHOWN:
            lines.append("!!!   ... all of them are in summary.json")
        return lines


def count(utterances: Iterable[Utterance]) -> Counter[tuple[str, ...]]:
    """Count in the terms of `Counts`: all, split, emotion, both, split and gender."""
    counts: Counter[tuple[str, ...]] = Counter()
    cells = Counter((u.split, u.emotion, u.gender) for u in utterances)
    for (split, emotion, gender), number in cells.items():
        for key in ((), (split,), (emotion,), (split, emotion), (split, gender)):
            counts[key] += number
    return counts


def check_release(
    corpus: Corpus, utterances: Iterable[Utterance]
) -> ReleaseCheck | None:
    """Compare with the release that agrees most, or is nearest in size, if any.

    `utterances` are all that have a label, with or without usable audio.
    """
    found = count(utterances)

    def check(release: str) -> tuple[tuple[int, int], ReleaseCheck]:
        true = corpus.releases[release]
        differing = tuple(
            (" ".join(key) or "utterances", number, found[key])
            for key, number in true.items()
            if found[key] != number
        )
        # Without a total, the splits make it up.
        size = true.get((), sum(true.values()))
        agreeing = len(true) - len(differing)
        fit = agreeing, -abs(size - found[()])
        return fit, ReleaseCheck(release, agreeing, differing)

    checks = map(check, corpus.releases)
    return max(checks, key=lambda pair: pair[0], default=(None, None))[1]


def summarize(
    data: DataDir,
    left_out: Sequence[LeftOut] = (),
    notes: Sequence[str] = (),
    release: ReleaseCheck | None = None,
) -> dict[str, Any]:
    """Count everything; the result is ``summary.json``."""
    records = list(data.utterances.values())
    counts = count(records)
    splits = sorted({u.split for u in records})
    emotions = sorted({u.emotion for u in records}, key=lambda e: (-counts[e,], e))
    genders = sorted({u.gender for u in records})
    seconds = sum(data.durations.values())
    reasons = Counter(item.reason for item in left_out)
    return {
        "corpora": sorted({u.corpus for u in records}),
        "utterances": len(records),
        "hours": round(seconds / 3600, 4) if data.durations else None,
        "emotion": {e: {split: counts[split, e] for split in splits} for e in emotions},
        "gender": {g: {split: counts[split, g] for split in splits} for g in genders},
        "split": {split: counts[split,] for split in splits},
        "speaker": dict(sorted(Counter(u.speaker for u in records).items())),
        "attributes": {n: _attribute(records, n, data.scales) for n in ATTRIBUTES},
        "attribute_scale": {c: list(scale) for c, scale in data.scales.items()},
        "left_out": dict(sorted(reasons.items())),
        "notes": list(notes),
        "release": None if release is None else asdict(release),
    }


def _attribute(
    records: Sequence[Utterance], name: str, scales: Mapping[str, Scale]
) -> dict[str, Any]:
    """Describe the labeled values of one attribute."""
    found = {
        u.id: getattr(u, name) for u in records if not math.isnan(getattr(u, name))
    }
    if not found:
        return {"labelled": 0}
    values = np.array(list(found.values()))  # (labeled,)
    anywhere = (-math.inf, math.inf)
    ends = {u.id: scales.get(u.corpus, anywhere) for u in records}
    return {
        "labelled": len(found),
        "mean": round(float(values.mean()), 4),
        "lowest": float(values.min()),
        "highest": float(values.max()),
        "outside_scale": [
            id_ for id_, x in found.items() if not ends[id_][0] <= x <= ends[id_][1]
        ],
    }


def summary_text(summary: Mapping[str, Any], left_out: Sequence[LeftOut]) -> str:
    """Return the summary for people."""
    hours, speakers = summary["hours"], summary["speaker"]
    head = f"{' + '.join(summary['corpora'])}: {summary['utterances']} utterances, "
    head += f"{len(speakers.keys() - {UNKNOWN})} known speakers"
    head += ", durations not known yet" if hours is None else f", {hours:.2f} hours"
    lines = [head, ""]
    for title in ("emotion", "gender"):
        lines += [*_table(title, summary[title], summary["split"]), ""]
    lines += [_speaker_line(speakers), "", *_attribute_lines(summary), ""]
    total = f"{len(left_out)} (all in left_out.tsv)" if left_out else "nothing"
    lines.append(f"left out: {total}")
    for reason, number in Counter(item.reason for item in left_out).items():
        cases = [f"{i.name} ({i.where})" for i in left_out if i.reason == reason]
        lines.append(f"  {number} {reason}: {_some(cases)}")
    lines += [f"note: {note}" for note in summary["notes"]]
    if summary["release"] is not None:
        lines += ReleaseCheck(**summary["release"]).lines()
    return "\n".join(lines) + "\n"


def _table(
    title: str, rows: Mapping[str, Mapping[str, int]], totals: Mapping[str, int]
) -> list[str]:
    """Lay out counts by row and split, with sums."""
    cells = [[title, *totals, "all"]]
    for name, row in (*rows.items(), ("all", totals)):
        cells.append([name, *(str(row[s]) for s in totals), str(sum(row.values()))])
    first, *widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join([row[0].ljust(first), *map(str.rjust, row[1:], widths)])
        for row in cells
    ]


def _speaker_line(speakers: Mapping[str, int]) -> str:
    if len(speakers) <= _MOST_SPEAKERS:
        return "speakers: " + ", ".join(f"{s} {n}" for s, n in speakers.items())
    numbers = sorted(speakers.values())
    text = (
        f"speakers: {len(speakers)} with {numbers[0]} to {numbers[-1]} utterances "
        f"(median {numbers[len(numbers) // 2]}); each in summary.json"
    )
    if UNKNOWN in speakers:
        text += f"; {speakers[UNKNOWN]} utterances of unknown speakers among them"
    return text


def _attribute_lines(summary: Mapping[str, Any]) -> list[str]:
    lines = []
    for name, found in summary["attributes"].items():
        if not found["labelled"]:
            lines.append(f"{name}: no labels")
            continue
        text = (
            f"{name}: mean {found['mean']:.3f}, from {found['lowest']:g} to "
            f"{found['highest']:g}, {found['labelled']} labeled"
        )
        if outside := found["outside_scale"]:
            text += f"; {len(outside)} outside the scale, kept: {_some(outside)}"
        lines.append(text)
    for corpus, (low, high) in summary["attribute_scale"].items():
        lines.append(f"scale of {corpus}: {low:g} to {high:g}")
    return lines


def _some(items: Sequence[str]) -> str:
    rest = len(items) - _SHOWN
    return ", ".join(items[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def write_summary(
    folder: Path, summary: Mapping[str, Any], left_out: Sequence[LeftOut]
) -> str:
    """Write ``summary.json``, ``summary.txt`` and ``left_out.tsv``; return the text."""
    text = summary_text(summary, left_out)
    rows = ["name\treason\twhere"]
    rows += [f"{item.name}\t{item.reason}\t{item.where}" for item in left_out]
    write_text(folder / "summary.txt", text)
    write_text(folder / "summary.json", json.dumps(summary, indent=2) + "\n")
    write_text(folder / "left_out.tsv", "\n".join(rows) + "\n")
    return text
