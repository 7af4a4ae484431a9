"""Class maps: which label of which corpus is which class.

``conf/labels/NAME.yaml``, for all corpora at once::

    classes: {neu: neutral, ang: angry}     # in the order of the model's outputs
    merge: {frustrated: ang}                # more labels of a class; may be absent
    drop: [excited, other]                  # labels whose utterances are left out

Each corpus module gives its labels these common names (IEMOCAP's ``exc`` is excited). A
label that a map does not name is an error: nothing is dropped or merged silently.

Of a corpus that is a manifest, labels are known by the common names, by what any corpus
here calls them (``N``, ``neu``, ``anger``) and by `MORE_NAMES`, in any case. Labels of
its own have a file of their own::

    classes: [neg, pos]
    own:
      my: {angry: neg, sad: neg, happy: pos, bored: null}     # null: left out
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from espnet_ext.corpora.registry import CORPORA
from espnet_ext.corpora.utterance import UNKNOWN, Utterance
from espnet_ext.errors import UserError
from espnet_ext.utils.yaml_files import build, read_yaml, unknown_key

NO_CLASS = -1
"""Class index of an utterance whose class is unknown or hidden."""

MORE_NAMES = {
    **{"happiness": "happy", "excitement": "excited", "frustration": "frustrated"},
    **{"contempt": "contemptuous", "con": "contemptuous", "calmness": "calm"},
    **{"bor": "bored", "cal": "calm"},
}
"""Names of labels in other corpora's tables, and the common ones."""


def common_name(label: str) -> str | None:
    """Return the common name of a label, None where none is known."""
    return _common_names().get(label.lower())


@cache
def _common_names() -> dict[str, str]:
    names = [pair for corpus in CORPORA.values() for pair in corpus.labels.items()]
    common = {name: name for _, name in names}
    return MORE_NAMES | {label.lower(): name for label, name in names} | common


@dataclass(frozen=True, slots=True)
class ClassMap:
    """A checked class map; None is the class of a label that is dropped."""

    path: Path
    classes: tuple[str, ...]  # in the order of the model's outputs
    of_name: Mapping[str, str | None]  # common name of a label to its class
    # For each corpus whose labels are all named, label to class.
    corpora: Mapping[str, Mapping[str, str | None]]
    own: frozenset[str] = frozenset()  # manifests among them with labels of their own

    @property
    def name(self) -> str:
        """The file's name without suffix."""
        return self.path.stem

    def class_of(self, utterance: Utterance) -> str | None:
        """Return the class of an utterance; see `class_of_label`."""
        return self.class_of_label(utterance.emotion, utterance.corpus)

    def class_of_label(self, label: str, corpus: str) -> str | None:
        """Return the class of a label, None if it is missing or the map drops it.

        Raises:
            UserError: The map does not name the label; or another one of the corpus,
                if that is no manifest.
        """
        if self.own and corpus not in self.own:
            raise UserError(
                f"{self.path}: own: has no entry for {corpus}; write its labels as\n"
                f"own:\n  {corpus}: {{LABEL: CLASS, OTHER: null}}"
            )
        if corpus in self.corpora:
            classes = self.corpora[corpus]
            if corpus in self.own and label not in (UNKNOWN, *classes):
                raise UserError(
                    f"{self.path}: own: {corpus}: no line for {label}; write null to "
                    "drop its utterances"
                )
            return classes.get(label)
        if corpus in CORPORA:
            names = CORPORA[corpus].labels
        else:
            if label == UNKNOWN:
                return None
            name = common_name(label)
            if name is not None and name in self.of_name:
                return self.of_name[name]
            if name is None:
                known = ", ".join(sorted(set(_common_names().values())))
                raise UserError(
                    f"{self.path}: {label} of {corpus} is no label that is known here "
                    f"({known}); rename it, or write a class map with own: for {corpus}"
                )
            names = {label: name}
        missing = ", ".join(
            f"{n} ({label})" for label, n in names.items() if n not in self.of_name
        )
        raise UserError(
            f"{self.path}: does not name {missing} of {corpus}; put it under "
            "'classes', 'merge' or 'drop'"
        )

    def keeps(self, utterance: Utterance) -> bool:
        """Tell whether an utterance can be trained on: its class, or attributes alone.

        Of a corpus that is a manifest, an utterance without a label is kept for its
        attributes.
        """
        if self.class_of(utterance) is not None:
            return True
        corpus, emotion = utterance.corpus, utterance.emotion
        bare = emotion == UNKNOWN and (corpus in self.own or corpus not in CORPORA)
        return bare and not all(map(math.isnan, utterance.attributes))

    def index_of(self, utterance: Utterance) -> int:
        """Return the class index of an utterance, -1 where it has no class."""
        name = self.class_of(utterance)
        return NO_CLASS if name is None else self.classes.index(name)


@dataclass(frozen=True, slots=True)
class _OwnFile:
    classes: tuple[str, ...]
    own: dict[str, dict[str, str | None]]


@dataclass(frozen=True, slots=True)
class _File:
    classes: dict[str, str]
    merge: dict[str, str] = field(default_factory=dict)
    drop: tuple[str, ...] = ()


def load_class_map(path: Path | str) -> ClassMap:
    """Read and check a class map.

    Raises:
        UserError: The file is no class map, names a label or class that does not exist,
            or a label twice.
    """
    path = Path(path)
    content = read_yaml(path)
    if "own" in content:
        return _own_class_map(path, content)
    file = build(_File, content, str(path))
    for name in content["classes"]:
        if not isinstance(name, str):  # YAML reads a bare no as false
            raise UserError(f"{path}: class {name!r}: write the name in quotes")
    if not file.classes:
        raise UserError(f"{path}: 'classes' names no class")
    for name, target in file.merge.items():
        if target not in file.classes:
            known = ", ".join(file.classes)
            raise UserError(
                f"{path}: merge: {name}: unknown class {target!r}; there are {known}"
            )
    named: list[tuple[str, str | None]] = [(n, c) for c, n in file.classes.items()]
    named += [*file.merge.items(), *((name, None) for name in file.drop)]
    known_names = {name for c in CORPORA.values() for name in c.labels.values()}
    of_name: dict[str, str | None] = {}
    for name, of_class in named:
        if name not in known_names:
            raise unknown_key(name, known_names, path)
        if name in of_name:
            raise UserError(f"{path}: {name} is named twice")
        of_name[name] = of_class
    corpora = {
        corpus.name: {label: of_name[name] for label, name in corpus.labels.items()}
        for corpus in CORPORA.values()
        if of_name.keys() >= set(corpus.labels.values())
    }
    return ClassMap(path, tuple(file.classes), of_name, corpora)


def _own_class_map(path: Path, content: Mapping[str, Any]) -> ClassMap:
    """Make the class map of manifests."""
    file = build(_OwnFile, content, str(path))
    if not file.classes or not file.own:
        raise UserError(f"{path}: 'classes' and 'own' must name classes and labels")
    if len(set(file.classes)) < len(file.classes):
        raise UserError(f"{path}: a class is listed twice in {list(file.classes)}")
    for corpus, labels in content["own"].items():
        for label, name in labels.items():
            if not isinstance(label, str):  # YAML reads a bare no as false
                raise UserError(f"{path}: own: {corpus}: {label!r}: write it in quotes")
            if name is not None and name not in file.classes:
                raise UserError(
                    f"{path}: own: {corpus}: {label}: unknown class {name!r}; the "
                    f"file's classes are {', '.join(file.classes)}"
                )
    return ClassMap(path, file.classes, {}, file.own, frozenset(file.own))
