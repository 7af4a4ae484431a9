"""Sets: the utterances of one part of a split, with their classes.

A set directory is a data directory and, beside it, ``utt2class`` (index in the order of
``classes``, -1 where unknown or hidden) and ``classes`` (a name a line). Here, and only
here, raw labels become targets: the class map is applied, labels are hidden for the
mismatched training of Table 2, attributes may be clipped or mapped to [0, 1].
"""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from espnet_ext.corpora.datadir import DataDir, combine, replaced_dir, write_data_files
from espnet_ext.corpora.labels import ClassMap
from espnet_ext.corpora.manifest.folds import own_scheme
from espnet_ext.corpora.registry import CORPORA, get_scheme
from espnet_ext.corpora.splits import (
    TEST_ALL,
    WHOLE,
    Scheme,
    SplitOptions,
    make_split,
    shared_speakers,
)
from espnet_ext.corpora.textio import write_text
from espnet_ext.corpora.utterance import UNKNOWN, Utterance
from espnet_ext.errors import UserError

TRAIN_LABELS = ("none", "continuous", "discrete", "both")
"""Labels that training shows: neither, the attributes, the emotion, or both."""

_SWAPPED = [c.name for c in CORPORA.values() if c.paper_swapped_va]
LEGACY_WARNING = (
    "!!! WARNING: --legacy_va_order is on: valence and arousal of "
    f"{', '.join(_SWAPPED)} are "
    "EXCHANGED in these sets, as in the paper's released preparation. What is called "
    "valence there is arousal."
)

Sets = dict[str, DataDir]
"""``train``, ``valid`` and ``test``, with the labels that each may show."""


def parse_train_labels(items: Sequence[str]) -> dict[str, str]:
    """Turn ``CORPUS=LABELS`` items into a mapping; UserError if one does not fit."""
    found = {}
    for item in items:
        corpus, _, labels = item.partition("=")
        if labels not in TRAIN_LABELS:
            raise UserError(
                f"--train_labels {item}: write CORPUS=LABELS, LABELS "
                f"{', '.join(TRAIN_LABELS)}"
            )
        found[corpus] = labels
    return found


def keep_classes(data: DataDir, class_map: ClassMap) -> DataDir:
    """Keep the utterances to which the map gives a class (see `ClassMap.keeps`)."""
    return data.select(i for i, u in data.utterances.items() if class_map.keeps(u))


def show_labels(data: DataDir, labels: str) -> DataDir:
    """Return the utterances with some of their labels alone, one of `TRAIN_LABELS`.

    Raises:
        UserError: They are none of these.
    """
    if labels not in TRAIN_LABELS:
        raise UserError(
            f"{labels!r} is no kind of labels; there are {', '.join(TRAIN_LABELS)}"
        )

    if labels not in ("discrete", "both"):
        data = data.map(lambda u: replace(u, emotion=UNKNOWN))
    if labels not in ("continuous", "both"):
        data = data.map(lambda u: u.with_attributes(*3 * [math.nan]))
    return data


def write_set(
    data: DataDir,
    ids: Iterable[str],
    class_map: ClassMap,
    output: Path | str,
    labels: str = "both",
) -> None:
    """Write a set directory of these ids in one step; an older one is replaced.

    It shows `labels`, one of `TRAIN_LABELS`; an utterance without a class gets -1.

    Raises:
        UserError: No ids, an unknown kind of labels, or `output` is something else.
    """
    chosen = show_labels(data.select(ids), labels)
    if not chosen.utterances:
        raise UserError(f"{output}: the set is empty")
    with replaced_dir(output, marker="utt2class") as folder:
        write_data_files(folder, chosen)
        indices = ((i, class_map.index_of(u)) for i, u in chosen.utterances.items())
        rows = (f"{id_} {index}\n" for id_, index in indices)
        write_text(folder / "utt2class", "".join(rows))
        write_text(folder / "classes", "".join(f"{c}\n" for c in class_map.classes))


@dataclass(frozen=True, slots=True)
class SetOptions:
    """How sets are made; see the options of ``ser_make_sets``."""

    schemes: Sequence[str]  # names, one for each corpus
    split: SplitOptions = field(default_factory=SplitOptions)
    folds: Sequence[int] = ()  # one for each scheme; none: `split.fold` for all
    subset_like: str | None = None  # corpus whose sizes replace those in `split`
    # What train and valid show of a corpus [both]; one with none is only tested.
    train_labels: Mapping[str, str] = field(default_factory=dict)
    min_seconds: float | None = None  # of clips in train and valid
    max_seconds: float | None = None
    clip_attributes: bool = False  # bring those outside the scale to its ends
    unit_attributes: bool = False  # map them to [0, 1]
    legacy_va_order: bool = False  # exchange valence and arousal, as the paper did


def make_sets(
    corpora: Sequence[DataDir], class_map: ClassMap, options: SetOptions
) -> Sets:
    """Apply class map, split schemes and label options to one or more corpora.

    Of several, ids and speakers get the corpus as prefix. Utterances to which the map
    gives no class are dropped before splitting, for the continuous models, too.

    Raises:
        UserError: The options do not fit the data, or a part is empty.
    """
    schemes = _match_schemes(corpora, options)
    kept = {
        corpus: keep_classes(data, class_map)
        for corpus, data in zip(schemes, corpora, strict=True)
    }
    members: dict[str, list[DataDir]] = {"train": [], "valid": [], "test": []}
    for corpus, data in kept.items():
        sizes = _subset_sizes(corpus, kept, schemes, options)
        sizes = replace(sizes, fold=_fold_of(corpus, schemes, options))
        split = make_split(schemes[corpus], data.utterances, sizes).parts()
        data = change_attributes(data, corpus, options)
        labels = options.train_labels.get(corpus, "both")
        if schemes[corpus].tested_only and labels != "none":
            raise UserError(
                f"--train_labels: {corpus} is tested as a whole: write none"
            )
        for part, ids in split.items():
            if part == "test":
                members[part].append(data.select(ids))
            elif labels != "none":
                chosen = data.select(_within(data, ids, options))
                members[part].append(show_labels(chosen, labels))
    sets: Sets = {}
    for part, parts in members.items():
        if not any(data.utterances for data in parts):
            raise UserError(
                f"the {part} set is empty; look at --train_labels and the durations"
            )
        sets[part] = parts[0] if len(corpora) == 1 else combine(parts)
    return sets


def _subset_sizes(
    corpus: str,
    kept: Mapping[str, DataDir],
    schemes: Mapping[str, Scheme],
    options: SetOptions,
) -> SplitOptions:
    """Take a subset's sizes from the corpus it shall be like, as far as there are."""
    like, whole = options.subset_like, schemes[corpus].whole
    if like is None:
        return options.split
    split = replace(options.split, fold=_fold_of(like, schemes, options))
    wanted = make_split(schemes[like], kept[like].utterances, split)
    train, valid = len(wanted.train), len(wanted.valid)
    if whole is not None:
        full = whole(kept[corpus].utterances, options.split)
        train, valid = min(train, len(full.train)), min(valid, len(full.valid))
    return replace(options.split, subset_train=train, subset_valid=valid)


def _fold_of(corpus: str, schemes: Mapping[str, Scheme], options: SetOptions) -> int:
    folds = options.folds
    return folds[[*schemes].index(corpus)] if folds else options.split.fold


def _match_schemes(
    corpora: Sequence[DataDir], options: SetOptions
) -> dict[str, Scheme]:
    """Return each corpus' scheme, in the order of the data directories."""
    manifests = {next(iter(d.utterances.values())).corpus: d for d in reversed(corpora)}
    given: dict[str, Scheme] = {}
    for name in options.schemes:
        own = name.removesuffix(f"_{WHOLE}")
        if name in manifests.keys() - CORPORA.keys():  # a manifest's has its name
            corpus, scheme = name, own_scheme(manifests[name].utterances)
        elif own in manifests.keys() - CORPORA.keys():
            corpus, scheme = own, TEST_ALL
        else:
            corpus, scheme = get_scheme(name)
        if corpus in given:
            raise UserError(f"--scheme: two schemes of {corpus}; give one")
        given[corpus] = scheme
    schemes: dict[str, Scheme] = {}
    for data in corpora:
        corpus, *others = sorted({u.corpus for u in data.utterances.values()})
        if others:
            raise UserError(
                f"one data directory holds {', '.join([corpus, *others])}; give each "
                "corpus as its own data directory, they are combined here"
            )
        if corpus in schemes:
            raise UserError(f"two data directories of {corpus}; give one")
        if corpus not in given:
            raise UserError(f"no --scheme of {corpus} is given; add one")
        schemes[corpus] = given[corpus]
    like = options.subset_like
    named = [("--scheme", corpus) for corpus in given]
    named += [("--train_labels", corpus) for corpus in options.train_labels]
    named += [] if like is None else [("--subset_like", like)]
    for option, corpus in named:
        if corpus not in schemes:
            raise UserError(f"{option} names {corpus}, of which there is no --data")
    if options.legacy_va_order and not schemes.keys() & set(_SWAPPED):
        raise UserError(f"--legacy_va_order: there is no data of {', '.join(_SWAPPED)}")
    if options.folds and len(options.folds) != len(given):
        raise UserError(
            f"--fold: {len(options.folds)} folds for {len(given)} schemes; give one "
            "for each, or one for all"
        )
    if list(given) != list(schemes) and options.folds:
        raise UserError("--fold: give the schemes in the order of --data")
    folds = max(scheme.folds for scheme in schemes.values())
    if not options.folds and options.split.fold > folds:
        raise UserError(
            f"--fold {options.split.fold}: the largest fold of these schemes is {folds}"
        )
    return schemes


def change_attributes(data: DataDir, corpus: str, options: SetOptions) -> DataDir:
    """Clip, map and exchange attributes as asked; missing values stay missing.

    Raises:
        UserError: The corpus' scale is needed and not known.
    """
    exchange = options.legacy_va_order and corpus in _SWAPPED
    scaled = options.clip_attributes or options.unit_attributes

    def changed(u: Utterance) -> Utterance:
        values: Sequence[float] = u.attributes
        if all(map(math.isnan, values)):
            return u
        if scaled and corpus not in data.scales:
            raise UserError(
                f"{corpus}: its attribute scale is not known; add a line "
                f"'{corpus} LOW HIGH' to attribute_scale"
            )
        low, high = data.scales.get(corpus, (-math.inf, math.inf))
        if options.clip_attributes:
            # Of min and max of nan the first argument counts: nan stays.
            values = [min(max(value, low), high) for value in values]
        if options.unit_attributes:
            values = [(value - low) / (high - low) for value in values]
        if exchange:
            # It had [arousal, valence, dominance] where IEMOCAP's had valence first.
            values = [values[1], values[0], values[2]]
        return u.with_attributes(*values)

    if not scaled and not exchange:
        return data
    unit = dict.fromkeys(data.scales, (0.0, 1.0))
    scales = unit if options.unit_attributes else data.scales
    return replace(data.map(changed), scales=scales)


def _within(data: DataDir, ids: Sequence[str], options: SetOptions) -> Sequence[str]:
    """Drop clips that are too short or too long."""
    low, high = options.min_seconds, options.max_seconds
    if low is None and high is None:
        return ids
    if not data.durations:
        raise UserError(
            "limits on the duration need utt2dur; prepare the data with its audio check"
        )
    low, high = low or 0.0, math.inf if high is None else high
    return [id_ for id_ in ids if low <= data.durations[id_] <= high]


def write_sets(
    sets: Sets,
    class_map: ClassMap,
    folder: Path,
    options: SetOptions,
    unusable: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Write set directories, their lists (id, speaker, label) and ``split.json``.

    `unusable` has the reason for each utterance that was left out before the split, for
    there are no features of it. Returns the content of ``split.json``.
    """
    for name, data in sets.items():
        write_set(data, data.utterances, class_map, folder / name)
        records = data.utterances.values()
        manifest = "".join(f"{u.id} {u.speaker} {u.emotion}\n" for u in records)
        write_text(folder / f"{name}.txt", manifest)
    description = {
        "labels": class_map.name,
        "options": asdict(options),
        **describe_sets(sets, class_map),
        "unusable": dict(unusable or {}),
    }
    write_text(folder / "split.json", json.dumps(description, indent=2) + "\n")
    return description


def describe_sets(sets: Sets, class_map: ClassMap) -> dict[str, Any]:
    """Count classes, corpora and labels of each part, and the speakers they share."""
    description: dict[str, Any] = {}
    everyone: dict[str, Utterance] = {}
    for name, data in sets.items():
        everyone |= data.utterances
        records = data.utterances.values()
        classes = Counter(class_map.class_of(u) for u in records)
        description[name] = {
            "utterances": len(records),
            "classes": {c: classes[c] for c in class_map.classes},
            "without_class": classes[None],
            "with_attributes": sum(not math.isnan(u.valence) for u in records),
            "corpora": dict(sorted(Counter(u.corpus for u in records).items())),
            "speakers": len({u.speaker for u in records}),
        }
    for one, other in (("valid", "train"), ("test", "train"), ("test", "valid")):
        shared = shared_speakers(everyone, sets[one].utterances, sets[other].utterances)
        description[f"speakers_in_{one}_and_{other}"] = shared
    return description


def sets_text(description: Mapping[str, Any], class_map: ClassMap) -> str:
    """Return the description for people."""
    columns = [*class_map.classes, "no class", "all", "with V A D", "speakers"]
    rows: dict[str, list[Any]] = {"": columns}
    for part in ("train", "valid", "test"):
        found = description[part]
        rows[part] = [*found["classes"].values(), found["without_class"]]
        rows[part] += [found["utterances"], found["with_attributes"], found["speakers"]]
    lines = [
        part.ljust(7)
        + "  ".join(
            str(cell).rjust(max(8, len(column)))
            for cell, column in zip(cells, columns, strict=True)
        )
        for part, cells in rows.items()
    ]
    if unusable := description.get("unusable"):
        lines.append(
            f"!!! WARNING: {len(unusable)} utterances are in no set, for the feature "
            "store lists their audio as unusable (reasons in split.json): "
            + _some(list(unusable))
        )
    for part in ("train", "valid"):
        if shared := description[f"speakers_in_test_and_{part}"]:
            lines.append(
                f"!!! WARNING: {len(shared)} test speakers are also in {part}: "
                f"{_some(shared)}"
            )
    shared = description["speakers_in_valid_and_train"]
    lines.append(
        f"note: {len(shared)} validation speakers are also training speakers "
        f"({_some(shared)})"
        if shared
        else "no validation speaker is a training speaker"
    )
    return "\n".join(lines) + "\n"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
