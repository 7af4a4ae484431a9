import math
from pathlib import Path

import pytest

from espnet_ext.corpora.labels import load_class_map
from espnet_ext.corpora.manifest.columns import COLUMNS, PARTS
from espnet_ext.corpora.manifest.corpus import classes_of
from espnet_ext.corpora.manifest.folds import draw_folds, own_scheme
from espnet_ext.corpora.manifest.reader import ManifestOptions, read_manifest
from espnet_ext.corpora.manifest.rows import parse_columns
from espnet_ext.corpora.splits import SplitOptions, make_split
from espnet_ext.corpora.utterance import Utterance
from espnet_ext.errors import UserError

from .manifest_files import read, speech_rows, write_csv, write_jsonl, write_wavs

LABELS = Path(__file__).parents[2] / "conf" / "labels"


def with_(rows, index, **cells):
    """The rows, one of them changed."""
    return [{**row, **cells} if i == index else row for i, row in enumerate(rows)]


# ---- Files


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_spreadsheets_write_tables_in_many_ways(tmp_path, separator, end, bom):
    rows = with_(speech_rows(), 0, path='a, "b"; c.wav')
    path = write_csv(tmp_path / "my.csv", rows, separator, end, bom)
    found = read(path).reading.utterances
    assert len(found) == 12
    first = found['a,_"b";_c']
    assert first.wav == str(tmp_path / 'a, "b"; c.wav')
    assert (first.speaker, first.emotion, first.corpus) == ("s0", "angry", "my")


def test_a_line_end_in_quotes_does_not_shift_line_numbers(tmp_path):
    rows = with_(speech_rows(), 0, remark="two\nlines")
    rows = with_(rows, 2, valence="much")
    path = write_csv(tmp_path / "my.csv", rows)
    with pytest.raises(UserError, match=r"my\.csv:5: valence 'much' is no number"):
        read(path)


def test_json_lines_have_numbers_nulls_and_missing_keys(tmp_path):
    rows = [{**row, "valence": 2, "gender": None} for row in speech_rows()]
    del rows[3]["valence"]
    found = read(write_jsonl(tmp_path / "my.jsonl", rows), attribute_scale=(1, 5))
    values = [u.valence for u in found.reading.utterances.values()]
    assert math.isnan(values.pop(3))
    assert set(values) == {2.0}


def test_rows_may_lack_empty_cells_at_the_end_and_blank_lines_are_skipped(tmp_path):
    path = write_csv(tmp_path / "my.csv", speech_rows())
    text = path.read_text().replace('"sad"\n', '"sad",,\n\n')
    path.write_text(text.replace(',"angry"\n', "\n"))
    with pytest.raises(UserError, match="neither emotion nor attributes") as error:
        read(write_csv(tmp_path / "bare.csv", [{"path": "a.wav"}]))
    assert "bare.csv:2" in str(error.value)
    found = read(path)
    assert len(found.reading.utterances) == 6
    assert found.reading.left_out[0].where == f"{path}:2"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("path,emotion\n", "no rows under the header"),
        ("name,emotion\na.wav,sad\n", r":1: no column names the recordings.*--columns"),
        ("path,wav\na.wav,b.wav\n", r":1: the columns path and wav both mean path"),
        ("path,a,a\nx,y,z\n", ":1: the column a is there twice"),
        ("path,emotion\na.wav,sad,x\n", ":2: 3 cells under 2 columns"),
        ('path,emotion\n"a.wav,sad\n', "is a quote not closed"),
        ('{"path": "a.wav"\n', ":1: not JSON"),
        ('{"path": "a.wav"}\n[1]\n', ":2: not an object"),
    ],
)
def test_a_file_that_is_no_manifest_is_named(tmp_path, text, message):
    path = tmp_path / "my.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as error:
        read(path)
    assert str(path) in str(error.value)


# ---- Columns

ALIASES = [(alias, name) for name, more in COLUMNS.items() for alias in more]


@pytest.mark.parametrize(("alias", "name"), ALIASES)
def test_every_alias_is_its_column(tmp_path, alias, name):
    rows = [
        {"fold": i // 4, "start": i, "end": i + 1, "valence": 3, **row}
        for i, row in enumerate(speech_rows())
    ]
    value = {"split": "train"}.get(name)
    own = [{name: value or f"x{i}", **row} for i, row in enumerate(rows)]
    spelling = alias.replace("_", " ").title()
    theirs = [{spelling if n == name else n: v for n, v in r.items()} for r in own]
    options = {"attribute_scale": (1, 5), "columns": {}}

    def outcome(table):
        try:
            return read(write_csv(tmp_path / "my.csv", table), **options)
        except UserError as error:
            return str(error)

    assert outcome(theirs) == outcome(own)


def test_the_names_of_msp_podcast_need_no_option(tmp_path):
    rows = [
        {
            "FileName": f"{part}{i}.wav",
            "EmoClass": "A",
            "EmoAct": 2.5,
            "EmoVal": 3.5,
            "EmoDom": 4.5,
            "SpkrID": f"{part}{i}",
            "Gender": "Female",
            "Split_Set": part,
        }
        for part in ("Train", "Development", "Test1", "Test2")
        for i in range(2)
    ]
    found = read(write_csv(tmp_path / "my.csv", rows), attribute_scale=(1, 7))
    first = found.reading.utterances["Train0"]
    assert (first.valence, first.arousal, first.dominance) == (3.5, 2.5, 4.5)
    assert (first.gender, first.split, first.emotion) == ("f", "train", "A")
    parts = [u.split for u in found.reading.utterances.values()]
    assert sorted(parts) == ["test", "test", "train", "train", "valid", "valid"]
    assert {item.reason for item in found.reading.left_out} == {"split test2"}


def test_shares_of_raters_give_the_emotion_that_most_chose(tmp_path):
    shares = [(0.6, 0.3, 0.1), (0.2, 0.7, 0.1), (0.45, 0.45, 0.1), (0.1, 0.2, 0.7)]
    rows = [
        {"FileName": f"{part}{i}.wav", "angry": a, "sad": s, "neutral": n}
        | {"SpkrID": part, "Split_Set": part}
        for part in ("Train", "Development", "Test")
        for i, (a, s, n) in enumerate(shares)
    ]
    found = read(write_csv(tmp_path / "my.csv", rows))
    chosen = [found.reading.utterances[f"Test{i}"].emotion for i in (0, 1, 3)]
    assert chosen == ["angry", "sad", "neutral"]
    assert [item.name for item in found.reading.left_out] == [
        "Train2",
        "Development2",
        "Test2",
    ]


def test_columns_of_other_names(tmp_path):
    rows = [
        {"klang": r["path"], "wer": r["speaker"], "emotion": r["emotion"]}
        for r in speech_rows()
    ]
    columns = parse_columns(["klang=path", "wer=speaker"])
    found = read(write_csv(tmp_path / "my.csv", rows), columns=columns)
    assert found.reading.utterances["s0_sad"].speaker == "s0"
    with pytest.raises(UserError, match=r"has no column stimme.*klang, wer, emotion"):
        read(tmp_path / "my.csv", columns={"stimme": "speaker"})
    with pytest.raises(UserError, match="--columns wer=sprecher"):
        parse_columns(["wer=sprecher"])


@pytest.mark.parametrize("name", [*PARTS, "Train", "DEVELOPMENT", "Test1"])
def test_names_of_parts(tmp_path, name):
    rows = [
        {**row, "split": ("train", "valid", "test")[i // 2 % 3]}
        for i, row in enumerate(speech_rows())
    ]
    part = PARTS[name.lower()]
    rows = [{**r, "split": name if r["split"] == part else r["split"]} for r in rows]
    found = read(write_csv(tmp_path / "my.csv", rows))
    assert found.folds == 0
    assert sum(u.split == part for u in found.reading.utterances.values()) == 4


def test_decimal_commas(tmp_path):
    rows = [{**row, "valence": "2,5"} for row in speech_rows()]
    path = write_csv(tmp_path / "my.csv", rows, ";")
    found = read(path, attribute_scale=(1, 5))
    assert {u.valence for u in found.reading.utterances.values()} == {2.5}


# ---- Rows at fault


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"path": ""}, "my.csv:5: no path"),
        ({"id": "s0_angry"}, r"my.csv:5: duplicate id s0_angry, as in \S+my.csv:2"),
        ({"valence": "8"}, "my.csv:5: valence 8 is outside of 1 to 7"),
        ({"arousal": "0.5"}, "my.csv:5: arousal 0.5 is outside of 1 to 7"),
        ({"dominance": "high"}, "my.csv:5: dominance 'high' is no number"),
        ({"valence": "inf"}, "my.csv:5: valence 'inf' is no number"),
        ({"start": "2", "end": "1"}, "my.csv:5: start 2 and end 1: nothing lies"),
        ({"start": "2", "end": "2"}, "my.csv:5: start 2 and end 2: nothing lies"),
        ({"start": "-1", "end": "2"}, "my.csv:5: start -1 and end 2: nothing lies"),
        (
            {"emotion": "Angry"},
            r"in several spellings: Angry \(\S+my.csv:5\) and angry",
        ),
        ({"emotion": "shy"}, "my.csv:5: emotion shy: .* it is not trained on"),
    ],
)
def test_a_row_at_fault_is_named_by_line(tmp_path, cells, message):
    rows = with_(speech_rows(), 3, **cells)
    with pytest.raises(UserError, match=message):
        read(write_csv(tmp_path / "my.csv", rows), attribute_scale=(1, 7))


def splits(rows):
    """Rows with the parts of three pairs of speakers."""
    return [
        {**row, "split": ("train", "valid", "test")[i // 4]}
        for i, row in enumerate(rows)
    ]


@pytest.mark.parametrize(
    ("index", "cells", "message"),
    [
        (3, {"split": "rest"}, "my.csv:5: split 'rest' is not train, valid or test"),
        (3, {"split": ""}, "my.csv:5: no split or fold, where other rows have one"),
        (9, {"speaker": "s0"}, r"my.csv:11: speaker s0 is in test and in train \(.*:2"),
        (11, {"emotion": "shy"}, "my.csv:13: emotion shy: it is in test only"),
    ],
)
def test_a_row_that_spoils_the_split_is_named_by_line(tmp_path, index, cells, message):
    rows = with_(splits(speech_rows()), index, **cells)
    with pytest.raises(UserError, match=message):
        read(write_csv(tmp_path / "my.csv", rows))


def test_many_faults_are_told_at_once(tmp_path):
    rows = [{**row, "valence": 9} for row in speech_rows(15)]
    with pytest.raises(UserError, match="30 faults") as error:
        read(write_csv(tmp_path / "my.csv", rows), attribute_scale=(1, 7))
    text = str(error.value)
    assert all(f"my.csv:{line}:" in text for line in range(2, 22))
    assert text.endswith("and 10 more")


def test_attributes_need_their_scale(tmp_path):
    rows = [{**row, "valence": i / 2} for i, row in enumerate(speech_rows())]
    message = r"my.csv:13: attributes from 0 to 5.5 without their scale.*--attribute_sc"
    with pytest.raises(UserError, match=message):
        read(write_csv(tmp_path / "my.csv", rows))


def test_a_scale_begins_with_its_lowest_value():
    with pytest.raises(UserError, match="scale 7 1: the lowest value comes first"):
        ManifestOptions(attribute_scale=(7, 1))


def test_missing_files_are_left_out_by_line_and_all_of_them_are_an_error(tmp_path):
    rows = speech_rows()
    path = write_csv(tmp_path / "my.csv", rows)
    with pytest.raises(UserError, match=r"my.csv:2: .*missing file.*--corpus_root \("):
        read_manifest(path, "my", ManifestOptions())
    write_wavs(tmp_path / "wav", rows[1:])
    found = read_manifest(path, "my", ManifestOptions(root=tmp_path / "wav"))
    (lost,) = found.reading.left_out
    assert (lost.name, lost.reason) == ("s0_angry", "missing file")
    assert lost.where == f"{path}:2"
    assert len(found.reading.utterances) == 11


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "1: the file is empty; write it"),
        (b"path,emotion\na\x03b,sad\n", "2: binary data .* 'CSV UTF-8'"),
    ],
)
def test_unreadable_files_say_what_to_do_with_a_table(tmp_path, content, message):
    path = tmp_path / "my.csv"
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"my.csv:{message}"):
        read_manifest(path, "my", ManifestOptions())


@pytest.mark.parametrize(("name", "message"), [("a b", "letters"), ("emodb", "reader")])
def test_names_of_corpora(tmp_path, name, message):
    path = write_csv(tmp_path / "my.csv", speech_rows())
    with pytest.raises(UserError, match=message):
        read_manifest(path, name, ManifestOptions(check_files=False))


# ---- Splits


def parts_of(found, fold):
    utterances = found.reading.utterances
    scheme = own_scheme(utterances)
    split = make_split(scheme, utterances, SplitOptions(fold=fold))
    return scheme, {
        part: [utterances[i] for i in ids] for part, ids in split.parts().items()
    }


def test_drawn_folds_share_no_speaker_and_have_near_equal_classes(tmp_path):
    rows = [
        {"path": f"{s}_{e}_{i}.wav", "speaker": s, "emotion": e}
        for s in range(23)
        for e, count in (("angry", 2 + s % 3), ("sad", 4), ("rare", s % 2))
        for i in range(count)
    ]
    found = read(write_csv(tmp_path / "my.csv", rows))
    assert found.folds == 5
    tested = []
    for fold in range(1, 6):
        scheme, parts = parts_of(found, fold)
        assert scheme.folds == 5
        speakers = [{u.speaker for u in part} for part in parts.values()]
        assert not speakers[0] & speakers[1]
        assert not speakers[2] & (speakers[0] | speakers[1])
        tested += [u.id for u in parts["test"]]
        for emotion in ("angry", "sad", "rare"):
            share = sum(u.emotion == emotion for u in parts["test"]) / sum(
                r["emotion"] == emotion for r in rows
            )
            assert 0.1 < share < 0.3  # a fifth
    assert sorted(tested) == sorted(found.reading.utterances)


def test_the_seed_draws_other_folds_and_the_same_seed_the_same(tmp_path):
    path = write_csv(tmp_path / "my.csv", speech_rows(20))

    def folds(seed):
        return [u.split for u in read(path, seed=seed).reading.utterances.values()]

    assert folds(1) == folds(1)
    assert folds(1) != folds(2)


def test_sessions_are_kept_together_where_no_speaker_is_in_two(tmp_path):
    rows = [{**r, "session": int(r["speaker"][1:]) // 2} for r in speech_rows(8)]
    found = read(write_csv(tmp_path / "my.csv", rows))
    assert found.folds == 4
    folds = {}
    for row, utterance in zip(rows, found.reading.utterances.values(), strict=True):
        folds.setdefault(row["session"], set()).add(utterance.split)
    assert all(len(parts) == 1 for parts in folds.values())


def test_without_speakers_the_folds_are_random_and_that_is_said_loudly(tmp_path):
    rows = [{"path": r["path"], "emotion": r["emotion"]} for r in speech_rows(20)]
    found = read(write_csv(tmp_path / "my.csv", rows))
    assert found.folds == 5
    assert any("!!! WARNING" in n and "AT RANDOM" in n for n in found.reading.notes)
    named = read(write_csv(tmp_path / "named.csv", speech_rows(20)))
    assert not any("AT RANDOM" in n for n in named.reading.notes)


def test_folds_of_a_handful_with_a_class_each():
    people = ["a", "b", "c", "d", "e", "f"]
    folds = draw_folds(people, people, 5, seed=0)
    assert set(folds) == {1, 2, 3, 4, 5}


def test_given_folds(tmp_path):
    rows = [
        {**r, "fold": f"Ses0{1 + int(r['speaker'][1:]) // 2}"} for r in speech_rows(8)
    ]
    found = read(write_csv(tmp_path / "my.csv", rows))
    assert found.folds == 4
    _, parts = parts_of(found, 1)
    assert {u.speaker for u in parts["test"]} == {"s0", "s1"}
    assert {u.speaker for u in parts["valid"]} == {"s6", "s7"}
    assert any("1 is Ses01" in note for note in found.reading.notes)
    with pytest.raises(
        UserError, match=r"my\.csv:5: speaker s1 is in fold2 and in fold1"
    ):
        read(write_csv(tmp_path / "my.csv", with_(rows, 3, fold="Ses02")))
    with pytest.raises(UserError, match="2 folds: at least 3"):
        read(write_csv(tmp_path / "my.csv", rows[:8]))


def test_a_split_without_validation_draws_it_from_training_by_speakers(tmp_path):
    rows = [
        {**row, "split": "train" if i < 20 else "test"}
        for i, row in enumerate(speech_rows(12))
    ]
    found = read(write_csv(tmp_path / "my.csv", rows))
    speakers = {}
    for utterance in found.reading.utterances.values():
        speakers.setdefault(utterance.split, set()).add(utterance.speaker)
    assert speakers["test"] == {"s10", "s11"}
    assert speakers["valid"]
    assert not speakers["valid"] & speakers["train"]
    assert any("validate, drawn by speakers" in note for note in found.reading.notes)


def test_shared_speakers_can_be_allowed_and_are_then_said(tmp_path):
    rows = with_(splits(speech_rows()), 9, speaker="s0")
    path = write_csv(tmp_path / "my.csv", rows)
    found = read(path, shared_speakers=True)
    assert any("!!! WARNING" in n and "s0" in n for n in found.reading.notes)


def test_a_class_map_decides_what_a_class_is(tmp_path):
    rows = with_(splits(speech_rows()), 11, emotion="shy")
    path = write_csv(tmp_path / "my.csv", rows)
    assert read(path, class_of={"angry": "a", "sad": "b", "shy": None}.get).folds == 0
    assert read(path, class_of={"angry": "a", "sad": "b", "shy": "b"}.get).folds == 0


@pytest.mark.parametrize("first", ["a b.wav", "gone/a b.wav"])
def test_paths_that_make_the_same_id_are_named_both(tmp_path, first):
    rows = speech_rows()
    # The first one may be left out, for it is missing: its line is named all the same.
    write_wavs(tmp_path, rows[1:])
    other = first.replace(" ", "_").replace("/", "_")
    rows = with_(with_(rows, 0, path=first), 5, path=other)
    path = write_csv(tmp_path / "my.csv", rows)
    text = (
        rf"my.csv:7: duplicate id .*a_b, as in \S+my.csv:2; .*/{first} and .*/{other} "
    )
    with pytest.raises(UserError, match=f"{text}make the same one: add a column id"):
        read(path, check_files=True)
    numbered = [{**row, "id": number} for number, row in enumerate(rows)]
    assert len(read(write_csv(path, numbered)).reading.utterances) == len(rows)


COMMON = {
    "neutral": ("neutral", "neu", "N", "NEU", "Neutral"),
    "angry": ("angry", "anger", "ang", "A"),
    "happy": ("happy", "hap", "happiness", "joy", "H"),
    "sad": ("sad", "sadness", "S"),
    "disgusted": ("disgusted", "disgust", "dis", "D"),
    None: ("excited", "fear", "surprise", "frustration", "contempt", "xxx", "boredom"),
}


@pytest.mark.parametrize(("name", "label"), [(n, x) for n in COMMON for x in COMMON[n]])
def test_class_maps_of_common_names_apply_to_the_usual_labels(name, label):
    class_map = load_class_map(LABELS / "paper5.yaml")
    utterance = Utterance("u", "u.wav", "my", "s", "f", "fold1", label)
    short = {"disgusted": "dis", "neutral": "neu", "angry": "ang", "happy": "hap"}
    assert class_map.class_of(utterance) == short.get(name, name)


@pytest.mark.parametrize(
    ("labels", "emotion", "message"),
    [
        ("paper5", "shy", r"emotion shy: \S+paper5.yaml: shy of my is no label"),
        ("emodb7", "O", r"emotion O: \S+emodb7.yaml: does not name other \(O\) of my"),
    ],
)
def test_a_label_that_a_class_map_lacks_is_named_by_line(
    tmp_path, labels, emotion, message
):
    path = write_csv(tmp_path / "my.csv", with_(speech_rows(), 3, emotion=emotion))
    classes = classes_of(LABELS / f"{labels}.yaml", "my")
    with pytest.raises(UserError, match=f"my.csv:5: {message}"):
        read(path, class_of=classes)


# ---- Labels and pieces


def test_either_kind_of_label_may_be_missing_per_row(tmp_path):
    rows = [{**row, "valence": 3, "arousal": 4} for row in speech_rows()]
    rows = with_(with_(rows, 0, emotion=""), 1, valence="", arousal="nan")
    found = read(write_csv(tmp_path / "my.csv", rows), attribute_scale=(1, 5))
    utterances = found.reading.utterances
    assert utterances["s0_angry"].emotion == "<unk>"
    assert math.isnan(utterances["s0_sad"].valence)
    assert math.isnan(utterances["s1_sad"].dominance)
    assert found.labels == ("angry", "sad")
    assert found.attribute_scale == (1, 5)


def test_attributes_alone_and_classes_alone(tmp_path):
    bare = [{"path": r["path"], "speaker": r["speaker"]} for r in speech_rows()]
    values = [{**row, "arousal": 1} for row in bare]
    found = read(write_csv(tmp_path / "my.csv", values), attribute_scale=(-1, 1))
    assert (found.labels, found.attribute_scale) == ((), (-1, 1))
    found = read(write_csv(tmp_path / "my.csv", speech_rows()))
    assert found.attribute_scale is None


def test_pieces_of_a_recording(tmp_path):
    rows = [
        {**row, "path": "long.wav", "start": i, "end": i + 1.5}
        for i, row in enumerate(speech_rows())
    ]
    found = read(write_csv(tmp_path / "my.csv", rows))
    piece = found.reading.utterances["long-00001000-00002500"]
    assert piece.wav == f"{tmp_path}/long.wav#t=1,2.5"
    assert len(found.reading.utterances) == 12


def test_paths_are_meant_from_the_manifest_or_from_the_root(tmp_path):
    path = write_csv(tmp_path / "my.csv", speech_rows())
    wavs = {u.wav for u in read(path).reading.utterances.values()}
    assert f"{tmp_path}/s0_sad.wav" in wavs
    wavs = {u.wav for u in read(path, root=Path("/data")).reading.utterances.values()}
    assert "/data/s0_sad.wav" in wavs


def test_what_is_only_tested_needs_no_other_part_and_no_speakers(tmp_path):
    rows = [{"path": f"{e}.wav", "emotion": e} for e in ("angry", "sad")]
    path = write_csv(tmp_path / "my.csv", [{**row, "split": "test"} for row in rows])
    with pytest.raises(UserError, match="cannot train and validate"):
        read(path)
    for given in (path, write_csv(tmp_path / "bare.csv", rows)):
        found = read(given, test_only=True)
        assert found.folds == 0
        assert found.reading.notes == []
        assert {u.split for u in found.reading.utterances.values()} == {"test"}
