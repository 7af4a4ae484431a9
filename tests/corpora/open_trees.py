"""Trees of the openly licensed corpora, in the size of the releases, audio tiny."""

from pathlib import Path

from corpora.iemocap_tree import SHORT

CREMA_D_COUNTS = dict(ANG=1271, DIS=1271, FEA=1271, HAP=1271, SAD=1271, NEU=1087)
EMODB_COUNTS = {"W": 127, "L": 81, "N": 79, "F": 71, "A": 69, "T": 62, "E": 46}
EMODB_SPEAKERS = ("03", "08", "09", "10", "11", "12", "13", "14", "15", "16")
MELD_LABELS = ("neutral", "joy", "surprise", "anger", "sadness", "disgust", "fear")
MELD_COUNTS = {
    "train": (4709, 1743, 1205, 1109, 683, 271, 268),
    "dev": (469, 163, 150, 153, 111, 22, 40),
    "test": (1256, 402, 281, 345, 208, 68, 50),
}
MELD_FOLDERS = {
    "train": "train_splits",
    "dev": "dev_splits_complete",
    "test": "output_repeated_splits_test",
}


def crema_d_tree(root: Path, actors: int = 91) -> Path:
    """Every actor says 12 sentences; one of them in neutral is not there."""
    audio = root / "AudioWAV"
    audio.mkdir(parents=True)
    lines = ['"ActorID","Age","Sex","Race","Ethnicity"']
    for actor in range(1001, 1001 + actors):
        sex = "Female" if actor % 2 else "Male"
        lines.append(f'{actor},51,"{sex}","Caucasian","Not Hispanic"')
        for emotion in CREMA_D_COUNTS:
            for sentence in ("DFA", "IEO"):
                (audio / f"{actor}_{sentence}_{emotion}_XX.wav").write_bytes(SHORT)
    (audio / "1040_ITH_SAD_X.wav").write_bytes(SHORT)
    (audio / "._1001_DFA_ANG_XX.wav").write_bytes(b"\0\5\x16\7")
    (root / "VideoDemographics.csv").write_text("\n".join(lines) + "\n")
    return root


def ravdess_tree(root: Path) -> Path:
    """All 1,440 recordings: eight emotions, two intensities but of neutral."""
    for actor in range(1, 25):
        folder = root / f"Actor_{actor:02d}"
        folder.mkdir(parents=True)
        for emotion in range(1, 9):
            for intensity in (1,) if emotion == 1 else (1, 2):
                for statement in (1, 2):
                    for repetition in (1, 2):
                        name = (
                            f"03-01-{emotion:02d}-{intensity:02d}-{statement:02d}"
                            f"-{repetition:02d}-{actor:02d}.wav"
                        )
                        (folder / name).write_bytes(SHORT)
    (root / "Actor_01" / "03-02-01-01-01-01-01.wav").write_bytes(SHORT)  # song
    return root


def emodb_tree(root: Path) -> Path:
    """All 535 recordings; the speakers take turns."""
    audio = root / "wav"
    audio.mkdir(parents=True)
    for letter, count in EMODB_COUNTS.items():
        for index in range(count):
            speaker = EMODB_SPEAKERS[index % 10]
            version = index // 10
            text = f"{'ab'[version // 7 % 2]}{version % 7 + 1:02d}"
            (audio / f"{speaker}{text}{letter}a.wav").write_bytes(SHORT)
    return root


def meld_tree(root: Path, suffix: str = ".wav", share: int = 1) -> Path:
    """The three tables with the release's counts (or one in `share`) and the files."""
    header = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID"
    for split, counts in MELD_COUNTS.items():
        folder = root / MELD_FOLDERS[split]
        folder.mkdir(parents=True)
        lines = [header]
        labels = [
            label
            for label, count in zip(MELD_LABELS, counts, strict=True)
            for _ in range(count // share)
        ]
        for index, label in enumerate(labels):
            dialog, turn = divmod(index, 10)
            speaker = ("Mrs. Green", "Ross", "Monica")[index % 3]
            text = '"Oh, ""no""! You’re here."'
            lines.append(f"{index},{text},{speaker},{label},neutral,{dialog},{turn}")
            (folder / f"dia{dialog}_utt{turn}{suffix}").write_bytes(SHORT)
        (root / f"{split}_sent_emo.csv").write_text("\n".join(lines) + "\n")
    (root / MELD_FOLDERS["test"] / "final_videos_testdia0_utt0.mp4").write_bytes(b"x")
    return root
