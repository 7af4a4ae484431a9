"""IEMOCAP: five sessions of a woman and a man, improvised and scripted dialogs.

Root (``IEMOCAP_full_release``)::

    Session1/
      dialog/EmoEvaluation/
        Ses01F_impro01.txt                  labels of one dialog
        Categorical/ Attribute/ Self-evaluation/      other formats, never read
      sentences/wav/Ses01F_impro01/
        Ses01F_impro01_F000.wav             one utterance
        Ses01F_impro01_M000.wav
    Session2/ ... Session5/

A label file (``->`` is a tab) has one block an utterance::

    % [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]

    [6.2901 - 8.2357]->Ses01F_impro01_F000->neu->[2.5000, 2.5000, 2.5000]
    C-E2:->Neutral;->()                     a rater's categories
    A-E3:->val 3; act 2; dom  2;->()        a rater's attributes

The bracket is valence, arousal ("activation"), dominance in that order, the mean of the
external raters, from 1 to 5. Seven brackets of the release lie outside (5.5 and 0.5);
they are kept and counted in the summary. The speaker is the session and the *last*
letter of the id: the letter after the session's number is the side that wore motion
capture in that dialog, and both people speak in every dialog.

Reference: C. Busso et al., "IEMOCAP: interactive emotional dyadic motion capture
database", Language Resources and Evaluation 42(4), 2008.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from espnet_ext.corpora.corpus import Corpus, LeftOut, Reading, check_label
from espnet_ext.corpora.listing import find_folder, list_files
from espnet_ext.corpora.splits import Scheme, Split, SplitOptions, Utterances, sample
from espnet_ext.corpora.textio import ends_with_newline, read_lines
from espnet_ext.corpora.utterance import Utterance
from espnet_ext.errors import UserError

NAME = "iemocap"
SESSIONS = (1, 2, 3, 4, 5)
LABELS = {
    **{"neu": "neutral", "ang": "angry", "hap": "happy", "exc": "excited"},
    **{"sad": "sad", "fru": "frustrated", "fea": "fearful", "sur": "surprised"},
    **{"dis": "disgusted", "oth": "other", "xxx": "no_agreement"},
}

_NUMBER = r"(-?\d+(?:\.\d+)?)"
_LABEL_LINE = re.compile(
    rf"\[{_NUMBER} - {_NUMBER}\]\t(\S+)\t(\S+)"
    rf"\t\[{_NUMBER}, *{_NUMBER}, *{_NUMBER}\]\s*"
)
# Blank ratings ("val ; act ; dom  ;") and empty categories (";") occur.
_RATING_LINE = re.compile(
    r"C-[EFM]\d*:\t.*;\t\(.*\)\s*"
    r"|A-[EFM]\d*:\tval *\d*; *act *\d*; *dom *\d*;\t\(.*\)\s*"
)
_UTTERANCE = re.compile(r"(Ses0(\d)[FM]_\w+)_([FM])\d{3}")


def read(root: Path) -> Reading:
    """Read every session under `root`.

    A label whose audio is missing is left out and listed. Audio without a label is an
    error: in the release each recording has its line, so the label file is damaged.

    Raises:
        UserError: With file and line, for anything in a label file that does not fit
            the format, a duplicated utterance, or audio without a label.
    """
    # The release's folder, or the one around it.
    for top in filter(None, (root, find_folder(root, "IEMOCAP_full_release"))):
        sessions = {n: find_folder(top, f"Session{n}") for n in SESSIONS}
        if any(sessions.values()):
            break
    else:
        raise UserError(
            f"{root}: no Session1 to Session5 in this folder; give the path of "
            "IEMOCAP_full_release"
        )
    reading = Reading()
    for session, folder in sessions.items():
        if folder is not None:
            _read_session(folder, session, reading)
    if not reading.utterances and not reading.left_out:
        raise UserError(f"{top}: no label files in SessionN/dialog/EmoEvaluation")
    return reading


def _read_session(folder: Path, session: int, reading: Reading) -> None:
    label_folder = _needed(folder, "dialog", "EmoEvaluation")
    wav_folder = _needed(folder, "sentences", "wav")
    # What is no dialog by its name is not of the release. Copies may have changed the
    # case of names; ids are taken from the label files' lines.
    audio = {
        path.name.strip().lower(): path
        for path in sorted(wav_folder.iterdir())
        if path.is_dir() and path.name.lower().startswith("ses")
    }
    # Sub-folders hold .txt files of other formats: the folder itself only.
    labels = {
        name.lower(): path
        for name, path in list_files(label_folder, (".txt",)).items()
        if name.lower().startswith("ses")
    }
    for dialog, path in labels.items():
        wavs = audio.get(dialog, wav_folder / dialog)
        _read_dialog(dialog, path, session, wavs, reading)
    for dialog, path in audio.items():
        if dialog not in labels:
            raise UserError(
                f"{label_folder / path.name.strip()}.txt: no label file for the audio "
                f"in {path}"
            )


def _needed(folder: Path, *parts: str) -> Path:
    found = find_folder(folder, *parts)
    if found is None:
        raise UserError(
            f"{folder.joinpath(*parts)}: no such folder; unpack the corpus again"
        )
    return found


def _read_dialog(
    dialog: str, path: Path, session: int, wav_folder: Path, reading: Reading
) -> None:
    """Add the utterances of one label file, compared with the dialog's audio."""
    audio = {name.lower(): wav for name, wav in list_files(wav_folder).items()}
    number = 0
    last_line_fits = True
    labeled = set()
    for number, text in read_lines(path, errors="replace"):
        last_line_fits = bool(_RATING_LINE.fullmatch(text)) or not text.strip()
        if not text.startswith("["):
            continue
        last_line_fits = True
        where = f"{path}:{number}"
        utterance = _parse_label(text, dialog, session, where)
        # Its id names this dialog, so no other file can hold the same utterance.
        file = utterance.id.lower()
        if file in labeled:
            raise UserError(f"{where}: {utterance.id} has a label line already")
        labeled.add(file)
        if file in audio:
            wav = str(audio[file])
            reading.utterances[utterance.id] = replace(utterance, wav=wav)
        else:
            reading.left_out.append(
                LeftOut(utterance.id, "label without audio", where, utterance)
            )
    if not labeled:
        raise UserError(f"{path}:{number}: no label lines; unpack the corpus again")
    if not last_line_fits and not ends_with_newline(path):
        raise UserError(
            f"{path}:{number}: the file ends inside a line, so it was cut off; unpack "
            "the corpus again"
        )
    unlabeled = sorted(audio.keys() - labeled)
    if unlabeled:
        raise UserError(
            f"{path}:{number}: no label line for {len(unlabeled)} recordings of this "
            f"dialog, the first is {audio[unlabeled[0]]}; the label file is "
            "incomplete, unpack the corpus again"
        )


def _parse_label(text: str, dialog: str, session: int, where: str) -> Utterance:
    """Return the record of a label line, without its audio."""
    match = _LABEL_LINE.fullmatch(text)
    if match is None:
        form = "[START - END]<tab>TURN<tab>EMOTION<tab>[V, A, D]"
        raise UserError(f"{where}: not a label line ({form}): {text[:80]!r}")
    start, end, id_, emotion, *attributes = match.groups()
    turn = _UTTERANCE.fullmatch(id_)
    # Compared as a whole: Ses05M_script01_1 and Ses05M_script01_1b are two dialogs.
    if turn is None or turn[1].lower() != dialog:
        raise UserError(f"{where}: {id_} is no utterance of this file's dialog")
    if int(turn[2]) != session:
        raise UserError(f"{where}: {id_} lies in the folder of session {session}")
    check_label(emotion, LABELS, where)
    speaker, gender = f"Ses0{session}{turn[3]}", turn[3].lower()
    return Utterance(
        *(id_, "", NAME, speaker, gender, f"Session{session}", emotion),
        labeled_seconds=float(end) - float(start),
    ).with_attributes(*map(float, attributes))


def _five_folds(
    description: str, validates: Callable[[Utterances, str, int], Iterable[str]]
) -> Scheme:
    """Make a scheme that tests on session k and trains on what is not validated on.

    `validates` takes the utterances of the other sessions, the session before k (5
    before 1) and the seed, and returns the ids of the validation set.
    """

    def split(utterances: Utterances, options: SplitOptions) -> Split:
        test = f"Session{options.fold}"
        rest = {id_: u for id_, u in utterances.items() if u.split != test}
        previous = f"{options.fold - 1 or SESSIONS[-1]}"
        valid = set(validates(rest, previous, options.seed))
        parts = rest.keys() - valid, valid, utterances.keys() - rest.keys()
        return Split(*(tuple(sorted(ids)) for ids in parts))

    return Scheme(split, folds=5, description=f"test session k, valid {description}")


SCHEMES = {
    # The letter is the recording's (who wore motion capture), so both speakers of that
    # session are in valid, and, in other dialogs, in train.
    "iemocap_5fold": _five_folds(
        "recordings Ses0{k-1}M",
        lambda rest, previous, seed: (i for i in rest if i[:6] == f"Ses0{previous}M"),
    ),
    "iemocap_5fold_random20": _five_folds(
        "a random 20 % of the other sessions",
        lambda rest, previous, seed: sample(rest, round(0.2 * len(rest)), seed),
    ),
    "iemocap_5fold_speaker_disjoint": _five_folds(
        "session k-1, no speaker shared",
        lambda rest, previous, seed: (i for i in rest if i[4] == previous),
    ),
}


# Counts of the release: a row a session, the columns in the order of LABELS.
_EMOTIONS = (
    (384, 229, 135, 143, 194, 280, 12, 25, 1, 1, 415),
    (362, 137, 117, 210, 197, 325, 9, 17, 0, 1, 436),
    (320, 240, 135, 151, 305, 382, 2, 28, 1, 0, 572),
    (258, 327, 65, 238, 143, 481, 7, 19, 0, 1, 564),
    (384, 170, 143, 299, 245, 381, 10, 18, 0, 0, 520),
)
_GENDERS = ((873, 946), (859, 952), (1048, 1088), (987, 1116), (1033, 1137))


def _known_counts() -> Counter[tuple[str, ...]]:
    counts: Counter[tuple[str, ...]] = Counter()
    for session, emotions, genders in zip(SESSIONS, _EMOTIONS, _GENDERS, strict=True):
        split = f"Session{session}"
        for emotion, count in zip(LABELS, emotions, strict=True):
            for key in ((), (split,), (split, emotion), (emotion,)):
                counts[key] += count
        for gender, count in zip("fm", genders, strict=True):
            counts[split, gender] = count
    return counts


CORPUS = Corpus(
    name=NAME,
    display="IEMOCAP",
    read=read,
    labels=LABELS,
    attribute_scale=(1.0, 5.0),
    releases={"IEMOCAP_full_release": _known_counts()},
    schemes=SCHEMES,
)
