"""From a corpus root to a data directory: read the labels, check the audio, tell."""

from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from espnet_ext.corpora import audio_check, summary
from espnet_ext.corpora.corpus import Corpus
from espnet_ext.corpora.datadir import make_data_dir, replaced_dir, write_data_files
from espnet_ext.corpora.textio import write_text
from espnet_ext.corpora.video import extract_from_videos
from espnet_ext.errors import UserError


@dataclass(frozen=True, slots=True)
class PrepareOptions:
    """How a corpus is prepared; see the options of ``ser_prepare``."""

    check_audio: bool
    strict: bool
    compare_counts: bool
    min_seconds: float
    audio_dir: Path | None
    nj: int


def prepare(corpus: Corpus, root: Path, output: Path, options: PrepareOptions) -> str:
    """Write the data directory of a corpus in one step.

    Returns:
        What was found, for people.

    Raises:
        UserError: The corpus is damaged; or, if strict, an utterance would be left out.
    """
    if not root.is_dir():
        raise UserError(f"--root {root}: no such folder")
    reading = corpus.read(root.absolute())
    release = None
    if options.compare_counts:
        without_audio = (i.utterance for i in reading.left_out if i.utterance)
        labeled = chain(reading.utterances.values(), without_audio)
        release = summary.check_release(corpus, labeled)
    audio_dir = options.audio_dir or output.with_name(f"{output.name}_audio")
    utterances, failed = extract_from_videos(reading.utterances, audio_dir)
    left_out = reading.left_out + failed
    reports = {}
    if options.check_audio:
        reports = audio_check.check_audio(utterances, options.nj, options.min_seconds)
        left_out += audio_check.faults(reports, utterances)
    fatal = [item for item in left_out if options.strict and not item.expected]
    if fatal:
        first = "\n".join(f"  {i.where}: {i.name}: {i.reason}" for i in fatal[:20])
        raise UserError(
            f"{len(fatal)} utterances would be left out, and --strict is on:\n{first}\n"
            "put them right, or use --strict false to go on without them"
        )
    lost = {item.name for item in left_out}
    scale = corpus.attribute_scale
    data = make_data_dir(
        (u for id_, u in utterances.items() if id_ not in lost),
        {id_: report.seconds for id_, report in reports.items() if id_ not in lost},
        {corpus.name: scale} if scale else {},
    )
    found = summary.summarize(data, left_out, reading.notes, release)
    with replaced_dir(output, marker="wav.scp") as folder:
        write_data_files(folder, data)
        text = summary.write_summary(folder, found, left_out)
        if options.check_audio:
            table = audio_check.audio_check_table(reports)
            write_text(folder / "audio_check.tsv", table)
            text += audio_check.remarks_text(reports)
            text += audio_check.shorter_than_labels(reports, utterances)
    return text
