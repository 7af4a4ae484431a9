import os
import sys
from pathlib import Path

import espeakng_loader
import numpy as np
import pytest

from espnet_ext.errors import UserError
from espnet_ext.mini.speech import (
    SAMPLE_RATE,
    Request,
    _short_data_path,
    synthesize,
    trim_silence,
)

TEXT = "The letter came this morning."


def fundamental(wave: np.ndarray) -> float:
    """Median pitch in Hz by autocorrelation, over the louder frames of 40 ms."""
    frames = wave[: len(wave) // 640 * 640].reshape(-1, 640)
    power = (frames**2).mean(axis=1)
    lags = np.arange(SAMPLE_RATE // 400, SAMPLE_RATE // 60)
    found = []
    for frame in frames[power > np.median(power)]:
        correlation = np.correlate(frame, frame, "full")[639:]
        found.append(SAMPLE_RATE / lags[np.argmax(correlation[lags])])
    return float(np.median(found))


def test_requests_are_followed():
    normal, high, slow, gaps = synthesize(
        [
            Request(TEXT, "en-us+m3", pitch=30, pitch_range=10),
            Request(TEXT, "en-us+m3", pitch=90, pitch_range=10),
            Request(TEXT, "en-us+m3", rate=110),
            Request(TEXT, "en-us+m3", word_gap=10),
        ],
        seed=0,
    )
    assert normal.dtype == np.float32
    assert 0.1 < np.abs(normal).max() <= 1
    assert fundamental(high) > 1.3 * fundamental(normal)
    assert len(slow) > 1.3 * len(normal)
    # Four gaps of 100 ms between five words.
    assert len(gaps) / SAMPLE_RATE > len(normal) / SAMPLE_RATE + 0.3


def test_same_list_same_samples_whatever_was_said_before():
    requests = [Request(TEXT, "en-us+f3", pitch=p) for p in (40, 60)]
    once = list(synthesize(requests, seed=5))
    list(synthesize([Request("We had dinner.", "en-us+m1")], seed=1))
    again = list(synthesize(requests, seed=5))
    for one, other in zip(once, again, strict=True):
        np.testing.assert_array_equal(one, other)


def test_unknown_voice_is_named():
    with pytest.raises(UserError, match=r"xx-none.*refuses voice"):
        list(synthesize([Request(TEXT, "xx-none")], seed=0))


def test_missing_synthesizer_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(UserError, match=r"pip install espnet_ext\[mini\].*GPL-3.0"):
        next(synthesize([Request(TEXT, "en-us")], seed=0))


def test_data_path_too_long_for_espeak(tmp_path, monkeypatch):
    """The wheel lies behind a path longer than espeak-ng's buffer of 160 bytes."""
    deep = tmp_path / ("long" * 30) / ("longer" * 20)
    deep.mkdir(parents=True)
    wheel = Path(espeakng_loader.__file__).parent
    (deep / "espeakng_loader").symlink_to(wheel, target_is_directory=True)
    with monkeypatch.context() as patch:
        patch.syspath_prepend(deep)
        (spoken,) = synthesize([Request(TEXT, "en-us+f3")], seed=0)
    (expected,) = synthesize([Request(TEXT, "en-us+f3")], seed=0)
    np.testing.assert_array_equal(spoken, expected)

    with _short_data_path(str(deep / "espeakng_loader" / "espeak-ng-data")) as short:
        assert len(short) < 120
        assert os.path.samefile(short, wheel / "espeak-ng-data")


def test_trim_silence():
    samples = np.array([0, 3, -100, 5, 70, -2, 0], dtype=np.int16)
    np.testing.assert_array_equal(trim_silence(samples), [-100, 5, 70])
    quiet = np.array([1, -1], dtype=np.int16)
    np.testing.assert_array_equal(trim_silence(quiet), quiet)
    # The most negative sample has no positive twin in 16 bits.
    np.testing.assert_array_equal(trim_silence(np.array([-32768], np.int16)), [-32768])
