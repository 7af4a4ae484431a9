"""Class maps: which label of which corpus is which class.

``conf/labels/NAME.yaml``, for all corpora at once::

    classes: {neu: neutral, ang: angry}     # in the order of the model's outputs
    merge: {frustrated: ang}                # more labels of a class; may be absent
    drop: [excited, other]                  # labels whose utterances are left out

Each corpus module gives its labels these common names (IEMOCAP's ``exc`` is excited). A
label that a map does not name is an error: nothing is dropped or merged silently.

A corpus that is a manifest has labels of its own, and a file of its own for them::

    classes: [neg, pos]
    own:
      my: {angry: neg, sad: neg, happy: pos, bored: null}     # null: left out
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from espnet_ext.corpora.registry import CORPORA, get_corpus
from espnet_ext.corpora.utterance import UNKNOWN, Utterance
from espnet_ext.errors import UserError
from espnet_ext.utils.yaml_files import build, read_yaml, unknown_key

NO_CLASS = -1
"""Class index of an utterance whose class is unknown or hidden."""


@dataclass(frozen=True, slots=True)
class ClassMap:
    """A checked class map.

    Attributes:
        path: Its file.
        classes: In the order of the model's outputs.
        of_name: Common name of a label to its class (None: dropped).
        corpora: For each corpus whose labels are all named, label to class.
        own: Which of them are manifests. Of these, utterances without a label are kept
            for their attributes.
    """

    path: Path
    classes: tuple[str, ...]
    of_name: Mapping[str, str | None]
    corpora: Mapping[str, Mapping[str, str | None]]
    own: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """The file's name without suffix."""
        return self.path.stem

    def class_of(self, utterance: Utterance) -> str | None:
        """Return the class of an utterance, None if the map drops it.

        An utterance without a label (``<unk>``) has no class either.

        Raises:
            UserError: The map does not name every label of the corpus.
        """
        corpus = utterance.corpus
        if self.own and corpus not in self.own:
            raise UserError(f"{self.path}: own: has no entry for {corpus}; add one")
        if corpus not in self.corpora:
            missing = ", ".join(
                f"{name} ({label})"
                for label, name in get_corpus(corpus).labels.items()
                if name not in self.of_name
            )
            raise UserError(
                f"{self.path}: does not name {missing} of {corpus}; put it under "
                "'classes', 'merge' or 'drop'"
            )
        classes = self.corpora[corpus]
        if corpus in self.own and utterance.emotion not in (UNKNOWN, *classes):
            raise UserError(
                f"{self.path}: own: {corpus}: no line for {utterance.emotion}; write "
                "null to drop its utterances"
            )
        return classes.get(utterance.emotion)

    def keeps(self, utterance: Utterance) -> bool:
        """Tell whether an utterance can be trained on: a class, or attributes alone."""
        if self.class_of(utterance) is not None:
            return True
        unlabelled = utterance.corpus in self.own and utterance.emotion == UNKNOWN
        return unlabelled and not all(map(math.isnan, utterance.attributes))

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
