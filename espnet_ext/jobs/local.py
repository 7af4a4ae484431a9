"""Run steps on this machine, several at a time, with their progress in view.

Each step runs in a forked child. Importing torch and ESPnet takes 10 to 30 seconds; the
parent does it once and every child has it for nothing. The parent itself computes
nothing, starts no thread and touches no GPU, so forking it is safe.

A child dies with its parent (no training goes on in the dark after a kill) and holds a
lock on its output folder, so that two runs never write the same one.
"""

import ctypes
import importlib
import os
import selectors
import shlex
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import BinaryIO, TextIO

from tqdm import tqdm

from espnet_ext.errors import UserError, describe_os_error
from espnet_ext.jobs.lock import acquire, finishing, sign
from espnet_ext.jobs.nodes import call_over_nodes
from espnet_ext.jobs.progress import EpochProgress
from espnet_ext.jobs.step import (
    Status,
    Step,
    mark_done,
    mark_started,
    set_aside,
    status,
    write_files,
)

PR_SET_PDEATHSIG = 1
LOG_TAIL = 15
LOG_HEADER = "# Started at "


@dataclass
class Child:
    """A step that is running."""

    step: Step
    pid: int
    pipe: int
    log: BinaryIO
    slot: int
    progress: EpochProgress | None = None
    started: float = field(default_factory=time.monotonic)


def run_steps(
    steps: Sequence[Step],
    jobs: int,
    gpus: Sequence[str] = (),
    patience: float = 1.0,
) -> list[Step]:
    """Run the unfinished ones of `steps`, which do not depend on each other.

    Args:
        steps: Steps of one stage.
        jobs: How many run at the same time.
        gpus: Device names for ``CUDA_VISIBLE_DEVICES``, dealt out in turn; empty
            leaves the variable alone.
        patience: Seconds to wait for another process that writes the same output.

    Returns:
        The steps that were run; the others had been finished before.

    Raises:
        UserError: After all have ended, if some failed; names each with its log.
    """
    todo = []
    for step in steps:
        if status(step) is Status.DONE:
            print(f"  {step.name}: finished before ({step.output})")
        else:
            todo.append(step)
    if len(todo) > 1:
        for module in sorted({name for step in todo for name in step.preload}):
            importlib.import_module(module)
    failed = _run(todo, min(jobs, len(todo)), gpus, patience)
    if failed:
        raise UserError(_describe_failures(failed))
    return todo


def _run(
    todo: Sequence[Step], jobs: int, gpus: Sequence[str], patience: float
) -> dict[str, Step]:
    """Keep `jobs` children busy until all steps have ended; return those that failed.

    Args:
        todo: The steps to run.
        jobs: How many at a time.
        gpus: As in `run_steps`.
        patience: As in `run_steps`.
    """
    waiting = list(todo)
    slots = list(range(jobs))
    failed: dict[str, Step] = {}
    alone = len(todo) == 1 or jobs == 1
    with selectors.DefaultSelector() as selector, _no_tqdm_thread():
        running: dict[int, Child] = {}
        try:
            while waiting or running:
                while waiting and slots:
                    step = waiting.pop(0)
                    try:
                        lock = acquire(step, patience)
                    except UserError as error:
                        _append_to_log(step, f"error: {error}")
                        failed[step.name] = step
                        continue
                    slot = slots.pop(0)
                    with lock:
                        if status(step) is Status.DONE:
                            print(f"  {step.name}: finished in the meantime")
                            slots.append(slot)
                            continue
                        child = _start(step, lock, slot, gpus)
                    if child.step.epochs:
                        child.progress = EpochProgress(
                            child.step.name, child.step.epochs, slot
                        )
                    selector.register(child.pipe, selectors.EVENT_READ, child)
                    running[child.pid] = child
                for key, _ in selector.select(timeout=1.0):
                    child = key.data
                    data = os.read(child.pipe, 65536)
                    if data:
                        _forward(child, data, echo=alone and child.progress is None)
                        continue
                    selector.unregister(child.pipe)
                    del running[child.pid]
                    slots.append(child.slot)
                    if not _finish(child):
                        failed[child.step.name] = child.step
        finally:
            for child in running.values():
                os.kill(child.pid, signal.SIGTERM)
    return failed


@contextmanager
def _no_tqdm_thread() -> Iterator[None]:
    """Keep tqdm from starting its monitor thread: the parent forks."""
    before = tqdm.monitor_interval
    tqdm.monitor_interval = 0
    try:
        yield
    finally:
        tqdm.monitor_interval = before


def _append_to_log(step: Step, text: str) -> None:
    step.log.parent.mkdir(parents=True, exist_ok=True)
    with open(step.log, "a", encoding="utf-8") as log:
        log.write(f"{text}\n")


def _start(step: Step, lock: TextIO, slot: int, gpus: Sequence[str]) -> Child:
    """Start the child, which keeps the lock when this process has closed it."""
    _make_room(step)
    now = time.strftime("%F %T")
    _append_to_log(step, f"{LOG_HEADER}{now}: {shlex.join(step.command())}")
    log = open(step.log, "ab")  # noqa: SIM115 (closed in _finish)
    reader, writer = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        _be_child(step, lock, writer, gpus[slot % len(gpus)] if gpus else None)
    os.close(writer)
    return Child(step, pid, reader, log, slot)


def _make_room(step: Step) -> None:
    """Set work of other settings aside, and say so."""
    if step.keeps_partial_work and status(step) is Status.CHANGED:
        place = set_aside(step)
        if place is not None:
            print(
                f"  {step.name}: its inputs or settings have changed;"
                f" the earlier work is kept in {place}"
            )


def _be_child(step: Step, lock: TextIO, writer: int, gpu: str | None) -> None:
    """Run the step in this forked process; never returns."""
    code = 1
    try:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        os.dup2(writer, 1)
        os.dup2(writer, 2)
        sys.stdout = os.fdopen(1, "w", buffering=1)
        sys.stderr = os.fdopen(2, "w", buffering=1)
        if gpu is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = gpu
        sign(lock)
        write_files(step)
        if step.keeps_partial_work:
            mark_started(step)
        code = _call_main(step)
        if code == 0:
            with finishing(step):
                mark_done(step)
    except UserError as error:
        code = 1
        print(f"error: {error}", file=sys.stderr)
    except OSError as error:
        code = 1
        print(f"error: {describe_os_error(error)}", file=sys.stderr)
    except BaseException:
        code = 1
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _call_main(step: Step) -> int:
    """Call the step's program; return its exit status."""
    if step.nodes > 1:
        return call_over_nodes(step)
    sys.argv = [step.module, *step.args]
    try:
        importlib.import_module(step.module).main(list(step.args))
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return 0


def _forward(child: Child, data: bytes, *, echo: bool) -> None:
    try:
        child.log.write(data)
        child.log.flush()
    except OSError as error:
        error.filename = str(child.step.log)  # a full disk: say which
        raise
    if child.progress is not None:
        child.progress.feed(data)
    elif echo:
        sys.stdout.buffer.write(data)
        sys.stdout.flush()


def _finish(child: Child) -> bool:
    """Collect an ended child; return whether the step ended well."""
    os.close(child.pipe)
    child.log.close()
    _, wait_status = os.waitpid(child.pid, 0)
    if child.progress is not None:
        child.progress.close()
    code = os.waitstatus_to_exitcode(wait_status)
    seconds = time.monotonic() - child.started
    if code == 0:
        tqdm.write(f"  {child.step.name}: done in {seconds:.0f} s")
        return True
    how = f"failed (status {code})"
    if code < 0:
        how = f"was killed by signal {-code}"
    if code == -signal.SIGKILL:
        how += " (out of memory, or by hand)"
    tqdm.write(f"  {child.step.name}: {how} after {seconds:.0f} s")
    return False


def last_output(step: Step) -> str:
    """What the step printed when it ran last."""
    text = step.log.read_text(encoding="utf-8", errors="replace")
    return text.rpartition(LOG_HEADER)[2].partition("\n")[2]


def _describe_failures(failed: dict[str, Step]) -> str:
    parts = []
    for name, step in failed.items():
        lines = last_output(step).splitlines()
        tail = "\n".join(f"    {line}" for line in lines[-LOG_TAIL:])
        parts.append(f"{name} failed; the end of {step.log}:\n{tail}")
    done = "What was finished is kept: put it right and start the same command again."
    return "\n".join([*parts, done])
