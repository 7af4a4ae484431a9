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


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda p: p.stem)
def test_every_map_of_the_repository(path):
    class_map = load_class_map(path)
    assert class_map.name == path.stem
    corpora = class_map.corpora.keys()
    if path.stem == "emodb7":  # of one corpus, and CREMA-D's labels are among its
        assert {"emodb"} <= corpora <= registry.CORPORA.keys()
        corpora = {"emodb"}
    else:
        assert corpora == registry.CORPORA.keys()
    for labels in (class_map.corpora[corpus] for corpus in corpora):
        # No class is without a label in any corpus.
        assert set(class_map.classes) == set(labels.values()) - {None}


PAPERS_CLASSES = {
    "iemocap": "neu=neu ang=ang hap=hap sad=sad dis=dis",
    "msp_podcast": "N=neu A=ang H=hap S=sad D=dis",
    "crema_d": "NEU=neu ANG=ang HAP=hap SAD=sad DIS=dis",
    "ravdess": "neutral=neu angry=ang happy=hap sad=sad disgust=dis",
    "emodb": "neutral=neu anger=ang happy=hap sad=sad disgust=dis",
    "meld": "neutral=neu anger=ang joy=hap sadness=sad disgust=dis",
}


@pytest.mark.parametrize("corpus", PAPERS_CLASSES)
def test_the_papers_classes(corpus):
    class_map = load_class_map(FOLDER / "paper5.yaml")
    assert class_map.classes == ("neu", "ang", "hap", "sad", "dis")
    kept = dict(pair.split("=") for pair in PAPERS_CLASSES[corpus].split())
    labels = class_map.corpora[corpus]
    assert labels == dict.fromkeys(labels) | kept
    assert labels.keys() == registry.CORPORA[corpus].labels.keys()


REST = "fearful, surprised, contemptuous, calm, bored, other, no_agreement"
OWN_MAPS = {
    "exc_in_hap5": "classes: {neu: neutral, ang: angry, hap: happy, sad: sad, dis: "
    "disgusted}\nmerge: {excited: hap}\ndrop: [frustrated, " + REST + "]\n",
    "four_no_exc": "classes: {neu: neutral, ang: angry, hap: happy, sad: sad}\n"
    "drop: [disgusted, excited, frustrated, " + REST + "]\n",
}


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("paper5", 4492),
        ("exc_in_hap5", 5533),
        ("four", 5531),
        ("four_no_exc", 4490),
    ],
)
def test_sizes_on_iemocap(real_iemocap, tmp_path, name, size):
    path = FOLDER / f"{name}.yaml"
    if name in OWN_MAPS:
        path = tmp_path / path.name
        path.write_text(OWN_MAPS[name])
    class_map = load_class_map(path)
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


def test_a_label_that_the_map_does_not_name_is_an_error(tmp_path):
    path = tmp_path / "three.yaml"
    classes = "classes: {neu: neutral, neg: angry}"
    path.write_text(f"{classes}\nmerge: {{sad: neg}}\ndrop: [other]")
    happy = Utterance("a", "a.wav", "crema_d", "s", "f", UNKNOWN, "NEU")
    with pytest.raises(UserError) as error:
        load_class_map(path).index_of(happy)
    assert str(error.value).startswith(
        f"{path}: does not name disgusted (DIS), fearful (FEA), happy (HAP) of crema_d"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("drop: [sad]", "classes is missing"),
        ("- neu", "must be a mapping"),
        ("classes: {}", "names no class"),
        ("classes: [neu]", "classes: expected names and values"),
        ("classes: {no: neutral}", "class False: write the name in quotes"),
        ("classes: {neu: neutral}\ncorpora: {}", "corpora is unknown"),
        ("classes: {neu: neutral}\nmerge: [sad]", "merge: expected names and values"),
        ("classes: {neu: neutral}\nmerge: {sad: ang}", "sad: unknown class 'ang'"),
        ("classes: {neu: neutral}\ndrop: sad", "drop: expected a list"),
        ("classes: {neu: neutral}\ndrop: [glad]", "glad is unknown; the nearest key"),
        ("classes: {neu: neutral}\ndrop: [neutral]", "neutral is named twice"),
        ("classes: {neu: sad, ang: sad}", "sad is named twice"),
        (
            "classes:\n  neu: neutral\n  neu: sad\n",
            r"map\.yaml:3: .*'neu' is written twice",
        ),
        ("classes: {neu\n", r"map\.yaml:2: "),
    ],
)
def test_errors(tmp_path, text, message):
    path = tmp_path / "map.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as error:
        load_class_map(path)
    assert str(path) in str(error.value)


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match="No such file"):
        load_class_map(tmp_path / "none.yaml")
