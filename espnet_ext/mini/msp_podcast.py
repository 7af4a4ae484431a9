"""A small MSP-Podcast 1.8 tree, spoken by espeak-ng.

Its layout is the one that `espnet_ext.corpora.msp_podcast` documents and reads. The
attributes of the consensus are the means of the workers' (1 to 7), its class the
one that most workers name, ``X`` where two tie. Every podcast has a speaker and a
channel of its own (noise, band limits, reverberation), so this corpus sounds unlike
the IEMOCAP one; splits share no speaker. One file is stereo at 44.1 kHz.
"""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from espnet_ext.mini import prosody as p
from espnet_ext.mini.speech import SAMPLE_RATE
from espnet_ext.mini.text import STATEMENTS
from espnet_ext.mini.tree import LICENSE, readme, scaled, write_text, write_wav

FOLDER = "MSP-PODCAST-1.8"

# Utterances of each class in each split; the first five are the paper's classes.
SPLIT_COUNTS = {
    "Train": dict(N=140, H=88, A=49, S=42, D=31, X=60, U=18, C=16, F=10, O=8),
    "Validation": dict(N=36, H=22, A=12, S=11, D=9, X=15, U=5, C=4, F=3, O=2),
    "Test1": dict(N=48, H=30, A=17, S=14, D=11, X=20, U=6, C=5, F=4, O=3),
    "Test2": dict(N=16, H=10, A=6, S=5, D=3, X=7, U=2, C=2, F=1, O=1),
}
# Known speakers of each split, half of them women, and unknown ones.
_SPEAKERS = {"Train": (24, 4), "Validation": (8, 1), "Test1": (10, 0), "Test2": (4, 2)}
# Classes as the codes of `prosody.EMOTIONS` (contempt is near frustration there), and
# what a worker calls them.
_CODES = {
    **{"N": "neu", "H": "hap", "A": "ang", "S": "sad", "D": "dis"},
    **{"U": "sur", "C": "fru", "F": "fea", "O": "oth", "X": "xxx"},
}
_WORDS = {
    **{"N": "Neutral", "H": "Happy", "A": "Angry", "S": "Sad", "D": "Disgust"},
    **{"U": "Surprise", "C": "Contempt", "F": "Fear", "O": "Other"},
}
# Least and most of a channel's noise, highpass, lowpass and reverb.
_CHANNELS = ([-56.0, 70.0, 3400.0, -24.0], [-46.0, 150.0, 6500.0, -12.0])
_OTHERS = ("Other-confused", "Other-tired", "Other")
_SECONDARY = ("Concerned", "Confused", "Amused", "Frustrated", "Depressed", "Excited")

# The release's one stereo file at 44.1 kHz.
OUTLIER = "MSP-PODCAST_1023_0235.wav"

# Entropy of the draws, so that no two kinds share a stream of random numbers.
_VOICES, _PLAN, _TAKE, _RENDER = range(110, 114)


@dataclass(frozen=True, slots=True)
class Podcast:
    """One show: a number, its only speaker, its sound and its split."""

    number: int
    speaker: p.Speaker
    channel: p.Channel
    split: str

    @property
    def gender(self) -> str:
        """What the label files say; unknown speakers have no gender there."""
        if self.speaker.name == "Unknown":
            return "Unknown"
        return {"f": "Female", "m": "Male"}[self.speaker.gender]


@dataclass(frozen=True, slots=True)
class Work:
    """What one worker says about one file."""

    worker: str
    word: str
    secondary: str
    vad: tuple[int, ...]

    @property
    def line(self) -> str:
        """The worker line of labels.txt: activation before valence."""
        v, a, d = self.vad
        return (
            f"{self.worker}; {self.word}; {self.secondary}; "
            f"A:{a:.6f}; V:{v:.6f}; D:{d:.6f};"
        )


@dataclass(frozen=True, slots=True)
class Segment:
    """One file before it is spoken."""

    name: str
    emotion: str  # a letter
    text: str
    podcast: Podcast
    prosody: p.Prosody
    works: tuple[Work, ...]

    @property
    def vad(self) -> np.ndarray:
        """Mean valence, arousal, dominance of the workers, shape (3,)."""
        return np.mean(np.array([work.vad for work in self.works], float), axis=0)


def write_corpus(root: Path, seed: int, scale: float) -> None:
    """Write the tree into an empty folder."""
    segments = plan(seed, scale)
    sentences = [
        (s.text, s.podcast.speaker, s.prosody, s.podcast.channel) for s in segments
    ]
    recordings = p.speak(sentences, [seed, _RENDER])
    for segment, samples in zip(segments, recordings, strict=True):
        _write_audio(root / "Audios" / segment.name, samples)
    _write_labels(root / "Labels", segments)
    _write_lists(root, segments)


def plan(seed: int, scale: float) -> list[Segment]:
    """Draw every file of the corpus, sorted by name: the order of speaking."""
    rng = np.random.default_rng([seed, _PLAN])
    podcasts = _draw_podcasts(seed, rng)
    drawn: list[tuple[str, Podcast, str]] = []
    for split, counts in SPLIT_COUNTS.items():
        shows = [podcast for podcast in podcasts if podcast.split == split]
        labels = [e for e, full in counts.items() for _ in range(scaled(full, scale))]
        rng.shuffle(labels)
        for turn, emotion in enumerate(labels):
            podcast = shows[turn % len(shows)]
            start = 3 + 7 * (turn // len(shows))
            name = f"MSP-PODCAST_{podcast.number:04d}_{start:04d}.wav"
            drawn.append((name, podcast, emotion))
    # The last file of podcast 1023 gets the outlier's name.
    last = max(name for name, podcast, _ in drawn if podcast.number == 1023)
    drawn = [(OUTLIER if d[0] == last else d[0], *d[1:]) for d in drawn]
    return [
        _draw_segment(name, podcast, emotion, np.random.default_rng([seed, _TAKE, i]))
        for i, (name, podcast, emotion) in enumerate(sorted(drawn, key=lambda d: d[0]))
    ]


def _draw_podcasts(seed: int, rng: np.random.Generator) -> list[Podcast]:
    """Draw the shows; the first is podcast 1023, which belongs to Train."""
    splits, names, genders = [], [], ""
    ids = iter(rng.permutation(np.arange(1, 1400)))
    for split, (known, unknown) in _SPEAKERS.items():
        splits += [split] * (known + unknown)
        names += [str(next(ids)) for _ in range(known)] + ["Unknown"] * unknown
        genders += ("fm" * (known + unknown))[: known + unknown]
    speakers = p.draw_speakers(genders, names, p.MANY_VOICES, [seed, _VOICES])
    others = np.setdiff1d(np.arange(1, 2000), [1023])
    numbers = [1023, *rng.choice(others, size=len(names) - 1, replace=False)]
    return [
        Podcast(int(number), speaker, p.Channel(*rng.uniform(*_CHANNELS)), split)
        for number, speaker, split in zip(numbers, speakers, splits, strict=True)
    ]


def _draw_segment(
    name: str, podcast: Podcast, emotion: str, rng: np.random.Generator
) -> Segment:
    vad = p.draw_vad(_CODES[emotion], rng)  # (3,) on 1-5
    text = str(rng.choice(STATEMENTS))
    prosody = p.draw_prosody(vad, podcast.speaker, rng)
    works = tuple(_draw_works(emotion, vad, rng))
    return Segment(name, emotion, text, podcast, prosody, works)


def plurality(letters: list[str]) -> str:
    """Return the class that most workers name, ``X`` where the first place is tied."""
    (first, count), *rest = Counter(letters).most_common(2)
    return "X" if rest and rest[0][1] == count else first


def _draw_works(emotion: str, vad: np.ndarray, rng: np.random.Generator) -> list[Work]:
    """Draw five to seven workers whose plurality is `emotion`."""
    count = int(rng.integers(5, 8))
    letters = list(_WORDS)
    votes = [""]
    while plurality(votes) != emotion:
        keep = rng.random(count) < (0.0 if emotion == "X" else 0.6)
        chance = rng.integers(len(letters), size=count)
        pairs = zip(keep, chance, strict=True)
        votes = [emotion if kept else letters[other] for kept, other in pairs]
    # From the scale 1-5 of the plan to 1-7.
    scores = np.rint(1.5 * vad - 0.5 + 0.9 * rng.standard_normal((count, 3)))
    scores = np.clip(scores, 1, 7).astype(int)  # (count, 3)
    workers = rng.choice(200, size=count, replace=False)
    works = []
    for worker, vote, row in zip(workers, votes, scores.tolist(), strict=True):
        word = str(rng.choice(_OTHERS)) if vote == "O" else _WORDS[vote]
        # Secondary emotions, often with the first one's name; may be none.
        more = rng.choice(_SECONDARY, size=rng.integers(0, 3), replace=False)
        same = [word] if vote != "O" and rng.random() < 0.5 else []
        # Ids of seven and of eight digits occur.
        name = f"WORKER{worker:0{8 if worker % 3 else 7}d}"
        works.append(Work(name, word, ",".join([*same, *map(str, more)]), tuple(row)))
    return works


def _write_audio(path: Path, samples: np.ndarray) -> None:
    if path.name != OUTLIER:
        write_wav(path, samples)
        return
    import soxr

    rate = 44100
    louder = soxr.resample(samples, SAMPLE_RATE, rate)  # (n,) int16
    softer = (louder // 2).astype(np.int16)
    write_wav(path, np.stack([louder, softer], axis=1), rate)


def _write_labels(folder: Path, segments: list[Segment]) -> None:
    blocks, consensus = [], {}
    rows = ["FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set"]
    for s in segments:
        v, a, d = s.vad
        lines = [f"{s.name}; {s.emotion}; A:{a:.6f}; V:{v:.6f}; D:{d:.6f};"]
        lines += [work.line for work in s.works]
        blocks.append("\n".join(lines) + "\n")
        # Activation before valence, in every file.
        values = {
            "EmoClass": s.emotion,
            # Up to six decimals, at least one: 4.0, 3.833333.
            "EmoAct": str(round(float(a), 6)),
            "EmoVal": str(round(float(v), 6)),
            "EmoDom": str(round(float(d), 6)),
            "SpkrID": s.podcast.speaker.name,
            "Gender": s.podcast.gender,
            "Split_Set": s.podcast.split,
        }
        rows.append(",".join([s.name, *values.values()]))
        attributes = {key: float(values[key]) for key in ("EmoAct", "EmoVal", "EmoDom")}
        consensus[s.name] = {**values, **attributes}
    write_text(folder / "labels.txt", "\n".join(blocks))
    write_text(folder / "labels_concensus.csv", "\n".join(rows) + "\n")
    write_text(folder / "labels_concensus.json", json.dumps(consensus, indent=1) + "\n")


def _write_lists(root: Path, segments: list[Segment]) -> None:
    """Write Partitions.txt, Speaker_ids.txt, readme.txt and the license note."""
    partitions = ["Partitions of release 1.8"]
    partitions += [f"{s.podcast.split}; {s.name}" for s in segments]
    write_text(root / "Partitions.txt", "\n".join(partitions) + "\n")
    known = {s.podcast.speaker.name: s.podcast.gender for s in segments}
    known.pop("Unknown", None)
    speakers = [f"Speaker_{name}; {known[name]}" for name in sorted(known, key=int)]
    files = [f"{s.name};{s.podcast.speaker.name}" for s in segments]
    # Blanks after some entries, as in the release.
    files[::5] = [f"{entry} " for entry in files[::5]]
    write_text(root / "Speaker_ids.txt", "\n".join([*speakers, "", *files]) + "\n")
    write_text(root / "readme.txt", readme("MSP-Podcast 1.8", "MSP-Podcast"))
    write_text(root / "LICENSE.txt", LICENSE)
