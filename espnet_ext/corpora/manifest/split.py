"""The split of a manifest: as its rows give it, or drawn; and the checks of it."""

import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace

from espnet_ext.corpora.manifest.folds import (
    FOLDS,
    choose_groups,
    draw_folds,
    draw_valid,
    fold_name,
)
from espnet_ext.corpora.manifest.table import (
    Faults,
    ManifestOptions,
    Table,
    class_of,
)
from espnet_ext.corpora.utterance import UNKNOWN
from espnet_ext.errors import UserError


def split_table(
    table: Table,
    given: bool,
    options: ManifestOptions,
    notes: list[str],
    faults: Faults,
) -> int:
    """Fill in ``split`` of all records; return the number of folds, 0 for parts."""
    parts = {u.split for u in table.records.values()}
    if options.test_only:
        _relabel(table, dict.fromkeys(parts, "test"))
        return 0
    in_folds = any(part.startswith("fold ") for part in parts)
    if not given:
        folds = _draw(table, options, notes)
    elif in_folds:
        folds = _number_folds(table, parts, notes)
    else:
        folds = 0
        if "valid" not in parts:
            _draw_valid(table, options, notes)
        _check_parts(table, faults)
    if given:
        _check_speakers(table, options, notes, faults)
    _check_classes(table, folds, options, faults)
    return folds


def _relabel(table: Table, parts: Mapping[str, str]) -> None:
    for id_, utterance in table.records.items():
        part = sys.intern(parts[utterance.split])
        table.records[id_] = replace(utterance, split=part)


def _number_folds(table: Table, parts: Iterable[str], notes: list[str]) -> int:
    names = sorted((p for p in parts if p.startswith("fold ")), key=_natural)
    if len(names) < 3:
        raise UserError(
            f"{len(names)} folds: at least 3 are needed, to train, validate and test; "
            "or name a split train, valid and test"
        )
    numbered = {name: fold_name(i) for i, name in enumerate(names, start=1)}
    if any(n.removeprefix("fold ") != v[4:] for n, v in numbered.items()):
        numbers = (f"{i} is {n[5:]}" for i, n in enumerate(names, start=1))
        notes.append(f"folds: {', '.join(numbers)}")
    _relabel(table, {**{part: part for part in parts}, **numbered})
    return len(names)


def _natural(name: str) -> list[tuple[int, str]]:
    return [
        (int(text), "") if text.isdigit() else (-1, text)
        for text in re.split(r"(\d+)", name)
    ]


def _draw(table: Table, options: ManifestOptions, notes: list[str]) -> int:
    """Draw folds over speakers, or loudly at random."""
    records = list(table.records.values())
    speakers = [u.speaker for u in records]
    groups, kind = choose_groups(speakers, table.sessions)
    known = len(set(groups) - {UNKNOWN})
    folds = min(FOLDS, known) if known >= 3 else min(FOLDS, len(records))
    if folds < 3:
        raise UserError(
            f"{len(records)} recordings cannot be split: at least 3 are needed"
        )
    strangers = list(groups).count(UNKNOWN)
    if known < 3:
        given = f"only {known} speakers are" if known else "no speakers are"
        notes.append(
            f"!!! WARNING: the {folds} folds are drawn AT RANDOM, for {given} given: "
            "the same voices are trained on and tested, and scores are far better "
            "than on new speakers. Add a column speaker, split or fold"
        )
    else:
        notes.append(
            f"{folds} folds drawn by {known} {kind} (seed {options.seed}), near-equal "
            "in classes: no two folds share one"
        )
        if strangers:
            notes.append(
                f"!!! WARNING: {strangers} recordings without a speaker are put into "
                "folds at random"
            )
    drawn = draw_folds(
        groups, [class_of(u, options) or UNKNOWN for u in records], folds, options.seed
    )
    for utterance, fold in zip(records, drawn, strict=True):
        part = sys.intern(fold_name(fold))
        table.records[utterance.id] = replace(utterance, split=part)
    return folds


def _draw_valid(table: Table, options: ManifestOptions, notes: list[str]) -> None:
    train = [u for u in table.records.values() if u.split == "train"]
    speakers = [u.speaker for u in train]
    known = len(set(speakers) - {UNKNOWN})
    classes = [class_of(u, options) or UNKNOWN for u in train]
    chosen = draw_valid(speakers, classes, options.seed)
    for utterance, validates in zip(train, chosen, strict=True):
        if validates:
            table.records[utterance.id] = replace(utterance, split="valid")
    how = "by speakers" if known > 1 else "AT RANDOM, for no speakers are given"
    notes.append(
        f"no rows are for validation: {sum(chosen)} of {len(train)} training "
        f"recordings validate, drawn {how} (seed {options.seed})"
    )


def _check_parts(table: Table, faults: Faults) -> None:
    parts = {u.split for u in table.records.values()}
    for part in ("train", "test"):
        if part not in parts:
            faults.add(table.where(0), f"no row of the manifest has the split {part}")


def _check_speakers(
    table: Table, options: ManifestOptions, notes: list[str], faults: Faults
) -> None:
    """See that no speaker is in two parts of a given split."""
    first: dict[str, tuple[str, int]] = {}
    shared: set[tuple[str, str]] = set()
    for index, utterance in enumerate(table.records.values()):
        speaker, part = utterance.speaker, utterance.split
        if speaker == UNKNOWN:
            continue
        other, place = first.setdefault(speaker, (part, index))
        if other == part or (speaker, part) in shared:
            continue
        shared.add((speaker, part))
        if not options.shared_speakers:
            faults.add(
                table.where(index),
                f"speaker {speaker} is in {part} and in {other} "
                f"({table.where(place)}); if that is meant: --shared_speakers true",
            )
    if shared and options.shared_speakers:
        names = sorted({speaker for speaker, _ in shared})
        notes.append(
            f"!!! WARNING: {len(names)} speakers are in several parts of the given "
            f"split: {', '.join(names[:10])}{', ...' if len(names) > 10 else ''}"
        )


def _check_classes(
    table: Table, folds: int, options: ManifestOptions, faults: Faults
) -> None:
    """See that every class of a test set is trained on."""
    parts: dict[str, set[str]] = defaultdict(set)
    first: dict[str, int] = {}
    for index, utterance in enumerate(table.records.values()):
        name = class_of(utterance, options)
        if name is not None:
            parts[name].add(utterance.split)
            first.setdefault(name, index)
    for name, found in parts.items():
        reason = _why_untrained(found, folds)
        if reason:
            faults.add(
                table.where(first[name]),
                f"emotion {name}: {reason}; drop or merge it with a class map "
                "(--labels), or give another split",
            )


def _why_untrained(found: set[str], folds: int) -> str:
    """Say where a class is tested and not trained on, given the parts it occurs in."""
    if not folds:
        others = " and ".join(sorted(found & {"valid", "test"}))
        return "" if "train" in found else f"it is in {others} only"
    for number in range(1, folds + 1):
        tested, validated = fold_name(number), fold_name((number - 2) % folds + 1)
        if tested in found and not found - {tested, validated}:
            return f"where {tested} is tested, it is not trained on"
    return ""
