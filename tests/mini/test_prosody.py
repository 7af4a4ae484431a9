from dataclasses import fields, replace

import numpy as np
import pytest
from scipy.signal import welch
from scipy.stats import spearmanr

from espnet_ext.mini import prosody as p

SPEAKER = p.Speaker("a", "f", "en-us+f3", 0, 0, 1.0, 0, 0, 0)
FLAT = p.Prosody(50, 50, 175, 0, -26.0, 0.0, 0.0, 0.0, 0.0)
SILENT = p.Channel(noise=-120.0, highpass=1.0, lowpass=1e6)


def draw(emotion: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    vad = np.stack([p.draw_vad(emotion, rng) for _ in range(count)])
    drawn = [p.draw_prosody(row, SPEAKER, rng) for row in vad]
    names = [field.name for field in fields(p.Prosody)]
    return vad, np.array([[getattr(d, name) for name in names] for d in drawn])


@pytest.mark.parametrize("emotion", ["neu", "ang", "sad"])
def test_values_scatter_around_the_class_mean(emotion):
    vad, _ = draw(emotion, 2000)
    np.testing.assert_allclose(vad.mean(axis=0), p.EMOTIONS[emotion], atol=0.03)
    np.testing.assert_allclose(vad.std(axis=0), p.SPREAD, atol=0.03)


def test_no_agreement_lies_between_emotions():
    vad, _ = draw("xxx", 500)
    assert vad.std(axis=0).min() > p.SPREAD.max()
    assert vad.min() >= 1
    assert vad.max() <= 5


def test_prosody_follows_the_values():
    drawn = [draw(emotion, 100) for emotion in p.EMOTIONS]
    vad = np.concatenate([one for one, _ in drawn])
    sound = np.concatenate([two for _, two in drawn])
    names = [field.name for field in fields(p.Prosody)]

    def rank_correlation(dimension: int, name: str) -> float:
        return spearmanr(vad[:, dimension], sound[:, names.index(name)]).statistic

    assert rank_correlation(1, "pitch") > 0.7
    assert rank_correlation(1, "rate") > 0.5
    assert rank_correlation(1, "word_gap") < -0.4
    assert rank_correlation(0, "smile") > 0.7
    assert rank_correlation(0, "roughness") < -0.7
    assert rank_correlation(2, "tremor") < -0.7
    assert rank_correlation(2, "level") > 0.5


def test_speakers_differ_and_voices_repeat_last():
    speakers = p.draw_speakers("fm" * 5, list("abcdefghij"), p.PLAIN_VOICES, [1])
    assert len({s.voice for s in speakers}) == 10
    assert [s.gender for s in speakers] == list("fm" * 5)
    more = p.draw_speakers("f" * 6, list("abcdef"), p.PLAIN_VOICES, [1])
    assert len({s.voice for s in more}) == 5


def render(prosody: p.Prosody, channel: p.Channel = SILENT) -> np.ndarray:
    noise = np.random.default_rng(1).standard_normal(16000).astype(np.float32)
    rng = np.random.default_rng(2)
    return p.render(0.1 * noise, prosody, channel, rng) / 32768


def test_level_is_in_decibels_of_full_scale():
    inner = render(FLAT)[3200:-3200]
    assert 20 * np.log10(inner.std()) == pytest.approx(-26, abs=0.3)


def test_tilt_is_in_decibels_an_octave():
    frequency, before = welch(render(FLAT), 16000, nperseg=512)
    _, after = welch(render(replace(FLAT, tilt=3.0)), 16000, nperseg=512)
    gain = 10 * np.log10(after / before)
    at = {hertz: gain[np.argmin(np.abs(frequency - hertz))] for hertz in (500, 2000)}
    assert at[2000] - at[500] == pytest.approx(6, abs=0.5)


def test_noise_floor_of_the_channel():
    quiet = np.zeros(16000, np.float32)
    channel = p.Channel(noise=-40.0)
    samples = p.render(quiet, FLAT, channel, np.random.default_rng(0)) / 32768
    assert 20 * np.log10(samples.std()) == pytest.approx(-40, abs=0.2)


def test_long_speech_is_cut():
    long = np.ones(16000 * 9, np.float32)
    samples = p.render(long, FLAT, SILENT, np.random.default_rng(0), longest=2.0)
    assert 2.2 <= len(samples) / 16000 <= 2.4
    assert samples.dtype == np.int16
