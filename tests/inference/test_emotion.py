import csv
import io
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import soundfile
import torch

from espnet_ext import SpeechEmotion
from espnet_ext.corpora.audio import load_waveform
from espnet_ext.errors import UserError
from espnet_ext.features.config import UpstreamConfig
from espnet_ext.features.upstream import load_checkpoint
from espnet_ext.inference import EmotionResult, Failure
from inference.conftest import CLASSES, MODELS, voice

ATTRIBUTES = ("valence", "arousal", "dominance")


@pytest.mark.parametrize("model", MODELS)
def test_numbers_are_those_of_predictions_csv(recipe, model):
    ser = SpeechEmotion.from_pretrained(recipe.experiment(model))
    test = recipe.experiment(model) / "test"
    attention, vectors = (
        np.load(test / f"{n}.npz") for n in ("attention", "embeddings")
    )
    rows = list(csv.DictReader((test / "predictions.csv").open()))
    answers = ser([recipe.wavs[r["utterance"]] for r in rows], embeddings=True)
    assert len({a.valence or a.scores["happy"] for a in answers}) == len(rows)
    for row, answer in zip(rows, answers, strict=True):
        if model == "baseline_c":
            assert answer.label is None
            assert answer.scores is None
            assert answer.to_hf() == []
        else:
            told = [float(row[f"prob_{name}"]) for name in CLASSES]
            assert list(answer.scores.values()) == pytest.approx(told, abs=1.1e-6)
            assert CLASSES[ser.labels.index(answer.label)] == row["emotion_pred"]
        if model == "baseline_d":
            assert answer.valence is answer.unit is answer.scale is None
        else:
            told = [float(row[f"{name}_pred"]) for name in ATTRIBUTES]
            mine = [getattr(answer, name) for name in ATTRIBUTES]
            assert mine == pytest.approx(told, abs=1.1e-6)
            assert answer.unit["valence"] == pytest.approx((mine[0] - 1) / 4)
        for branch in answer.attention:
            key = f"{row['utterance']}/{branch}"
            assert answer.attention[branch] == pytest.approx(attention[key], abs=1e-6)
            assert answer.embeddings[branch] == pytest.approx(vectors[key], abs=1e-5)
        json.dumps(answer.to_dict(arrays="with"))


def test_every_form_of_a_recording_gives_the_same(ser, wav):
    wave, rate = soundfile.read(wav, dtype="float32")
    whole, _ = soundfile.read(wav, dtype="int16")
    content = wav.read_bytes()
    with open(wav, "rb") as stream:
        forms = [
            ser(str(wav)),
            ser(content),
            ser(stream),
            ser(io.BytesIO(content)),
            ser(wave, sampling_rate=rate),
            ser(whole, sampling_rate=rate),
            ser(np.stack([wave, wave]), rate),
            ser(np.stack([wave, wave], axis=1), rate),
            ser(torch.from_numpy(wave)[None], rate),
            ser(wave.tolist(), rate),
            ser({"array": wave, "sampling_rate": rate}),
            ser({"bytes": content, "path": None}),
            ser({"path": str(wav)}),
        ]
    expected = ser(wav)
    for answer in forms:
        assert answer.scores == expected.scores
        assert answer.arousal == expected.arousal
        assert answer.speech == expected.speech > 0.9


@pytest.mark.parametrize(
    ("suffix", "rate", "channels"),
    [("wav", 44100, 2), ("flac", 8000, 1), ("ogg", 48000, 1), ("mp3", 44100, 2)],
)
def test_files_of_other_kinds(ser, tmp_path, suffix, rate, channels):
    wave = voice(np.random.default_rng(1), 1.5, rate)
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, np.stack([wave] * channels, axis=1), rate)
    answer = ser(path)
    assert answer.scores == ser(load_waveform(path), 16000).scores
    assert answer.scores == ser(path.read_bytes()).scores
    streamed = ser(path, start=0).scores  # read in blocks
    assert list(streamed.values()) == pytest.approx(list(answer.scores.values()), 1e-3)


@pytest.mark.parametrize("part", [{"start": np.nan, "end": 1}, {"end": np.inf}])
def test_times_that_are_no_seconds(ser, wav, part):
    with pytest.raises(UserError, match="hold no time"):
        ser(wav, **part)


def test_a_piece_that_cannot_be_stops_no_other(ser, wav):
    reversed_piece, behind, whole = ser(
        [f"{wav}#t=1,0.5", f"{wav}#t=100,101", wav], errors="return"
    )
    assert "the piece ends before it begins" in reversed_piece.error
    assert "(nothing is there from 100 s on)" in behind.error
    assert whole.label is not None


def test_a_part(ser, wav):
    wave, _ = soundfile.read(wav, dtype="float32")
    part = ser(wav, start=0.25, end=1.0)
    assert part.scores == ser(wave[4000:16000], 16000).scores
    assert part.seconds == 0.75
    assert ser(wav, end=0.5).scores == ser(wave[:8000], 16000, start=0, end=9).scores
    with pytest.raises(UserError, match="hold no time"):
        ser(wav, start=2, end=1)
    with pytest.raises(UserError, match="ends at"):
        ser(wav, start=1000)


def test_results_for_people_and_pipelines(ser, wav):
    answer = ser(wav)
    assert isinstance(answer, EmotionResult)
    ranked = answer.to_hf()
    assert ranked[0]["label"] == answer.label
    assert [r["score"] for r in ranked] == sorted(answer.scores.values(), reverse=True)
    assert sum(answer.scores.values()) == pytest.approx(1)
    assert set(answer.scores) == {"neutral", "angry", "happy", "sad", "disgusted"}


BAD = {
    "empty.wav": (lambda p: soundfile.write(p, np.zeros(0), 16000), "no samples"),
    "nothing.wav": (lambda p: p.write_bytes(b""), "no bytes"),
    "short.wav": (lambda p: soundfile.write(p, np.ones(320) / 2, 16000), "0.0200 s"),
    "nan.wav": (
        lambda p: soundfile.write(p, np.full(9000, np.nan), 16000, "FLOAT"),
        "no numbers",
    ),
    "text.wav": (lambda p: p.write_text("not audio\n" * 99), "no audio"),
    "cut.wav": (
        lambda p: p.write_bytes(
            (soundfile.write(p, np.ones(9000) / 3, 16000), p.read_bytes()[:9000])[1]
        ),
        "cut off",
    ),
    "missing.wav": (lambda p: None, "No such file"),
    "folder.wav": (lambda p: p.mkdir(), "a folder"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_named(ser, wav, tmp_path, name):
    make, reason = BAD[name]
    path = tmp_path / name
    make(path)
    with pytest.raises(UserError, match=reason) as caught:
        ser(path)
    assert str(path) in str(caught.value)
    good, bad = ser([wav, str(path)], errors="return")
    assert good == ser(wav)
    assert isinstance(bad, Failure)
    assert bad.source == str(path)
    assert reason in bad.error
    if name != "cut.wav":  # a timeline takes what is there
        with pytest.raises(UserError, match=str(path)):
            ser.timeline(path)
    if path.is_file() and path.stat().st_size:
        with pytest.raises(UserError, match=reason) as caught:
            ser(path.read_bytes())
        assert "/proc" not in str(caught.value)


@pytest.mark.parametrize(
    ("audio", "rate", "reason"),
    [
        (np.zeros(16000), None, "sampling_rate"),
        (np.zeros(0), 16000, "without samples"),
        (np.full(16000, np.nan), 16000, "no numbers"),
        (np.zeros((2, 3, 100)), 16000, "expected"),
        (np.zeros((100, 100)), 16000, "which axis"),
        (np.zeros(16000, np.uint8), 16000, "zero is not known"),
        (np.zeros(16000), 5, "sampling_rate is 5"),
        (np.zeros(320), 16000, "0.0200 s"),
        (None, None, "no recording"),
        ({}, None, "expected array"),
        (io.StringIO("x"), None, "binary"),
        (b"", None, "no bytes"),
    ],
)
def test_bad_values_are_explained(ser, audio, rate, reason):
    with pytest.raises(UserError, match=reason):
        ser(audio, sampling_rate=rate)


@pytest.mark.parametrize("samples", [500, 799])
def test_a_clip_too_short_for_its_upstream_is_named(
    ser, tmp_path, monkeypatch, samples
):
    """S3prl's upstreams and eGeMAPS need more than HuBERT's 400 samples."""
    online = ser._network._online
    for part in (online, online._upstream[0]):
        monkeypatch.setattr(part, "min_samples", 800, raising=False)
    path = tmp_path / "clip.wav"
    soundfile.write(path, np.ones(samples) / 9, 16000)
    message = rf"clip\.wav: {samples / 16000:.4f} s of sound; at least 0\.050 s are"
    for answer in (ser, ser.timeline):
        with pytest.raises(UserError, match=message):
            answer(path)


def test_doubtful_answers_say_so(ser, recipe):
    rng = np.random.default_rng(0)
    silent = ser(np.zeros(20000, np.float32), 16000)
    assert silent.speech == 0
    assert "no speech" in silent.warnings[0]
    assert "no speech" in ser(1e-4 * rng.standard_normal(20000), 16000).warnings[0]
    short = ser(voice(rng, 0.3), 16000)
    assert short.warnings == ("shorter than any training clip (0.30 s < 0.80 s)",)
    assert "longer than any" in ser(voice(rng, 5), 16000).warnings[0]
    assert ser(voice(rng, 1.5), 16000).warnings == ()
    # A level gate: noise passes it, as the README says.
    assert ser(0.1 * rng.standard_normal(20000), 16000).speech == 1
    assert ser(0.01 * voice(rng, 1.5), 16000).warnings == ()  # soft


def test_what_is_no_speech_is_answered_all_the_same(ser):
    """Music, noise and a clip played backwards: numbers, and nothing warns."""
    time_ = np.arange(24000) / 16000
    chord = sum(np.sin(2 * np.pi * f * time_) for f in (220, 277.2, 329.6))
    music = 0.1 * chord * np.exp(-3 * (time_ % 0.5))
    clip = voice(np.random.default_rng(2), 1.5)
    noise = 0.1 * np.random.default_rng(3).standard_normal(24000)
    for wave in (music, noise, clip[::-1].copy()):
        answer = ser(wave, 16000)
        assert answer.label in answer.scores
        assert sum(answer.scores.values()) == pytest.approx(1)
        assert answer.speech > 0.9
        assert answer.warnings == ()
        steps = ser.timeline(wave, 0.5, 0.5, 16000).steps
        assert "no_speech" not in {step.label for step in steps}


def test_threads_share_a_model(ser, recipe):
    wavs = [str(w) for w in recipe.wavs.values()] * 3
    expected = [a.scores for a in ser(wavs)]
    with ThreadPoolExecutor(6) as pool:
        assert [a.scores for a in pool.map(ser, wavs)] == expected


def test_another_upstream_is_warned_of(recipe, tmp_path, wav):
    from espnet_ext.mini.upstream import write_tiny_hubert

    write_tiny_hubert(tmp_path / "other", seed=1)
    with pytest.warns(UserWarning, match="other weights"):
        ser = SpeechEmotion.from_pretrained(
            recipe.experiment(), upstream=tmp_path / "other"
        )
    assert "other weights" in ser(wav).warnings[0]
    with pytest.raises(UserError, match="no such folder"):
        SpeechEmotion.from_pretrained(recipe.experiment(), upstream="/not/there")


@pytest.mark.parametrize("source", ["huggingface", "s3prl", "torchaudio"])
def test_an_upstreams_folder_without_its_config(tmp_path, source):
    with pytest.raises(UserError, match=f"{tmp_path}: no config.json"):
        load_checkpoint(UpstreamConfig(source, str(tmp_path)))


def test_importing_is_instant_and_registers_the_task():
    code = (
        "import sys, espnet_ext, espnet_ext.inference as i, espnet; "
        "assert espnet.TASKS['ser'] == ('espnet_ext.inference', 'SpeechEmotion'); "
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError):
        __import__("espnet_ext").Nothing  # noqa: B018


TRAINING_STACK = (
    *("espnet2.tasks", "espnet2.train.trainer", "espnet2.train.dataset", "s3prl"),
    *("tensorboard", "librosa", "numba", "sklearn", "scipy", "matplotlib", "pandas"),
    *("transformers", "torchaudio", "torch._dynamo", "sympy"),
)


def test_an_answer_imports_nothing_of_a_training(recipe, wav):
    code = (
        "import sys; from espnet_ext.bin.ser import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as left: assert left.code == 0\n"
        f"loaded = {set(TRAINING_STACK)} & set(sys.modules); assert not loaded, loaded"
    )
    options = ("--device", "cpu", "--model", str(recipe.experiment()))
    done = subprocess.run(
        [sys.executable, "-c", code, "predict", *options, str(wav)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # no remark of ESPnet's
    assert str(wav) in done.stdout


def test_half_precision_answers_nearly_the_same(ser, recipe, wav):
    half = SpeechEmotion.from_pretrained(
        recipe.experiment(), device="cpu", dtype="bfloat16"
    )
    exact, answer = ser(wav), half(wav)
    assert answer.scores != exact.scores
    # bfloat16 keeps 8 bits: 0.4 % of a number, here after two layers.
    assert answer.scores == pytest.approx(exact.scores, abs=0.01)
    for name in ATTRIBUTES:
        assert getattr(answer, name) == pytest.approx(getattr(exact, name), abs=0.04)
    with pytest.raises(UserError, match=r"dtype is 'half'.*float32, bfloat16"):
        SpeechEmotion.from_pretrained(recipe.experiment(), dtype="half")
