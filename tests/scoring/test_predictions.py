"""Reading predictions.csv: what is accepted, and each refusal by name."""

import numpy as np
import pytest

from espnet_ext.errors import UserError
from espnet_ext.scoring.predictions import read_predictions
from espnet_ext.scoring.reference import read_reference

from .conftest import HEADER, ROWS


def changed(row, **values):
    """Return ROWS with columns of one row changed."""
    rows = [line.split(",") for line in ROWS]
    for column, value in values.items():
        rows[row][HEADER.split(",").index(column)] = value
    return [",".join(fields) for fields in rows]


def test_rows_are_aligned_by_id(write_csv):
    found = read_predictions(write_csv([ROWS[2], ROWS[0], ROWS[1]]))
    assert found.ids == ("u1", "u2", "u3")
    assert found.speaker == ("s1", "s1", "s2")
    assert found.gender == ("f", "f", "m")
    assert found.classes == ("neu", "ang")
    np.testing.assert_array_equal(found.true_class, [0, 1, 0])
    np.testing.assert_array_equal(found.pred_class, [0, 0, 0])
    np.testing.assert_allclose(found.probabilities[:, 1], [0.1, 0.4, 0.3])
    np.testing.assert_array_equal(found.true["dominance"], [3, 4, 5])
    np.testing.assert_array_equal(found.pred["valence"], [2, 3, 4])


def test_blank_is_unknown_or_not_predicted(write_csv):
    blanks = {"emotion_pred": "", "prob_neu": "", "prob_ang": ""}
    rows = changed(0, emotion="", valence="", **blanks)[:1]
    rows += changed(1, emotion="<unk>", **blanks)[1:2] + changed(2, **blanks)[2:]
    found = read_predictions(write_csv(rows))
    assert not found.predicts_classes
    assert found.predicts_attributes
    assert found.probabilities is None
    assert found.classes == ("neu", "ang")
    np.testing.assert_array_equal(found.true_class, [-1, -1, 0])
    assert np.isnan(found.true["valence"][0])


def test_file_of_another_system(write_csv):
    # No probabilities, no speakers, other columns, a byte order mark, Windows lines.
    path = write_csv(
        ["b,sad,sad,7", 'a,hap,"sad",8'], "utterance,emotion,emotion_pred,x"
    )
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    found = read_predictions(path)
    assert found.ids == ("a", "b")
    assert found.classes == ("hap", "sad")
    assert not found.classes_declared
    assert found.speaker == found.gender == found.corpus == ("<unk>", "<unk>")
    assert not found.predicts_attributes
    np.testing.assert_array_equal(found.pred_class, [1, 1])


def test_truth_from_a_set_directory(write_csv, set_dir):
    path = write_csv(["u1,ang", "u3,neu", "u2,ang"], "utterance,emotion_pred")
    found = read_predictions(path, read_reference(set_dir))
    assert found.classes == ("neu", "ang")
    np.testing.assert_array_equal(found.true_class, [0, 1, 0])
    np.testing.assert_array_equal(found.pred_class, [1, 1, 0])
    np.testing.assert_array_equal(found.true["dominance"], [3, 4, np.nan])
    assert found.speaker == ("s1", "s1", "s2")


def test_reference_agrees_with_a_full_file(write_csv, set_dir):
    assert read_predictions(write_csv(), read_reference(set_dir)).ids[0] == "u1"


def test_select_and_with_classes(write_csv):
    found = read_predictions(write_csv())
    women = found.select(np.array([g == "f" for g in found.gender]))
    assert women.ids == ("u1", "u2")
    np.testing.assert_array_equal(women.true["valence"], [1, 2])
    turned = found.with_classes(("ang", "neu"))
    np.testing.assert_array_equal(turned.true_class, [1, 0, 1])
    np.testing.assert_allclose(turned.probabilities[0], [0.1, 0.9])
    with pytest.raises(UserError, match=r"its classes are neu, ang, but another file"):
        found.with_classes(("neu", "ang", "sad"))


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        (ROWS, HEADER.replace("utterance", "utt"), r"csv:1: no column 'utterance'"),
        (
            ROWS,
            HEADER.replace("corpus", "speaker"),
            "csv:1: column 'speaker' occurs tw",
        ),
        ([], HEADER, "no row after the header"),
        ([ROWS[0], ROWS[1][:-2]], HEADER, "csv:3: 13 fields, but the header has 14"),
        ([ROWS[0], 'u2,"x'], HEADER, "csv:3: unexpected end of data"),
        ([*ROWS, ROWS[1]], HEADER, "csv:5: u2: duplicate; first on line 3"),
        (changed(1, utterance=""), HEADER, "csv:3: no utterance id"),
        (changed(1, valence_pred="nan"), HEADER, "csv:3: u2: valence_pred is nan: a p"),
        (changed(1, arousal="inf"), HEADER, "csv:3: u2: arousal is inf"),
        (changed(1, dominance="x"), HEADER, "u2: dominance is 'x', which is no number"),
        (
            changed(2, emotion="joy"),
            HEADER,
            "csv:4: u3: emotion is the unknown class 'j",
        ),
        (changed(2, emotion_pred="joy"), HEADER, "u3: emotion_pred is the unknown cla"),
        (changed(2, emotion_pred=""), HEADER, "csv:4: u3: emotion_pred is blank here"),
        (changed(2, arousal_pred=""), HEADER, "csv:4: u3: arousal_pred is blank here"),
        (changed(2, prob_neu=""), HEADER, "csv:4: u3: prob_neu is blank here"),
        (changed(0, prob_neu="0.8"), HEADER, "u1: the prob_ columns sum to 0.9, not"),
        (changed(0, prob_neu="-3.1"), HEADER, "prob_neu is -3.1, which is no probabi"),
        (ROWS, HEADER.replace("dominance_pred", "x"), "column dominance_pred is missi"),
        (["u1,neu"], "utterance,emotion", "no predictions: expected emotion_pred, or"),
        (["u1,neu"], "utterance,emotion_pred", "no truth to score against: fill the c"),
        (["u1,neu,,1"], "utterance,emotion,emotion_pred,prob_neu", "prob_ columns are"),
    ],
)
def test_refused_by_name(write_csv, rows, header, message):
    with pytest.raises(UserError, match=message):
        read_predictions(write_csv(rows, header))


def test_refuses_what_is_no_text_file(tmp_path):
    with pytest.raises(UserError, match=r"none\.csv: no such predictions file"):
        read_predictions(tmp_path / "none.csv")
    (tmp_path / "bytes.csv").write_bytes(b"utterance\n\xff\xfe\n")
    with pytest.raises(UserError, match=r"bytes\.csv: not UTF-8 text"):
        read_predictions(tmp_path / "bytes.csv")


def test_missing_and_extra_utterances(write_csv, tmp_path):
    manifest = tmp_path / "test.txt"
    manifest.write_text("u1\nu2\nu3\nu4\nu5\n")
    with pytest.raises(UserError, match=r"2 utterances missing; .*txt has u4, u5"):
        read_predictions(write_csv(), read_reference(manifest))
    manifest.write_text("u1\nu3\n")
    with pytest.raises(UserError, match=r"1 utterance extra; .*txt has not got u2"):
        read_predictions(write_csv(), read_reference(manifest))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (changed(1, emotion="neu"), "u2: emotion is neu here and ang in the reference"),
        (changed(1, arousal="3.5"), "u2: arousal is 3.5 here and 3.0 in the reference"),
    ],
)
def test_truth_that_contradicts_the_reference(write_csv, set_dir, rows, message):
    with pytest.raises(UserError, match=message):
        read_predictions(write_csv(rows), read_reference(set_dir))


def test_classes_that_contradict_the_reference(write_csv, set_dir):
    path = write_csv(header=HEADER.replace("prob_ang", "prob_sad"))
    with pytest.raises(
        UserError, match=r"prob_ columns are for neu, sad, but .*classes"
    ):
        read_predictions(path, read_reference(set_dir))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("utt2spk", "u1 s1\nu1 s1\n", "utt2spk: u1 occurs twice"),
        ("utt2spk", "u1 s1\nu2\n", "utt2spk:2: expected 'utterance value', got 'u2'"),
        ("utt2spk", "\n", "utt2spk: empty file"),
        ("utt2class", "u1 2\n", "utt2class: u1: class id '2'; expected -1 .* to 1"),
        ("attributes", "u1 1 2\n", "attributes:1: expected 'utterance valence arou"),
        ("attributes", "u1 1 2 x\n", "attributes:1: expected 'utterance valence ar"),
    ],
)
def test_malformed_reference(set_dir, name, text, message):
    (set_dir / name).write_text(text)
    with pytest.raises(UserError, match=message):
        read_reference(set_dir)


def test_reference_that_is_none(tmp_path):
    with pytest.raises(UserError, match="no such reference"):
        read_reference(tmp_path / "absent")
    with pytest.raises(UserError, match="no set directory"):
        read_reference(tmp_path)
