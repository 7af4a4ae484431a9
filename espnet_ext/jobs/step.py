"""A step of a recipe, and the one place that decides whether it is finished.

A step declares its inputs, its settings and its products. Their fingerprint is written
beside the products when the step ends well; a step is finished when that record exists,
carries the fingerprint of today's inputs and settings, and describes the products that
lie there now. A file's mere existence decides nothing.

Stages, tables and cluster back ends all ask `status`; none of them looks at files.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from enum import Enum, StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from espnet_ext import __version__
from espnet_ext.jobs.code import code_digest
from espnet_ext.utils.atomic import atomic_write_text

RECORD = ".done.json"
STARTED = ".started.json"

# A larger file is known by its size and time: hashing HuBERT-large's 1.2 GB at every
# start would cost more than the rest of the plan.
MAX_HASHED_BYTES = 4 * 2**20


class Evidence(StrEnum):
    """How the content of an input is taken into the fingerprint."""

    CONTENT = "content"  # every byte of small files
    LISTING = "listing"  # names, sizes and times: for corpora, which are too large
    RUNS = "runs"  # of a file by `format_runs`: which are finished, and what they made


class Status(Enum):
    """What the plan has to do about a step."""

    DONE = "done"
    NEW = "new"  # nothing there
    STARTED = "started"  # begun with the same fingerprint, products not complete
    CHANGED = "changed"  # what lies there was made from other inputs or settings


class Input(NamedTuple):
    """A file or folder that a step reads."""

    path: Path
    evidence: Evidence = Evidence.CONTENT


@dataclass(frozen=True)
class Step:
    """One program call of a recipe.

    `settings` holds what decides the result beside the inputs. Arguments that only say
    how fast or where (``--nj``, ``--ngpu``) belong into `args` alone.
    """

    name: str  # in logs; unique within a plan
    stage: int  # its number in ser.sh
    module: str  # the program, e.g. ``espnet_ext.bin.ser_train``
    args: tuple[str, ...]
    output: Path  # the folder it writes; its record and its log lie there
    products: tuple[str, ...]  # files in `output` that exist when it is done
    inputs: tuple[Input, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    # Cut off, it goes on from what lies in `output` (training). The others write their
    # output in one piece.
    keeps_partial_work: bool = False
    grows: bool = False  # plans share `output` and add what they lack (a feature store)
    preload: tuple[str, ...] = ()  # slow imports that the steps of a stage share
    epochs: int = 0  # at most, for the progress display; 0 if it is no training
    # Texts that its program reads and the plan makes (a training's merged YAML).
    # Written when it starts, so that a queued step has the settings it was queued with.
    files: tuple[tuple[Path, str], ...] = ()
    gpus: int = 0
    workers: int = 1  # processes that share its work, each with the same command
    memory: int = 0  # what one process needs, in bytes; 0 if that is not known

    @property
    def reports(self) -> bool:
        """Whether it reports on runs, and so waits for them however they end."""
        return any(item.evidence is Evidence.RUNS for item in self.inputs)

    @property
    def log(self) -> Path:
        """Where what the step prints is kept.

        A training's folder, as ESPnet users expect; beside any other, which is replaced
        as a whole.
        """
        if self.keeps_partial_work:
            return self.output / "train.log"
        return self.output.parent / f"{self.output.name}.log"

    def command(self) -> list[str]:
        """The step as a command that can be run by hand."""
        return ["python", "-m", self.module, *self.args]


# ---- Fingerprints


def fingerprint(step: Step, inputs: Mapping[str, str] | None = None) -> str:
    """Hash everything that decides the step's result (sha256, hexadecimal).

    `inputs` is an earlier result of `describe_inputs`; None: as they are now.

    Raises:
        FileNotFoundError: If an input does not exist.
    """
    inputs = describe_inputs(step) if inputs is None else inputs
    content = {
        "version": __version__,
        "module": step.module,
        "settings": step.settings,
        # In the order in which they are declared, without their paths: the same step
        # is finished whatever folder it is called from, or was moved to.
        "inputs": list(inputs.values()),
        "products": step.products,
    }
    return hash_json(content)


def hash_json(content: Any) -> str:
    """Hash what JSON can hold (sha256, hexadecimal)."""
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def describe_inputs(step: Step) -> dict[str, str]:
    """Digest of each input by its path."""
    return {
        str(item.path): _digest_runs(runs_of(step, item))
        if item.evidence is Evidence.RUNS
        else digest(item)
        for item in step.inputs
    }


def digest(item: Input) -> str:
    """Hash a file, or a folder with everything below it except dot files."""
    if not item.path.is_dir():
        return _digest_file(item.path, item.evidence)
    total = hashlib.sha256()
    for file in sorted(_walk(item.path)):
        name = os.path.relpath(file, item.path)  # pathlib's takes far longer
        total.update(f"{name}\0{_digest_file(file, item.evidence)}\n".encode())
    return total.hexdigest()


def _walk(folder: Path) -> Iterable[Path]:
    for root, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(root, name) for name in names if not name.startswith("."))


def _digest_file(path: Path, evidence: Evidence) -> str:
    stat = path.stat()
    if evidence is Evidence.LISTING or stat.st_size > MAX_HASHED_BYTES:
        return f"{stat.st_size}:{stat.st_mtime_ns}"
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _digest_runs(runs: Mapping[str, Sequence[Step]]) -> str:
    made = {
        label: [
            *(recorded_code(step.output) for step in steps),
            *(digest(Input(steps[-1].output / name)) for name in steps[-1].products),
        ]
        for label, steps in runs.items()
        if all(map(is_done, steps))
    }
    return hashlib.sha256(json.dumps(made).encode()).hexdigest()


# ---- Is it finished?


def status(step: Step) -> Status:
    """Compare the step with its record."""
    record = _read(step.output / RECORD)
    started = _read(step.output / STARTED)
    if not record and not started:
        return Status.NEW
    try:
        now = fingerprint(step)
    except FileNotFoundError:
        return Status.CHANGED  # an input has gone: an earlier step will remake it
    if record.get("fingerprint") == now:
        same = record.get("products") == describe_products(step)
        return Status.DONE if same else Status.STARTED
    return Status.STARTED if started.get("fingerprint") == now else Status.CHANGED


def is_done(step: Step) -> bool:
    """Whether a step is finished; one whose inputs cannot be read is not."""
    try:
        return status(step) is Status.DONE
    except OSError:
        return False


def describe_products(step: Step) -> dict[str, list[int]] | None:
    """Size and time of each product; None if one is missing or empty."""
    described = {}
    for name in step.products:
        path = step.output / name
        if not path.is_file() or path.stat().st_size == 0:
            return None
        stat = path.stat()
        described[name] = [stat.st_size, stat.st_mtime_ns]
    return described


def write_files(step: Step) -> None:
    """Write the texts that come with the step, where they are not there already."""
    for path, text in step.files:
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            atomic_write_text(path, text)


def mark_started(step: Step) -> None:
    """Record which inputs and settings the partial work in the folder belongs to."""
    old = _read(step.output / STARTED) or _read(step.output / RECORD)
    content = {
        "step": step.name,
        "fingerprint": fingerprint(step),
        "code": _join_codes(old, step),
    }
    atomic_write_text(step.output / STARTED, json.dumps(content, indent=1))


def mark_done(step: Step, inputs: Mapping[str, str] | None = None) -> None:
    """Write the record that makes the step finished.

    `inputs` is the result of `describe_inputs` before its program ran: what has changed
    while it ran is not in its products, so it is then not finished. None: as it is now.

    Raises:
        FileNotFoundError: If the step ended well but left a product out.
    """
    products = describe_products(step)
    if products is None:
        missing = [n for n in step.products if not (step.output / n).is_file()]
        raise FileNotFoundError(
            f"{step.name} ended without {', '.join(missing)} in {step.output}"
        )
    inputs = describe_inputs(step) if inputs is None else inputs
    record = {
        "step": step.name,
        "fingerprint": fingerprint(step, inputs),
        "code": _codes_of(step, products),
        "command": step.command(),
        "inputs": dict(inputs),
        "products": products,
    }
    atomic_write_text(step.output / RECORD, json.dumps(record, indent=1))
    (step.output / STARTED).unlink(missing_ok=True)


def forget(step: Step) -> None:
    """Make a step unfinished; what it wrote stays until it is replaced."""
    for name in (RECORD, STARTED):
        (step.output / name).unlink(missing_ok=True)


def set_aside(step: Step) -> Path | None:
    """Move earlier work to a name with its fingerprint; None if there is none."""
    old = _read(step.output / RECORD) or _read(step.output / STARTED)
    if not step.output.exists():
        return None
    name = f"{step.output.name}.replaced-{str(old.get('fingerprint', 'unknown'))[:8]}"
    place, number = step.output.with_name(name), 1
    while place.exists():
        number += 1
        place = step.output.with_name(f"{name}-{number}")
    os.replace(step.output, place)
    return place


# ---- What a record tells


def recorded_inputs(output: Path) -> dict[str, str]:
    """Digests of what a finished step had read, by path; empty without a record."""
    return _read(output / RECORD).get("inputs", {})


def recorded_fingerprint(output: Path) -> str:
    """Fingerprint of the finished step whose folder this is; empty without a record."""
    return str(_read(output / RECORD).get("fingerprint", ""))


def recorded_code(output: Path) -> str:
    """Digest of the code that made a finished step; empty without a record.

    What several states of the code have made one after the other has all of theirs,
    joined by ``+``.
    """
    return "+".join(_codes_in(_read(output / RECORD)))


def made_by_other_code(step: Step) -> bool:
    """Whether today's code is not what a finished step was made by."""
    return recorded_code(step.output) != code_digest(step.module)


def _codes_of(step: Step, products: Mapping[str, Any]) -> list[str]:
    """List what has made the products that lie there now."""
    old = _read(step.output / RECORD)
    if old.get("products") == products:  # found complete and left as it was
        return _codes_in(old)
    if step.keeps_partial_work:
        old = _read(step.output / STARTED)
    goes_on = step.keeps_partial_work or step.grows
    return _join_codes(old if goes_on else {}, step)


def _join_codes(old: Mapping[str, Any], step: Step) -> list[str]:
    return list(dict.fromkeys([*_codes_in(old), code_digest(step.module)]))


def _codes_in(record: Mapping[str, Any]) -> list[str]:
    return record.get("code", ["not recorded"]) if record else []


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
        return {}


# ---- Steps as text: for jobs, which run them, and for tables, which report on them


def step_from_json(content: Mapping[str, Any]) -> Step:
    """Turn ``asdict(step)``, written as JSON and read again, back into the step."""
    known = {field.name for field in fields(Step)}  # earlier versions had others
    changed = {
        "args": tuple(content["args"]),
        "output": Path(content["output"]),
        "products": tuple(content["products"]),
        "inputs": tuple(Input(Path(p), Evidence(e)) for p, e in content["inputs"]),
        "preload": tuple(content["preload"]),
        "files": tuple((Path(path), text) for path, text in content["files"]),
    }
    return Step(**{k: v for k, v in content.items() if k in known} | changed)


def format_runs(runs: Mapping[Any, Sequence[Step]]) -> str:
    """Write down the steps of runs, each by a label: what a step reports on.

    A run is finished when all of its steps are; the last one makes what is shown.
    """
    content = {label: [asdict(s) for s in steps] for label, steps in runs.items()}
    return json.dumps(content, indent=1, default=str)


def parse_runs(text: str) -> dict[str, tuple[Step, ...]]:
    """Turn the text of `format_runs` back into steps.

    Raises:
        json.JSONDecodeError: It is not complete.
    """
    return {
        label: tuple(map(step_from_json, steps))
        for label, steps in json.loads(text).items()
    }


def read_runs(path: Path) -> dict[str, tuple[Step, ...]]:
    """Read what `format_runs` wrote.

    Raises:
        FileNotFoundError: If the file does not exist.
    """
    return parse_runs(path.read_text(encoding="utf-8"))


def runs_of(step: Step, item: Input) -> dict[str, tuple[Step, ...]]:
    """List the runs of an input by `Evidence.RUNS`: from the text with it, if any.

    Raises:
        FileNotFoundError: If there is neither a text nor a file.
    """
    text = dict(step.files).get(item.path)
    return read_runs(item.path) if text is None else parse_runs(text)


def command_line(**options: object) -> tuple[str, ...]:
    """Write options as words: a list has several values, None is left out."""
    words: list[str] = []
    for name, value in options.items():
        if value is None:
            continue
        values = value if isinstance(value, list | tuple) else [value]
        texts = (str(v).lower() if isinstance(v, bool) else str(v) for v in values)
        words += [f"--{name}", *texts]
    return tuple(words)
