from pathlib import Path

import pytest

from corpora.iemocap_tree import COUNTS, EMOTIONS
from espnet_ext.corpora import registry
from espnet_ext.corpora.datadir import read_data_dir
from espnet_ext.corpora.labels import load_class_map
from espnet_ext.corpora.sets import keep_classes
from espnet_ext.corpora.utterance import UNKNOWN, Utterance
from espnet_ext.errors import UserError

FOLDER = Path(__file__).parents[2] / "conf" / "labels"
EMODB = (
    "anger: ang, boredom: null, disgust: dis, fear: null, happy: hap, sad: sad, "
    "neutral: neu"
)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda p: p.stem)
def test_every_map_of_the_repository(path):
    class_map = load_class_map(path)
    assert class_map.name == path.stem
    for labels in class_map.corpora.values():
        # No class is without a label in any corpus of the map.
        assert set(class_map.classes) == set(labels.values()) - {None}


def test_every_corpus_has_the_papers_classes():
    class_map = load_class_map(FOLDER / "paper5.yaml")
    assert class_map.classes == ("neu", "ang", "hap", "sad", "dis")
    assert class_map.corpora.keys() == registry.CORPORA.keys()


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("paper5", 4492),
        ("exc_in_hap5", 5533),
        ("four", 5531),
        ("four_no_exc", 4490),
    ],
)
def test_sizes_on_iemocap(real_iemocap, name, size):
    class_map = load_class_map(FOLDER / f"{name}.yaml")
    kept = keep_classes(read_data_dir(real_iemocap[1]), class_map)
    assert len(kept.utterances) == size
    totals = dict(
        zip(EMOTIONS, map(sum, zip(*COUNTS.values(), strict=True)), strict=True)
    )
    labels = class_map.corpora["iemocap"]
    assert sum(totals[label] for label in labels if labels[label]) == size


def test_index(tmp_path):
    class_map = load_class_map(FOLDER / "paper5.yaml")

    def index(emotion: str) -> int:
        return class_map.index_of(
            Utterance("a", "a.wav", "iemocap", "s", "f", "Session1", emotion)
        )

    assert [index(e) for e in ("neu", "ang", "hap", "sad", "dis")] == [0, 1, 2, 3, 4]
    assert index("exc") == index(UNKNOWN) == -1
    other = Utterance("a", "a.wav", "meld", "s", "f", "train", "joy")
    with pytest.raises(UserError, match="msp8: no entry for corpus meld"):
        load_class_map(FOLDER / "msp8.yaml").index_of(other)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("classes: [neu]", "has the keys"),
        ("- neu", "not a mapping"),
        ("classes: neu\ncorpora: {}", "'classes' must be a list"),
        ("classes: [neu, neu]\ncorpora: {emodb: {}}", "listed twice"),
        ("classes: [neu]\ncorpora: []", "'corpora' must map"),
        ("classes: [neu]\ncorpora: {emodb: neu}", "must map labels"),
        ("classes: [neu]\ncorpora: {timit: {a: neu}}", "no corpus is named 'timit'"),
        (f"classes: [neu]\ncorpora: {{emodb: {{{EMODB}}}}}", "unknown class 'ang'"),
        ("classes: [neu]\ncorpora: {emodb: {bored: neu}}", "unknown label 'bored'"),
        ("classes: [neu]\ncorpora: {emodb: {neutral: neu}}", "no line for anger"),
        (
            "classes: [neu]\ncorpora:\n  emodb:\n    sad: neu\n    sad: null\n",
            r"map\.yaml:5: key 'sad' is written twice",
        ),
        ("classes: [neu\n", r"map\.yaml:2: "),
    ],
)
def test_errors(tmp_path, text, message):
    path = tmp_path / "map.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as error:
        load_class_map(path)
    assert "timit" in message or str(path) in str(error.value)


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match="No such file"):
        load_class_map(tmp_path / "none.yaml")
