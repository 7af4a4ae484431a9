import numpy as np
import pytest
import torch

from espnet_ext.features.mfcc import MfccUpstream
from espnet_ext.inference import EmotionResult


def answer(seconds, weights):
    """An answer with these weights (T,) and nothing else."""
    attention = {"discrete": weights}
    return EmotionResult("a.wav", seconds, *[None] * 6, speech=1.0, attention=attention)


@pytest.mark.parametrize("click", [0.1, 0.55, 1.2])
def test_the_frame_that_hears_a_click_has_its_time(click):
    """With frames of 10 ms, of an upstream whose frames are not counted by hand."""
    wave = 1e-3 * torch.randn(20000, generator=torch.Generator().manual_seed(1))
    wave[round(click * 16000)] = 1.0
    (states,) = MfccUpstream().extract([wave], [0], torch.float32)
    energy = states[0, :, 0]  # (T,) the first cepstrum
    result = answer(1.25, energy.numpy())
    assert result.attention_times[energy.argmax()] == pytest.approx(click, abs=0.011)


def test_huberts_frames_have_their_times():
    """Frame i sees the samples 320 i to 320 i + 400 (torch's rule of convolutions)."""
    for samples in (400, 719, 20000):
        starts = torch.arange(samples).unfold(0, 400, 320)[:, 0].numpy()
        times = answer(samples / 16000, np.ones(len(starts))).attention_times
        assert np.abs(times - (starts + 200) / 16000).max() < 320 / 16000 * 1.2
    assert len(answer(1.0, np.zeros(0)).attention_times) == 0
