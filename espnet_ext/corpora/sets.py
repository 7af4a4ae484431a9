"""Sets: the utterances of one part of a split, with their classes.

A set directory is a data directory and, beside it, ``utt2class`` (index in the order of
``classes``, -1 where unknown or hidden) and ``classes`` (a name a line). Here, and only
here, raw labels become targets: the class map is applied, labels are hidden for the
mismatched training of Table 2, attributes may be clipped or mapped to [0, 1].
"""

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from espnet_ext.corpora.datadir import (
    DataDir,
    Scale,
    combine,
    replaced_dir,
    write_data_files,
)
from espnet_ext.corpora.labels import ClassMap
from espnet_ext.corpora.registry import get_scheme
from espnet_ext.corpora.splits import (
    Scheme,
    SplitOptions,
    make_split,
    shared_speakers,
)
from espnet_ext.corpora.utterance import UNKNOWN, Utterance
from espnet_ext.errors import UserError

TRAIN_LABELS = ("none", "continuous", "discrete", "both")
"""Labels that training shows: neither, the attributes, the emotion, or both."""

_SWAPPED = "msp_podcast"  # the corpus that `legacy_va_order` is about


def keep_classes(data: DataDir, class_map: ClassMap) -> DataDir:
    """Keep the utterances to which the map gives a class."""
    utterances = data.utterances
    return data.select(
        id_ for id_, u in utterances.items() if class_map.class_of(u) is not None
    )


def show_labels(utterance: Utterance, labels: str) -> Utterance:
    """Return the utterance with some of its labels alone.

    Args:
        utterance: With its labels.
        labels: One of `TRAIN_LABELS`: ``discrete`` shows the emotion, ``continuous``
            the attributes.

    Raises:
        UserError: They are none of these.
    """
    if labels not in TRAIN_LABELS:
        raise UserError(
            f"{labels!r} is no kind of labels; there are {', '.join(TRAIN_LABELS)}"
        )
    if labels not in ("discrete", "both"):
        utterance = replace(utterance, emotion=UNKNOWN)
    if labels not in ("continuous", "both"):
        nan = math.nan
        utterance = replace(utterance, valence=nan, arousal=nan, dominance=nan)
    return utterance


def swap_valence_arousal(utterance: Utterance) -> Utterance:
    """Return the utterance with valence and arousal exchanged (``legacy_va_order``).

    The paper's released MSP-Podcast preparation used [arousal, valence, dominance]
    where it used [valence, arousal, dominance] for IEMOCAP; this shows the effect.
    """
    return replace(utterance, valence=utterance.arousal, arousal=utterance.valence)


def map_attributes(
    data: DataDir, change: Callable[[float, float, float], float]
) -> DataDir:
    """Apply `change(value, low, high)` to every attribute, given its corpus' scale.

    Missing values stay missing.

    Raises:
        UserError: A corpus has attributes but no scale.
    """

    def changed(utterance: Utterance) -> Utterance:
        values = (utterance.valence, utterance.arousal, utterance.dominance)
        if all(map(math.isnan, values)):
            return utterance
        if utterance.corpus not in data.scales:
            raise UserError(
                f"{utterance.corpus}: its attribute scale is not known; add a line "
                f"'{utterance.corpus} LOW HIGH' to attribute_scale"
            )
        low, high = data.scales[utterance.corpus]
        valence, arousal, dominance = (change(value, low, high) for value in values)
        return replace(utterance, valence=valence, arousal=arousal, dominance=dominance)

    utterances = {id_: changed(u) for id_, u in data.utterances.items()}
    return DataDir(utterances, data.durations, data.scales)


def clip_attributes(data: DataDir) -> DataDir:
    """Bring attributes outside their corpus' scale to its ends."""
    # min and max of nan depend on the order of arguments; this order keeps nan.
    return map_attributes(data, lambda value, low, high: min(max(value, low), high))


def unit_attributes(data: DataDir) -> DataDir:
    """Map each corpus' attribute scale to [0, 1]."""
    mapped = map_attributes(data, lambda value, low, high: (value - low) / (high - low))
    unit: dict[str, Scale] = dict.fromkeys(data.scales, (0.0, 1.0))
    return DataDir(mapped.utterances, mapped.durations, unit)


def write_set(
    data: DataDir,
    ids: Iterable[str],
    class_map: ClassMap,
    output: Path | str,
    labels: str = "both",
) -> None:
    """Write a set directory in one step.

    Args:
        data: Holds the utterances.
        ids: Which of them.
        class_map: Gives each its class; an utterance without one gets -1.
        output: An older set directory there is replaced.
        labels: Which labels it shows: one of `TRAIN_LABELS`.

    Raises:
        UserError: No ids, an unknown kind of labels, or `output` is something else.
    """
    chosen = data.select(ids)
    if not chosen.utterances:
        raise UserError(f"{output}: the set is empty")
    chosen = _show(chosen, labels)
    with replaced_dir(output, marker="utt2class") as folder:
        write_data_files(folder, chosen)
        (folder / "utt2class").write_text(
            "".join(
                f"{id_} {class_map.index_of(utterance)}\n"
                for id_, utterance in chosen.utterances.items()
            ),
            encoding="utf-8",
        )
        (folder / "classes").write_text(
            "".join(f"{name}\n" for name in class_map.classes), encoding="utf-8"
        )


@dataclass(frozen=True, slots=True)
class SetOptions:
    """How sets are made.

    Attributes:
        schemes: Names of split schemes, one for each corpus.
        split: Fold, seed and sizes.
        subset_like: Corpus whose train and valid sets replace the sizes in `split`;
            another corpus that has fewer utterances gives all of them.
        train_labels: Corpus to the labels that train and valid show; ``both`` where it
            is not named. A corpus with ``none`` is only tested.
        min_seconds: Shorter clips are not in train and valid.
        max_seconds: Longer clips are not in train and valid.
        clip_attributes: Bring attributes outside the scale to its ends.
        unit_attributes: Map attributes to [0, 1].
        legacy_va_order: Exchange valence and arousal of MSP-Podcast.
    """

    schemes: Sequence[str]
    split: SplitOptions = field(default_factory=SplitOptions)
    subset_like: str | None = None
    train_labels: Mapping[str, str] = field(default_factory=dict)
    min_seconds: float | None = None
    max_seconds: float | None = None
    clip_attributes: bool = False
    unit_attributes: bool = False
    legacy_va_order: bool = False


@dataclass(frozen=True, slots=True)
class Sets:
    """The three parts of a split, with the labels that each may show."""

    train: DataDir
    valid: DataDir
    test: DataDir

    def parts(self) -> dict[str, DataDir]:
        """Return the parts by name."""
        return {"train": self.train, "valid": self.valid, "test": self.test}


def make_sets(
    corpora: Sequence[DataDir], class_map: ClassMap, options: SetOptions
) -> Sets:
    """Apply class map, split schemes and label options.

    Args:
        corpora: One data directory a corpus. With several, ids and speakers get the
            corpus as prefix.
        class_map: Utterances to which it gives no class are dropped before splitting,
            for the continuous models as for the discrete ones.
        options: The rest.

    Raises:
        UserError: The options do not fit the data, or a part is empty.
    """
    schemes = _match_schemes(corpora, options)
    split_options = _with_sizes(
        dict(zip(schemes, corpora, strict=True)), schemes, class_map, options
    )
    parts: dict[str, list[DataDir]] = {"train": [], "valid": [], "test": []}
    for corpus, data in zip(schemes, corpora, strict=True):
        data = keep_classes(data, class_map)
        split = make_split(
            schemes[corpus],
            data.utterances,
            _within_reach(split_options, corpus, schemes, data, options),
        )
        data = _with_options(data, corpus, options)
        test = data.select(split.test)
        parts["test"].append(test)
        for name in ("train", "valid"):
            labels = options.train_labels.get(corpus, "both")
            ids = _within(data, split.parts()[name], options)
            if labels != "none":
                parts[name].append(_show(data.select(ids), labels))
    joined = {}
    for name, members in parts.items():
        if not any(data.utterances for data in members):
            raise UserError(
                f"the {name} set is empty; look at --train_labels and the durations"
            )
        joined[name] = members[0] if len(corpora) == 1 else combine(members)
    return Sets(**joined)


def _with_sizes(
    corpora: Mapping[str, DataDir],
    schemes: Mapping[str, Scheme],
    class_map: ClassMap,
    options: SetOptions,
) -> SplitOptions:
    """Fill in the sizes of a subset from the sets of the corpus it shall be like."""
    like = options.subset_like
    if like is None:
        return options.split
    if like not in corpora:
        raise UserError(f"--subset_like {like}: there is no --data of it")
    utterances = keep_classes(corpora[like], class_map).utterances
    split = make_split(schemes[like], utterances, options.split)
    return replace(
        options.split, subset_train=len(split.train), subset_valid=len(split.valid)
    )


def _within_reach(
    wanted: SplitOptions,
    corpus: str,
    schemes: Mapping[str, Scheme],
    data: DataDir,
    options: SetOptions,
) -> SplitOptions:
    """Bound the sizes of a subset like another corpus' by what this corpus has."""
    whole = schemes[corpus].whole
    if options.subset_like is None or whole is None:
        return wanted
    split = whole(data.utterances, options.split)
    return replace(
        wanted,
        subset_train=min(wanted.subset_train, len(split.train)),
        subset_valid=min(wanted.subset_valid, len(split.valid)),
    )


def _match_schemes(
    corpora: Sequence[DataDir], options: SetOptions
) -> dict[str, Scheme]:
    """Return each corpus' scheme, in the order of the data directories."""
    given: dict[str, Scheme] = {}
    for name in options.schemes:
        corpus, scheme = get_scheme(name)
        if corpus in given:
            raise UserError(f"--scheme: two schemes of {corpus}; give one")
        given[corpus] = scheme
    schemes: dict[str, Scheme] = {}
    for data in corpora:
        names = {u.corpus for u in data.utterances.values()}
        if len(names) > 1:
            raise UserError(
                f"one data directory holds {', '.join(sorted(names))}; give each "
                "corpus as its own data directory, they are combined here"
            )
        (corpus,) = names
        if corpus in schemes:
            raise UserError(f"two data directories of {corpus}; give one")
        if corpus not in given:
            raise UserError(f"no --scheme of {corpus} is given; add one")
        schemes[corpus] = given[corpus]
    for option, named in (
        ("--scheme", given),
        ("--train_labels", options.train_labels),
    ):
        for corpus in named:
            if corpus not in schemes:
                raise UserError(f"{option} names {corpus}, of which there is no --data")
    if options.legacy_va_order and _SWAPPED not in schemes:
        raise UserError(f"--legacy_va_order: there is no data of {_SWAPPED}")
    if options.split.fold > max(scheme.folds for scheme in schemes.values()):
        raise UserError(
            f"--fold {options.split.fold}: the largest fold of these schemes is "
            f"{max(scheme.folds for scheme in schemes.values())}"
        )
    return schemes


def _with_options(data: DataDir, corpus: str, options: SetOptions) -> DataDir:
    """Clip, map and exchange attributes as asked."""
    if options.clip_attributes:
        data = clip_attributes(data)
    if options.unit_attributes:
        data = unit_attributes(data)
    if options.legacy_va_order and corpus == _SWAPPED:
        swapped = {i: swap_valence_arousal(u) for i, u in data.utterances.items()}
        data = DataDir(swapped, data.durations, data.scales)
    return data


def _within(data: DataDir, ids: Sequence[str], options: SetOptions) -> Sequence[str]:
    """Drop clips that are too short or too long."""
    low, high = options.min_seconds, options.max_seconds
    if low is None and high is None:
        return ids
    low = -math.inf if low is None else low
    high = math.inf if high is None else high
    if not data.durations:
        raise UserError(
            "limits on the duration need utt2dur; run ser_check_audio on the data"
        )
    return [id_ for id_ in ids if low <= data.durations[id_] <= high]


def _show(data: DataDir, labels: str) -> DataDir:
    shown = {id_: show_labels(u, labels) for id_, u in data.utterances.items()}
    return DataDir(shown, data.durations, data.scales)


def write_sets(
    sets: Sets,
    class_map: ClassMap,
    folder: Path,
    options: SetOptions,
    unusable: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Write the set directories, the manifests and ``split.json`` into a folder.

    Args:
        sets: The parts.
        class_map: Gives each utterance its class.
        folder: Where to write.
        options: How the sets were made.
        unusable: The reason for each utterance that was left out before the split,
            for there are no features of it.

    Returns:
        The content of ``split.json``.
    """
    for name, data in sets.parts().items():
        write_set(data, data.utterances, class_map, folder / name)
        (folder / f"{name}.txt").write_text(manifest(data), encoding="utf-8")
    description = {
        "labels": class_map.name,
        "options": asdict(options),
        **describe_sets(sets, class_map),
        "unusable": dict(unusable or {}),
    }
    (folder / "split.json").write_text(
        json.dumps(description, indent=2) + "\n", encoding="utf-8"
    )
    return description


def manifest(data: DataDir) -> str:
    """Return a manifest: a line with id, speaker and own label of each utterance."""
    return "".join(
        f"{id_} {u.speaker} {u.emotion}\n" for id_, u in data.utterances.items()
    )


def describe_sets(sets: Sets, class_map: ClassMap) -> dict[str, Any]:
    """Count classes, corpora and labels of each part, and the speakers they share."""
    description: dict[str, Any] = {}
    for name, data in sets.parts().items():
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
    everyone = {i: u for d in sets.parts().values() for i, u in d.utterances.items()}
    for left, right in (("valid", "train"), ("test", "train"), ("test", "valid")):
        description[f"speakers_in_{left}_and_{right}"] = shared_speakers(
            everyone,
            sets.parts()[left].utterances,
            sets.parts()[right].utterances,
        )
    return description


def sets_text(description: Mapping[str, Any], class_map: ClassMap) -> str:
    """Return the description for people."""
    columns = [*class_map.classes, "no class", "all", "with V A D", "speakers"]
    lines = ["       " + "  ".join(name.rjust(8) for name in columns)]
    for part in ("train", "valid", "test"):
        found = description[part]
        numbers = [*found["classes"].values(), found["without_class"]]
        numbers += [found["utterances"], found["with_attributes"], found["speakers"]]
        lines.append(
            part.ljust(7)
            + "  ".join(
                str(number).rjust(max(8, len(name)))
                for number, name in zip(numbers, columns, strict=True)
            )
        )
    if unusable := description.get("unusable"):
        lines.append(
            f"!!! WARNING: {len(unusable)} utterances are in no set, for the feature "
            f"store lists their audio as unusable (reasons in split.json): "
            f"{_some(list(unusable))}"
        )
    for part in ("train", "valid"):
        shared = description[f"speakers_in_test_and_{part}"]
        if shared:
            lines.append(
                f"!!! WARNING: {len(shared)} test speakers are also in {part}: "
                f"{_some(shared)}"
            )
    shared = description["speakers_in_valid_and_train"]
    if shared:
        lines.append(
            f"note: {len(shared)} validation speakers are also training speakers "
            f"({_some(shared)})"
        )
    else:
        lines.append("no validation speaker is a training speaker")
    return "\n".join(lines) + "\n"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
