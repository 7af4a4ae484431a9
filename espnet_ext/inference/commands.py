"""The commands of the program ``ser``; each returns how many recordings failed."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from espnet_ext.errors import UserError
from espnet_ext.inference.inputs import Recording, find_recordings
from espnet_ext.inference.outputs import ResultWriter, csv_line, open_output
from espnet_ext.utils.atomic import atomic_file, atomic_write_text

if TYPE_CHECKING:
    from espnet_ext.inference.emotion import SpeechEmotion
    from espnet_ext.inference.timeline import Segment, Timeline


def predict(args: argparse.Namespace) -> int:
    """Predict each recording and write its row at once."""
    if args.resume and (args.output is None or args.format == "table"):
        raise UserError("--resume true needs --output, and --format jsonl or csv")
    recordings = find_recordings(args.inputs)
    ser = _load(args)
    with ResultWriter(
        args.format,
        args.output,
        ser.labels,
        len(ser.info.members),
        resume=args.resume,
    ) as writer:
        rest = [r for r in recordings if r.id not in writer.finished]
        if len(rest) < len(recordings):
            print(f"{len(recordings) - len(rest)} finished before", file=sys.stderr)
        return _for_each(
            rest, lambda r: writer.write(r.id, ser(r.audio()).to_dict()), writer.write
        )


def timeline(args: argparse.Namespace) -> int:
    """Follow each recording and write its segments or steps."""
    recordings = find_recordings(args.inputs)
    ser = _load(args)
    is_first = True
    place = nullcontext(None) if args.output is None else atomic_file(args.output)
    with place as temporary:
        stream = sys.stdout
        if temporary is not None:
            stream = open_output(temporary, "w")

        def follow(recording: Recording) -> None:
            nonlocal is_first
            found = ser.timeline(recording.audio(), args.window, args.hop)
            if args.format == "rttm":
                text = found.to_rttm()
            elif args.format == "jsonl":
                values = {**found.to_dict(), "source": recording.id}
                text = json.dumps(values, ensure_ascii=False) + "\n"
            elif args.format == "csv":
                text = _steps_as_csv(recording.id, found, header=is_first)
            else:
                text = _segments_for_people(recording.id, found)
            stream.write(text)
            stream.flush()
            is_first = False

        try:
            return _for_each(recordings, follow, None)
        finally:
            if stream is not sys.stdout:
                stream.close()


def embed(args: argparse.Namespace) -> int:
    """Write the embeddings of all recordings as ID/BRANCH."""
    import numpy as np

    recordings = find_recordings(args.inputs)
    ser = _load(args)
    arrays: dict[str, Any] = {}

    def one(recording: Recording) -> None:
        result = ser(recording.audio(), embeddings=True)
        for branch, vector in result.embeddings.items():
            # Members of a zip have UTF-8 names; those of files may be any bytes.
            name = recording.id.encode("utf-8", "backslashreplace").decode()
            arrays[f"{name}/{branch}"] = vector

    failed = _for_each(recordings, one, None)
    if not arrays:
        print(f"nothing to write in {args.output}", file=sys.stderr)
        return failed
    with atomic_file(args.output) as temporary, open(temporary, "wb") as stream:
        np.savez(stream, **arrays)
    print(f"{len(recordings) - failed} recordings in {args.output}")
    return failed


def info(args: argparse.Namespace) -> int:
    """Print what a model was made of."""
    ser = _load(args)
    values = {"labels": list(ser.labels), **ser.info.as_dict()}
    if args.format == "json":
        print(json.dumps(values, indent=2))
        return 0
    print(describe(ser))
    return 0


def pack(args: argparse.Namespace) -> int:
    """Make a package of a trained model."""
    from espnet_ext.inference.pack import pack_experiment

    first, *others = args.experiments
    pack_experiment(first, args.output, others=others, licence_ack=args.licence_ack)
    size = args.output.stat().st_size / 1e6
    print(f"{args.output}: {size:.1f} MB; ser info --model {args.output}")
    return 0


def upload(args: argparse.Namespace) -> int:
    """Upload a package, and tell where it is."""
    from espnet_ext.inference.upload import upload_package

    url = upload_package(args.package, args.hf_repo, licence_ack=args.licence_ack)
    if args.output is not None:
        found = {"hf_repo": args.hf_repo, "commit": url}
        atomic_write_text(args.output, json.dumps(found, indent=1) + "\n")
    print(f"{url}; ser predict --model {args.hf_repo}")
    return 0


def export(args: argparse.Namespace) -> int:
    """Make a package of one ONNX graph, and tell how near its answers are."""
    from espnet_ext.inference.onnx_export import PARITY_SECONDS, export_model

    difference = export_model(
        args.model, args.output, args.upstream, licence_ack=args.licence_ack
    )
    print(
        f"{args.output}: at most {difference:.1e} from torch on {len(PARITY_SECONDS)} "
        f"clips of {PARITY_SECONDS[0]:g} to {PARITY_SECONDS[-1]:g} s"
    )
    return 0


def serve(args: argparse.Namespace) -> int:
    """Answer over HTTP until interrupted."""
    from espnet_ext.inference.server import Limits, run

    limits = Limits(args.max_mb, args.max_seconds, args.max_waiting)
    run(_load(args), limits, args.host, args.port)
    return 0


def demo(args: argparse.Namespace) -> int:
    """Show a page until interrupted."""
    from espnet_ext.inference.page.app import run
    from espnet_ext.inference.server import Limits, listen

    limits = Limits(args.max_mb, args.max_seconds)
    # Before the model, which takes a while: a port in use is known at once.
    with listen(args.host, args.port) as listening:
        ser = _load(args)
        run(ser, describe(ser), limits, listening)
    return 0


def describe(ser: "SpeechEmotion") -> str:
    """Say for people what a model was made of."""
    from espnet_ext.inference.info import format_score

    about = ser.info
    lines = [f"model       {about.name}"]
    if about.builtin:
        lines.append("            A TOY: trained on the built-in, synthetic corpora")
    names = [
        full if full == short else f"{full} ({short})"
        for full, short in zip(ser.labels, about.classes, strict=True)
    ]
    lines.append(f"classes     {', '.join(names)}")
    if about.scale is not None:
        lines.append(f"attributes  from {about.scale[0]:g} to {about.scale[1]:g}")
    lines.append(f"corpora     {', '.join(about.corpora) or 'not known'}")
    if about.clips is not None:
        low, high = about.clips
        lines.append(
            f"training    {about.utterances} clips of {low:.1f} to {high:.1f} s"
        )
    upstream = about.features["upstream"]
    lines.append(f"upstream    {upstream['name']} ({upstream['source']})")
    lines.append(f"weights     {about.weights or 'not known'}")
    for name, score in about.results.items():
        lines.append(f"test        {name} {format_score(score)}")
    for number, member in enumerate(about.members, 1):
        scores = [f"{k} {format_score(v)}" for k, v in member.results.items()]
        test = f" (test: {', '.join(scores)})" if scores else ""
        lines.append(f"member {number:<5}{member.name}{test}")
    if about.folds:
        lines.append(
            "            members are folds: the mean has no honest score on this corpus"
        )
    if about.calibration is not None:
        c = about.calibration
        lines.append(
            f"calibration temperature {c.temperature:.3f}, error {c.ece_before:.3f} "
            f"before, {c.ece_after:.3f} after ({c.utterances} validation clips)"
        )
    return "\n".join(lines)


def _load(args: argparse.Namespace) -> "SpeechEmotion":
    # torch keeps what it prepared for the last 1,024 shapes of products: 0.7 GB where
    # files differ in length. One file has a dozen.
    for name in ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY"):
        os.environ.setdefault(name, "32")
    # Late: this imports torch.
    from espnet_ext.inference.emotion import SpeechEmotion

    options = {k: getattr(args, k) for k in ("dtype", "scores") if hasattr(args, k)}
    return SpeechEmotion.from_pretrained(
        args.model, args.device, args.upstream, **options
    )


def _for_each(
    recordings: Iterable[Recording],
    use: Callable[[Recording], None],
    write_failure: Callable[[str, dict[str, Any]], None] | None,
) -> int:
    """Use each recording; name those that fail and go on. Returns their number."""
    failed = 0
    for recording in _progress(list(recordings)):
        try:
            use(recording)
        except BrokenPipeError:
            raise
        except (UserError, OSError) as error:
            failed += 1
            text = str(error)
            named = text if recording.id in text else f"{recording.id}: {text}"
            print(f"error: {named}", file=sys.stderr)
            if write_failure is not None:
                write_failure(recording.id, {"error": text})
    return failed


def _progress(recordings: list[Recording]) -> Iterator[Recording]:
    """Show progress on a terminal's standard error, where there is much to do."""
    from tqdm import tqdm

    hidden = len(recordings) < 10 or not sys.stderr.isatty()
    yield from tqdm(recordings, unit="file", disable=hidden)


def _steps_as_csv(name: str, found: "Timeline", *, header: bool) -> str:
    table = found.to_frame().to_csv(index=False, header=header, float_format="%.6f")
    # Joined here, for pandas takes no names that are no UTF-8.
    first = csv_line([name]).rstrip("\n")
    rows = [f"{first},{row}\n" for row in table.splitlines()]
    if header:
        rows[0] = f"id,{table.splitlines()[0]}\n"
    return "".join(rows)


def _segments_for_people(name: str, found: "Timeline") -> str:
    lines = [f"{name} ({found.seconds:.1f} s)"]
    lines += [_segment_line(segment) for segment in found.segments]
    return "\n".join(lines) + "\n"


def _segment_line(segment: "Segment") -> str:
    line = f"{segment.start:>10.2f}{segment.end:>10.2f}  {segment.label:<12}"
    if segment.scores is not None:
        line += f"{max(segment.scores.values()):>6.3f}"
    if segment.valence is not None:
        line += (
            f"  valence {segment.valence:.2f}  arousal {segment.arousal:.2f}"
            f"  dominance {segment.dominance:.2f}"
        )
    return line
