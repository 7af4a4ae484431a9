"""The functionals: pitch of known tones, statistics against numpy's and scipy's."""

from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch

from espnet_ext.features.config import load_feature_config
from espnet_ext.features.functionals import (
    DIM,
    functionals,
    pitch_frames,
    summarize_frames,
)
from espnet_ext.features.upstream import load_upstream

CONF = Path(__file__).resolve().parents[2] / "conf/features"


def harmonics(hertz, seconds=0.5):
    time = torch.arange(int(seconds * 16000)) / 16000
    return sum(torch.sin(2 * torch.pi * k * hertz * time) / k for k in range(1, 9)) / 4


@pytest.mark.parametrize("hertz", [80.0, 125.0, 222.0, 400.0])
def test_pitch_is_that_of_the_tone(hertz):
    energy, pitch, voicing = pitch_frames(harmonics(hertz), 50)[5:-5].T
    # A lag is a whole number of samples: 400 Hz are 40 of them.
    np.testing.assert_allclose(pitch.exp(), hertz, rtol=0.015)
    assert voicing.min() > 0.9
    quieter = pitch_frames(harmonics(hertz) / 10, 50)[5:-5, 0]
    np.testing.assert_allclose(energy - quieter, 20, atol=0.1)


def test_neither_noise_nor_silence_is_voiced():
    torch.manual_seed(0)
    assert pitch_frames(0.1 * torch.randn(16000), 100)[:, 2].median() < 0.5
    assert pitch_frames(torch.zeros(16000), 100)[:, 2].max() == 0


def test_statistics_are_numpys_and_scipys():
    frames = np.random.default_rng(0).gamma(2.0, size=(50, 3))
    frames[:, 2] = 7
    expected = [
        frames.mean(0),
        frames.std(0),
        *(np.percentile(frames, p, axis=0) for p in (5, 25, 50, 75, 95)),
        [*scipy.stats.skew(frames[:, :2]), 0],
    ]
    np.testing.assert_allclose(
        summarize_frames(frames), np.concatenate(expected), atol=1e-12
    )
    states = np.stack([frames - 1, frames + 1], axis=1)  # (T, L, D)
    np.testing.assert_allclose(
        summarize_frames(states), summarize_frames(frames), atol=1e-12
    )


def test_silence_around_an_utterance_changes_nothing_but_its_edges():
    speech = harmonics(150.0, 1.0) + 0.01 * torch.randn(16000)
    padded = torch.cat([torch.zeros(16000), speech, torch.zeros(16000)])
    pitch = slice(60, 62)  # means of the loud frames' pitch and voicing
    np.testing.assert_allclose(
        functionals(padded)[pitch], functionals(speech)[pitch], rtol=0.05
    )
    assert functionals(speech)[60] == pytest.approx(np.log(150), abs=0.05)


@pytest.mark.parametrize("wave", [torch.zeros(400), 0.1 * torch.ones(401)])
def test_the_shortest_and_the_silent_have_finite_ones(wave):
    assert np.isfinite(functionals(wave)).all()


def test_upstream_gives_a_single_frame():
    upstream = load_upstream(load_feature_config(CONF / "functionals.yaml"))
    wave = harmonics(200.0)
    (state,) = upstream.extract([wave], [0], torch.float32)
    assert state.shape == (1, 1, upstream.dim) == (1, 1, DIM)
    np.testing.assert_allclose(state[0, 0], functionals(wave), rtol=1e-6)
