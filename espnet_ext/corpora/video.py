"""The audio of videos, converted to 16 kHz mono wav files with ffmpeg."""

import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from espnet_ext.corpora.audio import RATE
from espnet_ext.corpora.corpus import LeftOut
from espnet_ext.corpora.utterance import Utterance
from espnet_ext.errors import UserError
from espnet_ext.utils.atomic import atomic_file

_VIDEO = (".mp4", ".mkv", ".avi")


def extract_from_videos(
    utterances: Mapping[str, Utterance], folder: Path
) -> tuple[dict[str, Utterance], list[LeftOut]]:
    """Convert the audio of videos to ``folder/<id>.wav``, if it is not there.

    Returns:
        The records with the paths of the wav files, and those that ffmpeg failed on.

    Raises:
        UserError: There are videos to convert and ffmpeg is not installed.
    """
    kept = dict(utterances)
    videos = [u for u in utterances.values() if u.wav.lower().endswith(_VIDEO)]
    todo = [u for u in videos if not (folder / f"{u.id}.wav").exists()]
    if todo and shutil.which("ffmpeg") is None:
        raise UserError(
            f"{todo[0].wav}: reading the audio of videos needs ffmpeg, which is not "
            "installed; install it with your system's package manager, or put a 16 kHz "
            "wav file of the same name beside each video"
        )
    for u in videos:
        kept[u.id] = replace(u, wav=str(folder.absolute() / f"{u.id}.wav"))
    failed = []
    for u in tqdm(todo, desc=f"audio to {folder}", disable=not todo):
        try:
            _convert(u.wav, folder / f"{u.id}.wav")
        except ValueError as error:
            del kept[u.id]
            reason = "ffmpeg cannot read the video"
            failed.append(LeftOut(u.id, reason, f"{u.wav}: {error}", u))
    return kept, failed


def _convert(video: str, wav: Path) -> None:
    """Write the audio of a video; ValueError with ffmpeg's last line if it fails."""
    with atomic_file(wav) as temporary:
        command = ["ffmpeg", "-nostdin", "-v", "error", "-y", "-i", video, "-vn"]
        command += ["-ac", "1", "-ar", str(RATE), "-f", "wav", str(temporary)]
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False
        )
        if done.returncode or not temporary.exists():
            lines = done.stderr.strip().splitlines()
            raise ValueError(lines[-1] if lines else "no output")
