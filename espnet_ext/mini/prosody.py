"""From an emotion to a voice: the generative model behind the built-in corpora.

An utterance's emotion gives the mean of its valence, arousal and dominance
(`EMOTIONS`); the drawn values, not the label, decide how it sounds (`draw_prosody`):
arousal raises pitch, pace, level and brightness, valence widens the intonation and
the "smile" (more energy around 2.8 kHz), low valence at high arousal makes the voice
rough, low dominance makes it tremble and weakens the low end. Each speaker adds an
offset to everything, and so does chance. The directions are the usual findings on
emotional speech; the sizes are set so that simple models do well but not perfectly
(benchmarks/mini_difficulty.py measures it).

Emotions carry IEMOCAP's codes and scale (1 to 5) here; `msp_podcast` translates both.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle

import numpy as np
from tqdm import tqdm

from espnet_ext.mini.speech import SAMPLE_RATE, Request, synthesize

# Mean valence, arousal, dominance on 1-5. neu and ang are IEMOCAP's own means; the
# others are near them. xxx is drawn between two of the others instead.
EMOTIONS: dict[str, tuple[float, float, float]] = {
    "neu": (2.97, 2.73, 2.83),
    "ang": (1.91, 3.64, 3.95),
    "hap": (3.94, 3.16, 3.07),
    "sad": (2.25, 2.20, 2.40),
    "dis": (1.60, 2.75, 3.75),
    "exc": (3.92, 3.74, 3.35),
    "fru": (2.23, 3.03, 3.34),
    "fea": (2.15, 3.60, 2.20),
    "sur": (3.20, 3.60, 2.85),
    "oth": (2.60, 2.95, 3.00),
}
# Spread of the drawn values around their class mean: V, A, D.
SPREAD = np.array([0.30, 0.33, 0.33])  # (3,)
MIDDLE = 3.0


@dataclass(frozen=True, slots=True)
class Speaker:
    """A voice and how it differs from the others: offsets to `Prosody`'s values."""

    name: str
    gender: str  # f or m
    voice: str  # espeak-ng's language and variant
    pitch: float
    pitch_range: float
    rate: float  # a factor
    level: float
    tilt: float
    smile: float


@dataclass(frozen=True, slots=True)
class Prosody:
    """How one utterance sounds: espeak-ng's part, then what `render` does."""

    pitch: int  # base pitch, 0-99
    pitch_range: int  # of the intonation, 0-99
    rate: int  # words a minute
    word_gap: int  # pause between words in 10 ms
    level: float  # RMS in dB of full scale
    tilt: float  # spectral tilt in dB an octave around 1 kHz
    smile: float  # gain around 2.8 kHz in dB
    tremor: float  # depth of the 5.5 Hz amplitude modulation, 0-1
    roughness: float  # depth of the 70 Hz amplitude modulation, 0-1


@dataclass(frozen=True, slots=True)
class Channel:
    """Where an utterance was recorded."""

    noise: float = -62.0  # of the background, dB of full scale
    highpass: float = 60.0  # lower band limit in Hz
    lowpass: float = 7600.0  # upper band limit in Hz
    reverb: float = -np.inf  # a late diffuse tail against the speech, dB


# Voice variants of espeak-ng: plain ones, and more that differ from them widely.
PLAIN_VOICES = {
    "f": ("f1", "f2", "f3", "f4", "f5"),
    "m": ("m1", "m2", "m3", "m4", "m7"),
}
MANY_VOICES = {
    "f": (*PLAIN_VOICES["f"], "Annie", "linda", "anika", "steph2"),
    "m": (*PLAIN_VOICES["m"], "Lee", "Andy", "Michael", "max", "adam"),
}


def draw_speakers(
    genders: str,
    names: Sequence[str],
    voices: Mapping[str, Sequence[str]],
    seed: Sequence[int],
) -> list[Speaker]:
    """Draw a speaker for each name and its gender, ``f`` or ``m``.

    `voices`, espeak-ng's variants by gender, repeat only after all were used.
    """
    rng = np.random.default_rng(seed)
    decks = {gender: cycle(rng.permutation(voices[gender])) for gender in "fm"}
    return [
        Speaker(
            name=name,
            gender=gender,
            voice=f"en-us+{next(decks[gender])}",
            pitch=rng.normal(0, 4),
            pitch_range=rng.normal(0, 5),
            rate=np.exp(rng.normal(0, 0.06)),
            level=rng.normal(0, 1.2),
            tilt=rng.normal(0, 0.4),
            smile=rng.normal(0, 0.8),
        )
        for gender, name in zip(genders, names, strict=True)
    ]


def draw_vad(emotion: str, rng: np.random.Generator) -> np.ndarray:
    """Draw valence, arousal, dominance (3,), 1-5; of ``xxx`` between two emotions."""
    if emotion == "xxx":
        one, other = rng.choice(len(EMOTIONS), size=2, replace=False)
        values = list(EMOTIONS.values())
        mean = (np.array(values[one]) + np.array(values[other])) / 2  # (3,)
    else:
        mean = np.array(EMOTIONS[emotion])  # (3,)
    drawn = mean + SPREAD * rng.standard_normal(3)  # (3,)
    return np.clip(drawn, 1.0, 5.0)


def draw_prosody(
    vad: np.ndarray, speaker: Speaker, rng: np.random.Generator
) -> Prosody:
    """Draw how `speaker` says something of these valence, arousal, dominance (3,)."""
    v, a, d = vad - MIDDLE
    noise = rng.standard_normal(9)  # (9,)
    pitch = 44 + 17 * a + 5 * v + speaker.pitch + 4 * noise[0]
    pitch_range = 45 + 14 * a + 20 * v + speaker.pitch_range + 6 * noise[1]
    rate = 190 * speaker.rate * np.exp(0.17 * a - 0.04 * d + 0.06 * noise[2])
    word_gap = 1.5 - 3.0 * a + 1.2 * noise[3]

    def whole(value: float, low: int, high: int) -> int:
        return int(np.clip(np.rint(value), low, high))

    return Prosody(
        pitch=whole(pitch, 0, 99),
        pitch_range=whole(pitch_range, 0, 99),
        rate=whole(rate, 100, 320),
        word_gap=whole(word_gap, 0, 12),
        level=float(-27 + 3.5 * a + 2.5 * d + speaker.level + 1.5 * noise[4]),
        tilt=float(1.0 * a + 1.0 * d + speaker.tilt + 0.5 * noise[5]),
        smile=float(np.clip(4.5 * v + speaker.smile + 1.5 * noise[6], -10, 10)),
        tremor=float(np.clip(0.12 - 0.3 * d + 0.1 * noise[7], 0, 0.7)),
        roughness=float(np.clip(-0.3 * v + 0.1 * a + 0.08 * noise[8], 0, 0.8)),
    )


def speak(
    sentences: Sequence[tuple[str, Speaker, Prosody, Channel]], seed: Sequence[int]
) -> Iterator[np.ndarray]:
    """Say sentences in this order and yield the recording of each, (samples,) int16.

    The first number of `seed` is also the synthesizer's.

    Raises:
        UserError: The synthesizer is missing or fails.
    """
    requests = [
        Request(text, s.voice, p.pitch, p.pitch_range, p.rate, p.word_gap)
        for text, s, p, _ in sentences
    ]
    spoken = zip(sentences, synthesize(requests, seed[0]), strict=True)
    bar = tqdm(spoken, desc="speak", total=len(sentences), unit="utt")
    for number, ((_, _, prosody, channel), speech) in enumerate(bar):
        yield render(speech, prosody, channel, np.random.default_rng([*seed, number]))


def render(
    speech: np.ndarray,
    prosody: Prosody,
    channel: Channel,
    rng: np.random.Generator,
    longest: float = 2.4,
) -> np.ndarray:
    """Give synthetic speech the voice quality of `prosody` and record it.

    Args:
        speech: Shape (samples,), float32, 16 kHz.
        prosody: Its level, tilt, smile, tremor and roughness.
        channel: Noise, band limits and reverberation.
        rng: Source of chance.
        longest: Speech beyond this many seconds fades out.

    Returns:
        (samples,) int16, with 0.1-0.2 s of background at both ends.
    """
    limit = int(longest * SAMPLE_RATE)
    fade = SAMPLE_RATE // 20 if len(speech) > limit else 0  # 50 ms
    speech = speech[:limit].astype(np.float64)  # (n,)
    if fade:
        speech[-fade:] *= np.linspace(1, 0, fade)
    time = np.arange(len(speech)) / SAMPLE_RATE  # (n,)

    def wave(low: float, high: float) -> np.ndarray:
        return np.sin(2 * np.pi * (rng.uniform(low, high) * time + rng.uniform()))

    wobble = 1 + prosody.tremor * wave(5, 6)
    buzz = 1 + prosody.roughness * wave(60, 80)
    pads = (SAMPLE_RATE * rng.uniform(0.1, 0.2, size=2)).astype(int)
    dry = np.pad(speech * wobble * buzz, pads)  # (samples,)
    wet = dry + _tail(dry, channel.reverb, rng)
    shaped = _equalise(wet, prosody.tilt, prosody.smile, channel)
    level = np.sqrt(np.mean(shaped[pads[0] : len(shaped) - pads[1]] ** 2))
    shaped *= 10 ** (prosody.level / 20) / max(level, 1e-9)
    background = _equalise(rng.standard_normal(len(shaped)), -2.0, 0.0, channel)
    background *= 10 ** (channel.noise / 20) / np.sqrt(np.mean(background**2))
    mixed = np.rint(32768 * (shaped + background))
    return np.clip(mixed, -32768, 32767).astype(np.int16)


def _tail(dry: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    """Return the reverberation of `dry`: decaying noise 0.25 s long, `level` dB."""
    if np.isneginf(level):
        return np.zeros_like(dry)
    from scipy.signal import fftconvolve

    n = SAMPLE_RATE // 4
    decay = np.exp(-np.arange(n) / (0.06 * SAMPLE_RATE))  # (n,)
    response = decay * rng.standard_normal(n)
    response *= 10 ** (level / 20) / np.sqrt(np.sum(response**2))
    return fftconvolve(dry, response)[: len(dry)]


def _equalise(
    signal: np.ndarray, tilt: float, smile: float, channel: Channel
) -> np.ndarray:
    """Apply tilt, smile and the channel's band limits to (samples,) in one pass.

    The tilt is around 1 kHz and held beyond 2.5 octaves, the smile at 2.8 kHz and half
    an octave wide, the band limits fall by 12 dB an octave.
    """
    from scipy.fft import irfft, next_fast_len, rfft, rfftfreq

    # Never a length with large prime factors, which costs several times as much.
    n = next_fast_len(len(signal), real=True)
    frequency = rfftfreq(n, 1 / SAMPLE_RATE)  # (bins,)
    octaves = np.log2(np.maximum(frequency, 20) / 1000)  # (bins,)
    peak = np.exp(-0.5 * ((octaves - np.log2(2.8)) / 0.5) ** 2)  # (bins,)
    gain = tilt * np.clip(octaves, -2.5, 2.5) + smile * peak  # (bins,) dB
    gain -= 10 * np.log10(1 + (channel.highpass / np.maximum(frequency, 1)) ** 4)
    gain -= 10 * np.log10(1 + (frequency / channel.lowpass) ** 8)
    return irfft(rfft(signal, n) * 10 ** (gain / 20), n)[: len(signal)]
