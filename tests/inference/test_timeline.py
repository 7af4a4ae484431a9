import json

import numpy as np
import pytest
import soundfile

from espnet_ext.errors import UserError
from espnet_ext.inference.speech import frame_levels, is_speech
from espnet_ext.inference.timeline import Windows
from inference.conftest import voice

ATTRIBUTES = ("valence", "arousal", "dominance")


def test_a_step_is_the_mean_of_the_windows_over_it(ser):
    wave = voice(np.random.default_rng(0), 3.5)
    found = ser.timeline(wave, window=2.0, hop=1.0, sampling_rate=16000)
    alone = [ser(wave, 16000, start=start, end=start + 2) for start in (0.0, 1.0, 1.5)]
    weights = {0: [1, 0, 0], 1: [1, 1, 0.5], 2: [0, 1, 1], 3: [0, 0, 0.5]}
    assert [(s.start, s.end) for s in found.steps] == [(0, 1), (1, 2), (2, 3), (3, 3.5)]
    for number, step in enumerate(found.steps):
        for name in ATTRIBUTES:
            values = [getattr(answer, name) for answer in alone]
            expected = np.average(values, weights=weights[number])
            assert getattr(step, name) == pytest.approx(expected, abs=1e-5)
        expected = np.average(
            [list(a.scores.values()) for a in alone], axis=0, weights=weights[number]
        )
        assert list(step.scores.values()) == pytest.approx(expected, abs=1e-5)
        assert step.label == max(step.scores, key=step.scores.get)


def test_one_window_is_the_answer_on_the_whole(ser, wav):
    found, answer = ser.timeline(wav, window=10, hop=10), ser(wav)
    (segment,) = found.segments
    assert (segment.start, segment.end) == (0, answer.seconds)
    assert segment.scores == pytest.approx(answer.scores, abs=1e-9)
    assert segment.unit == pytest.approx(answer.unit, abs=1e-9)
    assert segment.label == answer.label


def test_silence_is_no_emotion(ser, tmp_path):
    rng = np.random.default_rng(1)
    silence = 1e-4 * rng.standard_normal(3 * 16000)
    wave = np.concatenate([silence, voice(rng, 3), silence])
    path = tmp_path / "a long one.wav"
    soundfile.write(path, wave, 16000)
    found = ser.timeline(path, window=2, hop=1)
    assert [s.label == "no_speech" for s in found.steps] == [True] * 3 + [False] * 3 + [
        True
    ] * 3
    first, last = found.segments[0], found.segments[-1]
    for segment in (first, last):
        assert segment.label == "no_speech"
        assert segment.scores is segment.valence is segment.unit is None
    lines = found.to_rttm().splitlines()
    spoken = [line.split() for line in lines]
    assert all(x[:3] == ["SPEAKER", "a_long_one", "1"] and len(x) == 10 for x in spoken)
    assert sum(float(x[4]) for x in spoken) == pytest.approx(3)
    assert float(spoken[0][3]) == 3.0
    told = found.summary()
    assert told["seconds_by_label"]["no_speech"] == 6
    assert sum(told["seconds_by_label"].values()) == pytest.approx(9)
    frame = found.to_frame()
    assert len(frame) == 9
    assert frame.loc[~frame.valence.isna(), "valence"].mean() == pytest.approx(
        told["valence"]
    )
    json.dumps(found.to_dict())
    nothing = ser.timeline(np.zeros(50000), 2, 1, sampling_rate=16000)
    assert nothing.summary()["valence"] is None
    assert nothing.to_rttm() == ""
    assert {s.label for s in nothing.segments} == {"no_speech"}


def test_tables_of_all_recordings_have_the_same_columns(ser):
    silence, speech = np.zeros(32000), voice(np.random.default_rng(1), 2)
    waves = [silence, speech, np.concatenate([silence, speech])]
    tables = [ser.timeline(w, 1, 1, sampling_rate=16000).to_frame() for w in waves]
    expected = [
        *("start", "end", "label", *(f"prob_{label}" for label in ser.labels)),
        *(*ATTRIBUTES, "speech"),
    ]
    for table in tables:
        assert list(table.columns) == expected
    assert tables[0].valence.isna().all()


def test_models_without_a_branch(recipe):
    from espnet_ext import SpeechEmotion

    wave = voice(np.random.default_rng(1), 3)
    ser = SpeechEmotion.from_pretrained(recipe.experiment("baseline_c"))
    (segment,) = ser.timeline(wave, 2, 1, 16000).segments
    assert segment.label == "speech"
    assert segment.scores is None
    assert segment.valence is not None
    ser = SpeechEmotion.from_pretrained(recipe.experiment("baseline_d"))
    segment = ser.timeline(wave, 2, 1, 16000).segments[0]
    assert segment.scores is not None
    assert segment.valence is segment.unit is None


@pytest.mark.parametrize("block", [7, 1000, 10**6])
def test_windows_are_cut_from_a_stream(block):
    rng = np.random.default_rng(2)
    wave = rng.standard_normal(100_003).astype(np.float32)
    speech = np.repeat(rng.random(63) < 0.1, 5)[: -(-len(wave) // 320)]
    plan = Windows(len(wave), 9000, 4000, speech)
    blocks = (wave[i : i + block] for i in range(0, len(wave), block))
    found = dict(plan.cut(blocks))
    every = [*range(0, len(wave) - 9000 + 1, 4000), len(wave) - 9000]
    spoken = {i for i in range(len(plan.steps)) if plan.speech[i] >= 0.1}
    assert list(found) == [
        s for s in every if spoken & set(range(s // 4000, -(-(s + 9000) // 4000)))
    ]
    assert 0 < len(found) < len(every)
    for start, window in found.items():
        assert np.array_equal(window, wave[start : start + 9000])


def test_levels():
    time = np.arange(16000) / 16000
    sine = np.sin(2 * np.pi * 1000 * time).astype(np.float32)
    assert frame_levels(sine) == pytest.approx(-3.0103, abs=1e-3)
    assert frame_levels(0.1 * sine) == pytest.approx(-23.0103, abs=1e-3)
    quiet = 10 ** (-40 / 20) * sine
    both = np.concatenate([sine, quiet, np.zeros(16000, np.float32)])
    assert is_speech(frame_levels(both)).reshape(3, 50).mean(axis=1).tolist() == [
        1,
        1,
        0,
    ]


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("window", "hop"),
    [(1, 2), (4, 0), (4000, 1), (4, -1), (NAN, 1), (4, NAN), (INF, 1), (INF, INF)],
)
def test_windows_that_cannot_be(ser, wav, window, hop):
    with pytest.raises(UserError, match="window"):
        ser.timeline(wav, window, hop)


def test_too_long_for_one_answer(ser, tmp_path):
    path = tmp_path / "long.wav"
    soundfile.write(path, np.zeros(8000 * 1900), 8000, "PCM_U8")
    with pytest.raises(UserError, match=r"32 minutes.*timeline"):
        ser(path)
    assert ser(path, start=1800, end=1801).seconds == 1
    assert ser.timeline(path).seconds == 1900
