"""Class maps: which label of which corpus is which class.

``conf/labels/NAME.yaml``::

    classes: [neu, ang, hap, sad, dis]      # the order of the model's outputs
    corpora:
      iemocap: {neu: neu, ang: ang, hap: hap, sad: sad, dis: dis, exc: null, ...}

Every label of a corpus is listed; null drops its utterances. So nothing is dropped or
merged that the file does not say.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from espnet_ext.corpora.registry import get_corpus
from espnet_ext.corpora.utterance import Utterance
from espnet_ext.errors import UserError

NO_CLASS = -1
"""Class index of an utterance whose class is unknown or hidden."""


@dataclass(frozen=True, slots=True)
class ClassMap:
    """A checked class map.

    Attributes:
        name: The file's name without suffix.
        classes: In the order of the model's outputs.
        corpora: For each corpus, label to class (None: dropped).
    """

    name: str
    classes: tuple[str, ...]
    corpora: Mapping[str, Mapping[str, str | None]]

    def class_of(self, utterance: Utterance) -> str | None:
        """Return the class of an utterance, None if the map drops it.

        An utterance without a label (``<unk>``) has no class either.

        Raises:
            UserError: The map does not know the corpus.
        """
        if utterance.corpus not in self.corpora:
            raise UserError(
                f"class map {self.name}: no entry for corpus {utterance.corpus}; add "
                f"it under 'corpora:' in conf/labels/{self.name}.yaml"
            )
        return self.corpora[utterance.corpus].get(utterance.emotion)

    def index_of(self, utterance: Utterance) -> int:
        """Return the class index of an utterance, -1 where it has no class."""
        name = self.class_of(utterance)
        return NO_CLASS if name is None else self.classes.index(name)


def load_class_map(path: Path | str) -> ClassMap:
    """Read and check a class map.

    Raises:
        UserError: The file is no class map, or it names a corpus, label or class that
            does not exist, or leaves out a label of a corpus that it names.
    """
    path = Path(path)
    content = _load_yaml(path)
    if set(content) != {"classes", "corpora"}:
        raise UserError(f"{path}: a class map has the keys 'classes' and 'corpora'")
    classes = content["classes"]
    if not isinstance(classes, list) or not classes:
        raise UserError(f"{path}: 'classes' must be a list of names")
    classes = tuple(map(str, classes))
    if len(set(classes)) < len(classes):
        raise UserError(f"{path}: a class is listed twice in {list(classes)}")
    if not isinstance(content["corpora"], dict) or not content["corpora"]:
        raise UserError(f"{path}: 'corpora' must map corpus names to labels")
    for corpus, labels in content["corpora"].items():
        _check_labels(path, corpus, labels, classes)
    return ClassMap(path.stem, classes, content["corpora"])


class _StrictLoader(yaml.SafeLoader):
    """Refuses a key that is written twice; keeps every scalar but null as text.

    YAML reads a bare ``N`` as text but ``no`` as false, and the later of two equal keys
    would silently win.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for index, ((key_node, _), key) in enumerate(
            zip(node.value, keys, strict=True)
        ):
            if key in keys[:index]:
                raise yaml.MarkedYAMLError(
                    problem=f"key {key!r} is written twice",
                    problem_mark=key_node.start_mark,
                )
        return super().construct_mapping(node, deep)


_StrictLoader.add_constructor(
    "tag:yaml.org,2002:bool", lambda loader, node: str(node.value)
)


def _load_yaml(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"{path}: {error.strerror}; class maps are in conf/labels"
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text") from error
    try:
        content = yaml.load(text, Loader=_StrictLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UserError(f"{path}:{line}: {error.problem}") from error
    except yaml.YAMLError as error:
        raise UserError(f"{path}: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: not a mapping with 'classes' and 'corpora'")
    return content


def _check_labels(
    path: Path, corpus: str, labels: object, classes: tuple[str, ...]
) -> None:
    known = get_corpus(corpus).labels
    if not isinstance(labels, dict):
        raise UserError(f"{path}: {corpus}: must map labels to classes or null")
    for label, name in labels.items():
        if label not in known:
            raise UserError(
                f"{path}: {corpus}: unknown label {label!r}; it has {', '.join(known)}"
            )
        if name is not None and name not in classes:
            raise UserError(
                f"{path}: {corpus}: {label}: unknown class {name!r}; the file's "
                f"classes are {', '.join(classes)}"
            )
    missing = [label for label in known if label not in labels]
    if missing:
        raise UserError(
            f"{path}: {corpus}: no line for {', '.join(missing)}; write null to drop "
            "their utterances"
        )
