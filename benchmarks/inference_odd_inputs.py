"""What a model answers where it should not be trusted: silence, noise, music, scraps.

    python benchmarks/inference_odd_inputs.py MODEL SPEECH.wav

prints a line for each input: label, its probability, valence, arousal, dominance, the
share of "speech", that of a timeline that is no_speech, and warnings. SPEECH.wav is a
clip like those of the training.
"""

import sys

import numpy as np

from espnet_ext import SpeechEmotion
from espnet_ext.attributes import ATTRIBUTES
from espnet_ext.corpora.audio import RATE, load_waveform


def music(seconds: float) -> np.ndarray:
    """Synthesize four chords of decaying tones with overtones (n,)."""
    wave = np.zeros(round(seconds * RATE))
    length = round(0.5 * RATE)
    time = np.arange(length) / RATE
    for number, start in enumerate(range(0, len(wave) - length + 1, length)):
        root = 220.0 * 2 ** ((0, 5, 7, 0)[number % 4] / 12)
        for third in (1, 2 ** (4 / 12), 2 ** (7 / 12)):
            for overtone in range(1, 5):
                tone = np.sin(2 * np.pi * root * third * overtone * time)
                wave[start : start + length] += tone * np.exp(-3 * time) / overtone
    return 0.05 * wave


def odd_inputs(speech: np.ndarray) -> dict[str, np.ndarray]:
    """Make waveforms (n,) of 3 s, except for what is cut out of `speech` (n,)."""
    rng = np.random.default_rng(0)
    count = 3 * RATE
    middle = len(speech) // 2
    return {
        "the speech clip": speech,
        "0.3 s of it": speech[middle : middle + round(0.3 * RATE)],
        "it backwards": speech[::-1].copy(),
        "it in noise, 0 dB": speech + speech.std() * rng.standard_normal(len(speech)),
        "digital silence": np.zeros(count),
        "quiet noise (-80 dB)": 1e-4 * rng.standard_normal(count),
        "white noise (-20 dB)": 0.1 * rng.standard_normal(count),
        "music": music(3.0),
    }


def main() -> None:
    """Print the table."""
    ser = SpeechEmotion.from_pretrained(sys.argv[1], device="cpu")
    for name, wave in odd_inputs(load_waveform(sys.argv[2])).items():
        answer = ser(wave, RATE)
        best = "" if answer.scores is None else f"{answer.scores[answer.label]:.2f}"
        values = [getattr(answer, attribute) for attribute in ATTRIBUTES]
        numbers = " ".join("-" if v is None else f"{v:.2f}" for v in values)
        silent = ser.timeline(wave, 1.0, 0.5, RATE).summary()["seconds_by_label"]
        share = silent.get("no_speech", 0.0) / answer.seconds
        print(
            f"{name:<22} {answer.label or '-':<10} {best:<5} {numbers}  speech "
            f"{answer.speech:4.0%}  no_speech {share:4.0%}",
            *answer.warnings,
            sep="  ",
        )


if __name__ == "__main__":
    main()
