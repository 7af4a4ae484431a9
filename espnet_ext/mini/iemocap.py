"""A small IEMOCAP_full_release tree, spoken by espeak-ng.

Its layout is the one that `espnet_ext.corpora.iemocap` documents and reads, and its
oddities are those of the licensed corpus: CR line ends in some label files, AppleDouble
files (``._Ses01F_impro01.txt``) that are not text.

Every bracket ``[V, A, D]`` is the mean of the external raters (``A-E*``) of its block
and every label the majority of their categorical votes (``C-E*``), ``xxx`` where
there is none. Recorded in a quiet room: 16 kHz, 16-bit, mono.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from espnet_ext.mini import prosody as p
from espnet_ext.mini.speech import SAMPLE_RATE
from espnet_ext.mini.text import REPLIES, STATEMENTS
from espnet_ext.mini.tree import LICENSE, readme, scaled, write_text, write_wav

FOLDER = "IEMOCAP_full_release"

# Utterances of each label in each session: 128 of the paper's five classes. The real
# corpus has two `dis` in all, which no score over five classes survives.
SESSION_COUNTS = {
    **{"neu": 34, "ang": 28, "hap": 27, "sad": 27, "dis": 12, "exc": 12},
    **{"fru": 12, "fea": 3, "sur": 4, "oth": 1, "xxx": 14},
}

# Dialogs of a session, and those that differ from it. All names occur in the real
# corpus: 05a and 05b without a plain 05, 01_1b beside 01_1.
_DIALOGS = {
    "F": ("impro01", "impro03", "impro06", "script01_3", "script02_2"),
    "M": ("impro02", "impro04", "impro07", "script02_2", "script03_1"),
}
_ODD_DIALOGS = {
    "Ses03M": ("impro05a", "impro05b", "impro07", "script02_2", "script03_1"),
    "Ses05M": ("impro02", "impro07", "script01_1", "script01_1b", "script02_2"),
}

_WORDS = {
    **{"neu": "Neutral", "ang": "Anger", "hap": "Happiness", "exc": "Excited"},
    **{"sad": "Sadness", "fru": "Frustration", "fea": "Fear", "sur": "Surprise"},
    **{"dis": "Disgust", "oth": "Other"},
}
_REMARKS = ("", "", "", "", "curious", "a bit tired", "polite, but not friendly")

# Rare things, each of which a reader must survive: dialog, label, and what is odd.
_QUIRKS = (
    ("Ses03M_impro07", "exc", "valence 5.5"),
    ("Ses02M_script02_2", "neu", "dominance 0.5"),
    ("Ses01M_script03_1", "xxx", "dominance 0.5"),
    ("Ses01F_impro01", "neu", "blank rating"),
    ("Ses04F_impro03", "sad", "blank rating"),
    ("Ses02F_impro01", "ang", "empty self label"),
    ("Ses05M_script01_1b", "hap", "empty self label"),
)
_DIMENSIONS = {"valence": 0, "arousal": 1, "dominance": 2}

# Entropy of the draws, so that no two kinds share a stream of random numbers.
_SPEAKERS, _PLAN, _TAKE, _RENDER = range(100, 104)


@dataclass(frozen=True, slots=True)
class Rating:
    """What one rater says: emotions (``C-`` lines) or V, A, D (``A-`` lines)."""

    rater: str
    emotions: tuple[str, ...] = ()
    vad: tuple[int | None, ...] = ()
    remark: str = ""


@dataclass(frozen=True, slots=True)
class Take:
    """One utterance before it is spoken."""

    id: str
    dialog: str
    emotion: str
    text: str
    speaker: p.Speaker
    prosody: p.Prosody
    ratings: tuple[Rating, ...]


def write_corpus(root: Path, seed: int, scale: float) -> None:
    """Write the tree into an empty folder."""
    takes = plan(seed, scale)
    sentences = [(t.text, t.speaker, t.prosody, p.Channel()) for t in takes]
    durations = {}  # seconds by utterance
    dialogs: dict[str, list[Take]] = {}
    for take, samples in zip(takes, p.speak(sentences, [seed, _RENDER]), strict=True):
        write_wav(_wav_path(root, take), samples)
        durations[take.id] = len(samples) / SAMPLE_RATE
        dialogs.setdefault(take.dialog, []).append(take)
    for number, members in enumerate(dialogs.values()):
        rng = np.random.default_rng([seed, _PLAN, 1, number])
        _write_dialog(root, members, durations, rng)
    write_text(root / "README.txt", readme(FOLDER, "IEMOCAP"))
    write_text(root / "LICENSE.txt", LICENSE)


def plan(seed: int, scale: float) -> list[Take]:
    """Draw every utterance of the corpus, in the order in which they are spoken."""
    genders = "FM" * 5
    names = [f"Ses0{1 + i // 2}{gender}" for i, gender in enumerate(genders)]
    drawn = p.draw_speakers(genders.lower(), names, p.PLAIN_VOICES, [seed, _SPEAKERS])
    speakers = {speaker.name: speaker for speaker in drawn}
    takes: list[Take] = []
    for session in range(1, 6):
        rng = np.random.default_rng([seed, _PLAN, 0, session])
        for dialog, emotions in _deal(session, scale, rng).items():
            quirks = {e: odd for name, e, odd in _QUIRKS if name == dialog}
            turns = {"F": 0, "M": 0}
            for emotion in emotions:
                gender = "FM"[rng.integers(2)]
                id_ = f"{dialog}_{gender}{turns[gender]:03d}"
                turns[gender] += 1
                speaker = speakers[f"Ses0{session}{gender}"]
                quirk = quirks.pop(emotion, "")
                draw = np.random.default_rng([seed, _TAKE, len(takes)])
                takes.append(_draw_take(id_, emotion, speaker, quirk, draw))
    return takes


def _deal(session: int, scale: float, rng: np.random.Generator) -> dict[str, list[str]]:
    """Deal a session's labels to its dialogs: evenly, label by label.

    Validation sets (the recordings ``Ses0NM``) are then like test sets.
    """
    sides = (f"Ses0{session}F", f"Ses0{session}M")
    names = {side: _ODD_DIALOGS.get(side, _DIALOGS[side[-1]]) for side in sides}
    dialogs = [f"{side}_{name}" for side in sides for name in names[side]]
    dealt: dict[str, list[str]] = {dialog: [] for dialog in dialogs}
    pool = {label: scaled(full, scale) for label, full in SESSION_COUNTS.items()}
    for dialog, label, _ in _QUIRKS:
        if dialog in dealt and pool[label]:
            dealt[dialog].append(label)
            pool[label] -= 1
    # Always to a dialog with fewest utterances; alternate sides for each label.
    for label, count in pool.items():
        first = int(rng.integers(2))
        for turn in range(count):
            candidates = [d for d in dialogs if d.startswith(sides[(first + turn) % 2])]
            rng.shuffle(candidates)
            dealt[min(candidates, key=lambda d: len(dealt[d]))].append(label)
    for emotions in dealt.values():
        rng.shuffle(emotions)
    return dealt


def _draw_take(
    id_: str, emotion: str, speaker: p.Speaker, quirk: str, rng: np.random.Generator
) -> Take:
    dialog = id_.rpartition("_")[0]
    vad = p.draw_vad(emotion, rng)  # (3,)
    text = str(rng.choice(REPLIES if "impro" in dialog else STATEMENTS))
    prosody = p.draw_prosody(vad, speaker, rng)
    ratings = *_vote(emotion, id_, quirk, rng), *_rate(vad, id_, quirk, rng)
    return Take(id_, dialog, emotion, text, speaker, prosody, ratings)


def majority(votes: list[tuple[str, ...]]) -> str:
    """Return the only emotion that more than half of the raters name, or ``xxx``."""
    counts = {e: sum(e in vote for vote in votes) for vote in votes for e in vote}
    winners = [e for e, count in counts.items() if 2 * count > len(votes)]
    return winners[0] if len(winners) == 1 else "xxx"


def _vote(
    emotion: str, utterance: str, quirk: str, rng: np.random.Generator
) -> Iterator[Rating]:
    """Draw categorical votes whose majority is `emotion`, then the self label."""
    raters = sorted(rng.choice(range(1, 7), size=rng.integers(3, 5), replace=False))
    votes: list[tuple[str, ...]] = [()]
    while majority(votes) != emotion or not votes[0]:
        votes = [_one_vote(emotion, rng) for _ in raters]
    for rater, vote in zip(raters, votes, strict=True):
        yield Rating(f"C-E{rater}", emotions=vote, remark=str(rng.choice(_REMARKS)))
    own = () if quirk == "empty self label" else _one_vote(emotion, rng)
    yield Rating(f"C-{utterance[-4]}1", emotions=own)


def _one_vote(emotion: str, rng: np.random.Generator) -> tuple[str, ...]:
    names = list(_WORDS)
    first = emotion
    if emotion == "xxx" or rng.random() < 0.2:
        first = names[rng.integers(len(names))]
    second = names[rng.integers(len(names))]
    both = rng.random() < 0.12 and second != first
    return (first, second) if both else (first,)


def _rate(
    vad: np.ndarray, utterance: str, quirk: str, rng: np.random.Generator
) -> Iterator[Rating]:
    """Draw the attribute ratings: whole numbers 1-5 around `vad`."""
    count = int(rng.integers(2, 4))
    scores = np.rint(vad + 0.5 * rng.standard_normal((count + 1, 3)))
    scores = np.clip(scores, 1, 5).astype(int)  # (raters + self, 3)
    dimension, _, target = quirk.partition(" ")
    if dimension in _DIMENSIONS and target:
        # The real corpus has a few brackets outside 1-5: raters' slips.
        scores = scores[[0, 1, -1]]
        slips = (5, 6) if float(target) > 5 else (0, 1)
        scores[:2, _DIMENSIONS[dimension]] = slips
    *external, own = map(tuple, scores.tolist())
    for number, row in enumerate(external, start=3):
        yield Rating(f"A-E{number}", vad=row, remark=str(rng.choice(_REMARKS)))
    if quirk == "blank rating":
        yield Rating("A-E6", vad=(None, None, None))
    yield Rating(f"A-{utterance[-4]}1", vad=own)


def _wav_path(root: Path, take: Take) -> Path:
    folder = root / f"Session{take.dialog[4]}/sentences/wav/{take.dialog}"
    return folder / f"{take.id}.wav"


def _write_dialog(
    root: Path, takes: list[Take], durations: dict[str, float], rng: np.random.Generator
) -> None:
    """Write the label files and the transcript of one dialog."""
    dialog = takes[0].dialog
    now = float(rng.uniform(4, 8))
    text = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"
    transcript = ""
    for take in takes:
        end = now + durations[take.id]
        text += _block(take, now, end)
        transcript += f"{take.id} [{now:08.4f}-{end:08.4f}]: {take.text}\n"
        now = now + (durations[take.id] + float(rng.uniform(0.1, 1.5)))
    if "impro" in dialog:
        transcript += f"{dialog[5]}: Okay.\n"
    # Some files of the real corpus were edited on old systems: CR line ends, a byte
    # that is no UTF-8, the AppleDouble files of a Mac.
    if dialog == "Ses04M_impro02":
        text = text.replace("\t()\n", "\t(d\xe9\xe7u)\n", 1)
    newline = "\r\n" if dialog.startswith("Ses02F") else "\n"
    folder = root / f"Session{dialog[4]}" / "dialog"
    names = "EmoEvaluation", "transcriptions"
    files = [folder / name / f"{dialog}.txt" for name in names]
    for path, content in zip(files, (text, transcript), strict=True):
        write_text(path, content, newline)
    if dialog.endswith(("impro01", "impro07")):
        for path in (*files, _wav_path(root, takes[0])):
            path.with_name(f"._{path.name}").write_bytes(_APPLE_DOUBLE)


def _block(take: Take, start: float, end: float) -> str:
    external = [r.vad for r in take.ratings if r.rater.startswith("A-E")]
    rated = [vad for vad in external if None not in vad]  # (raters, 3)
    v, a, d = np.mean(np.array(rated, dtype=float), axis=0)
    lines = [
        f"[{start:.4f} - {end:.4f}]\t{take.id}\t{take.emotion}"
        f"\t[{v:.4f}, {a:.4f}, {d:.4f}]"
    ]
    for rating in take.ratings:
        if rating.rater.startswith("C-"):
            text = "; ".join(_WORDS[e] for e in rating.emotions) + ";"
        else:
            v_, a_, d_ = ("" if score is None else score for score in rating.vad)
            text = f"val {v_}; act {a_}; dom  {d_};"
        lines.append(f"{rating.rater}:\t{text}\t({rating.remark})")
    return "\n".join(lines) + "\n\n"


# What a Mac leaves on foreign disks: a header, no text and no audio.
_APPLE_DOUBLE = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        " + b"\0" * 58
