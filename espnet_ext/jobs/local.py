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
import resource
import selectors
import shlex
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import BinaryIO, TextIO

from tqdm import tqdm

from espnet_ext.errors import UserError, describe_os_error
from espnet_ext.jobs.lock import acquire, finishing, sign
from espnet_ext.jobs.memory import format_size
from espnet_ext.jobs.nodes import call_over_nodes
from espnet_ext.jobs.progress import EpochProgress
from espnet_ext.jobs.step import (
    Status,
    Step,
    describe_inputs,
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


@dataclass(frozen=True)
class Failure:
    """A step that did not end well, and how it ended."""

    step: Step
    how: str


def run_steps(
    steps: Sequence[Step],
    jobs: int,
    gpus: Sequence[str] = (),
    patience: float = 1.0,
    memory: int | None = None,
) -> list[Step]:
    """Run the unfinished ones of `steps`, which do not depend on each other.

    Args:
        steps: Steps of one stage.
        jobs: How many run at the same time.
        gpus: Device names for ``CUDA_VISIBLE_DEVICES``, dealt out in turn; empty
            leaves the variable alone.
        patience: Seconds to wait for another process that writes the same output.
        memory: What the steps that run at the same time may need together, in bytes. A
            step that needs more runs alone. None: no bound.

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
    failed = _run(todo, min(jobs, len(todo)), gpus, patience, memory)
    if failed:
        raise UserError(_describe_failures(failed))
    return todo


def _run(
    todo: Sequence[Step],
    jobs: int,
    gpus: Sequence[str],
    patience: float,
    memory: int | None,
) -> dict[str, Failure]:
    """Keep `jobs` children busy until all steps have ended; return those that failed.

    Args:
        todo: The steps to run.
        jobs: How many at a time.
        gpus: As in `run_steps`.
        patience: As in `run_steps`.
        memory: As in `run_steps`.
    """
    waiting = list(todo)
    slots = list(range(jobs))
    failed: dict[str, Failure] = {}
    alone = len(todo) == 1 or jobs == 1
    with selectors.DefaultSelector() as selector, _no_tqdm_thread():
        running: dict[int, Child] = {}
        try:
            while waiting or running:
                while waiting and slots and _fits(waiting[0], running, memory):
                    step = waiting.pop(0)
                    try:
                        lock = acquire(step, patience)
                    except UserError as error:
                        append_to_log(step, f"error: {error}")
                        failed[step.name] = Failure(step, "failed")
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
                    how = _finish(child)
                    if how:
                        failed[child.step.name] = Failure(child.step, how)
        finally:
            for child in running.values():
                os.kill(child.pid, signal.SIGTERM)
    return failed


def _fits(step: Step, running: Mapping[int, Child], bound: int | None) -> bool:
    """Whether a step may start beside those that run, by the memory they need."""
    if bound is None:
        return True
    if running:
        return sum(c.step.memory for c in running.values()) + step.memory <= bound
    if step.memory > bound:
        print(
            f"  {step.name}: needs {format_size(step.memory)} of memory by cmd.sh or "
            f"--mem, and {format_size(bound)} are to be had; it runs alone",
            flush=True,
        )
    return True


@contextmanager
def _no_tqdm_thread() -> Iterator[None]:
    """Keep tqdm from starting its monitor thread: the parent forks."""
    before = tqdm.monitor_interval
    tqdm.monitor_interval = 0
    try:
        yield
    finally:
        tqdm.monitor_interval = before


def append_to_log(step: Step, text: str) -> None:
    """Add a line to what a step has printed."""
    step.log.parent.mkdir(parents=True, exist_ok=True)
    with open(step.log, "a", encoding="utf-8") as log:
        log.write(f"{text}\n")


def _start(step: Step, lock: TextIO, slot: int, gpus: Sequence[str]) -> Child:
    """Start the child, which keeps the lock when this process has closed it."""
    _make_room(step)
    now = time.strftime("%F %T")
    append_to_log(step, f"{LOG_HEADER}{now}: {shlex.join(step.command())}")
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
        before = _inputs_now(step)
        code = _call_main(step)
        if code == 0:
            with finishing(step):
                mark_done(step, before)
            if status(step) is Status.CHANGED:
                print(
                    f"{step.name}: what it reads has changed while it ran: start the "
                    "same command again"
                )
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


def _inputs_now(step: Step) -> dict[str, str] | None:
    """Describe what the step is about to read; None where its program will miss it."""
    try:
        return describe_inputs(step)
    except OSError:
        return None


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


def _finish(child: Child) -> str:
    """Collect an ended child; return how it failed, or nothing."""
    os.close(child.pipe)
    child.log.close()
    _, wait_status, used = os.wait4(child.pid, 0)
    if child.progress is not None:
        child.progress.close()
    code = os.waitstatus_to_exitcode(wait_status)
    seconds = time.monotonic() - child.started
    if code == 0:
        memory = format_size(_peak(used))
        tqdm.write(f"  {child.step.name}: done in {seconds:.0f} s, {memory} of memory")
        return ""
    how = f"failed (status {code})"
    if code < 0:
        how = f"was killed by signal {-code}"
    if code == -signal.SIGKILL:
        how = (
            f"was killed, maybe out of memory (it had {format_size(_peak(used))}): "
            + _advice(os.environ)
        )
    if code < 0:
        append_to_log(child.step, f"error: {child.step.name} {how}")
    tqdm.write(f"  {child.step.name}: after {seconds:.0f} s {how}")
    return how


def _advice(environment: Mapping[str, str]) -> str:
    """Say what to do when memory was too little."""
    if "SLURM_JOB_ID" in environment:
        return "raise --mem, here or in cmd.sh, or lower --runs_per_job"
    return "lower --nj or --max_mem, or say with --mem how much a process needs"


def _peak(used: resource.struct_rusage) -> int:
    """Memory of the child's largest process at its largest, in bytes."""
    return used.ru_maxrss * 1024


def last_output(step: Step) -> str:
    """What the step printed when it ran last."""
    text = step.log.read_text(encoding="utf-8", errors="replace")
    return text.rpartition(LOG_HEADER)[2].partition("\n")[2]


def _describe_failures(failed: Mapping[str, Failure]) -> str:
    parts = []
    for name, failure in failed.items():
        log = os.path.abspath(failure.step.log)
        lines = last_output(failure.step).splitlines()
        tail = "\n".join(f"    {line}" for line in lines[-LOG_TAIL:])
        parts.append(f"{name} {failure.how}; the end of {log}:\n{tail}")
    done = "What was finished is kept: put it right and start the same command again."
    return "\n".join([*parts, done])
