"""IEMOCAP_full_release trees for the tests: small ones and one of the real size."""

import random
import struct
from dataclasses import dataclass
from pathlib import Path

HEADER = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]"
RATINGS = (
    "C-E2:\tNeutral;\t()",
    "C-E3:\tFrustration; Anger;\t()",
    "C-F2:\t;\t()",
    "A-E3:\tval 3; act 2; dom  2;\t()",
    "A-E4:\tval ; act ; dom  ;\t(mildly aggravated but staying polite, attitude)",
)


@dataclass
class Line:
    """One label line."""

    id: str
    emotion: str = "neu"
    vad: tuple[float, float, float] = (2.5, 3.0, 3.5)

    def block(self) -> list[str]:
        bracket = ", ".join(f"{value:.4f}" for value in self.vad)
        head = f"[6.2901 - 8.2357]\t{self.id}\t{self.emotion}\t[{bracket}]"
        return [head, *RATINGS, ""]


def wav_bytes(frames: int, rate: int = 16000, channels: int = 1) -> bytes:
    """A PCM16 file of a quiet square wave; the layout is written out by hand."""
    data = (struct.pack("<hh", 300, -300) * frames * channels)[: 2 * frames * channels]
    head = struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        b"RIFF", 36 + len(data), b"WAVE", b"fmt ", 16, 1, channels, rate,
        2 * rate * channels, 2 * channels, 16, b"data", len(data),
    )  # fmt: skip
    return head + data


SHORT = wav_bytes(1920)  # 0.12 s


def write_dialog(
    root: Path, lines: list[Line], newline: str = "\n", wav: bytes = SHORT
) -> Path:
    """Write the label file and the audio of the dialog of `lines`."""
    dialog = lines[0].id.rpartition("_")[0]
    session = root / f"Session{dialog[4]}"
    labels = session / "dialog" / "EmoEvaluation" / f"{dialog}.txt"
    audio = session / "sentences" / "wav" / dialog
    labels.parent.mkdir(parents=True, exist_ok=True)
    audio.mkdir(parents=True, exist_ok=True)
    text = [HEADER, "", *(row for line in lines for row in line.block())]
    labels.write_bytes(newline.join([*text, ""]).encode())
    for line in lines:
        (audio / f"{line.id}.wav").write_bytes(wav)
    return labels


def small_tree(root: Path) -> Path:
    """Two dialogs in each session, one of each side, with every kind of quirk."""
    for session in range(1, 6):
        for side in "FM":
            dialog = f"Ses0{session}{side}_impro01"
            lines = [
                Line(f"{dialog}_{speaker}{number:03d}", emotion)
                for number, emotion in enumerate(("neu", "ang", "hap", "sad", "exc"))
                for speaker in "FM"
            ]
            path = write_dialog(root, lines, "\r\n" if session == 2 else "\n")
            (path.parent / f"._{path.name}").write_bytes(b"\0\5\x16\7\0\2")
            wavs = root / f"Session{session}" / "sentences" / "wav"
            (wavs / dialog / f"._{lines[0].id}.wav").write_bytes(b"\0\5\x16\7")
            (wavs / f"._{dialog}").write_bytes(b"\0\5\x16\7")
            for other in ("Categorical", "Attribute", "Self-evaluation"):
                folder = path.parent / other
                folder.mkdir(exist_ok=True)
                (folder / f"{dialog}_e2_cat.txt").write_text("another format\n")
    return root


# The counts of the release, from the shared table of facts; typed here a second time
# so that the reader's own copy is tested against it.
EMOTIONS = ["neu", "ang", "hap", "exc", "sad", "fru", "fea", "sur", "dis", "oth", "xxx"]
COUNTS = {
    1: [384, 229, 135, 143, 194, 280, 12, 25, 1, 1, 415],
    2: [362, 137, 117, 210, 197, 325, 9, 17, 0, 1, 436],
    3: [320, 240, 135, 151, 305, 382, 2, 28, 1, 0, 572],
    4: [258, 327, 65, 238, 143, 481, 7, 19, 0, 1, 564],
    5: [384, 170, 143, 299, 245, 381, 10, 18, 0, 0, 520],
}
WOMEN = {1: 873, 2: 859, 3: 1048, 4: 987, 5: 1033}
DIALOGS = {1: 28, 2: 30, 3: 32, 4: 30, 5: 31}
FIVE = ("neu", "ang", "hap", "sad", "dis")
FOLDS = {  # train, valid, test
    1: (3087, 462, 943),
    2: (3204, 475, 813),
    3: (3084, 407, 1001),
    4: (3157, 542, 793),
    5: (3161, 389, 942),
}
OUTSIDE = {
    "Ses03M_impro07_M003": ("exc", (5.5, 4.0, 3.0)),
    "Ses03M_impro07_M010": ("exc", (5.5, 4.0, 3.0)),
    "Ses03M_impro07_M013": ("exc", (5.5, 4.0, 3.0)),
    "Ses03M_impro07_M021": ("xxx", (5.5, 4.0, 3.0)),
    "Ses01M_script03_1_F026": ("xxx", (2.0, 2.0, 0.5)),
    "Ses02M_script02_2_F046": ("neu", (2.0, 2.0, 0.5)),
    "Ses04M_script03_2_M009": ("neu", (2.0, 2.0, 0.5)),
}
LONG = {"Ses05M_script02_1_M030": "exc", "Ses05M_script02_2_F013": "sad"}
DISGUST = ("Ses01F_script03_1_M030", "Ses03M_impro04_M015")


def dialog_names(session: int) -> list[str]:
    """As many dialogs as the session has, under the names that the release uses."""
    names = []
    for side in "FM":
        impro = [f"impro0{n}" for n in range(1, 9)]
        if (session, side) == (3, "M"):
            impro = ["01", "02", "03", "04", "05a", "05b", "06", "07", "08a", "08b"]
            impro = [f"impro{n}" for n in impro]
        script = ["script01_1", "script01_2", "script01_3", "script02_1", "script02_2"]
        script += ["script03_1", "script03_2"]
        if (session, side) == (5, "M"):
            script.insert(1, "script01_1b")
        names += [f"Ses0{session}{side}_{name}" for name in impro + script]
    drop = len(names) - DIALOGS[session]
    # The eighth improvisations are the ones that some sessions lack.
    for name in [n for n in names if n.endswith("impro08")][:drop]:
        names.remove(name)
    for name in [n for n in names if n.endswith("impro06")]:
        if len(names) > DIALOGS[session]:
            names.remove(name)
    assert len(names) == DIALOGS[session]
    return names


def real_size_tree(root: Path) -> Path:
    """10,039 utterances with the release's counts and fold sizes.

    How many five-class utterances lie in the recordings Ses0kM follows from the fold
    sizes: it is the validation set of fold k+1.
    """
    for session in range(1, 6):
        for lines in real_session(session):
            write_dialog(root, lines)
    for id_ in LONG:
        dialog = id_.rpartition("_")[0]
        wav = root / "Session5" / "sentences" / "wav" / dialog / f"{id_}.wav"
        wav.write_bytes(wav_bytes(31 * 16000))
    return root


def real_session(session: int) -> list[list[Line]]:
    """The dialogs of one session of the release's size."""
    fixed = {i: e for i, (e, _) in OUTSIDE.items()} | LONG
    fixed |= dict.fromkeys(DISGUST, "dis")
    fixed = {i: e for i, e in fixed.items() if i[4] == str(session)}
    labels = {
        emotion: count for emotion, count in zip(EMOTIONS, COUNTS[session], strict=True)
    }
    in_m = FOLDS[session % 5 + 1][1]
    ids: dict[str, str] = dict(fixed)
    for emotion in fixed.values():
        labels[emotion] -= 1
    in_m -= sum(i[5] == "M" and e in FIVE for i, e in fixed.items())
    women = WOMEN[session] - sum(i[-4] == "F" for i in fixed)
    mix = random.Random(session)
    five = [e for e in FIVE for _ in range(labels[e])]
    rest = [e for e in EMOTIONS if e not in FIVE for _ in range(labels[e])]
    genders = ["F"] * women + ["M"] * (len(five) + len(rest) - women)
    for shuffled in (five, rest, genders):
        mix.shuffle(shuffled)
    half = len(rest) // 2
    sides = {"M": five[:in_m] + rest[:half], "F": five[in_m:] + rest[half:]}
    dialogs = dialog_names(session)
    numbers = dict.fromkeys(((d, g) for d in dialogs for g in "FM"), 0)
    for side, emotions in sides.items():
        own = [d for d in dialogs if d[5] == side]
        for index, emotion in enumerate(emotions):
            gender = genders.pop()
            dialog = own[index % len(own)]
            while True:
                id_ = f"{dialog}_{gender}{numbers[dialog, gender]:03d}"
                numbers[dialog, gender] += 1
                if id_ not in ids:
                    break
            ids[id_] = emotion
    by_dialog: dict[str, list[Line]] = {d: [] for d in dialogs}
    for id_, emotion in sorted(ids.items()):
        vad = OUTSIDE.get(id_, ("", (2.5, 3.0, 3.5)))[1]
        by_dialog[id_.rpartition("_")[0]].append(Line(id_, emotion, vad))
    return list(by_dialog.values())
