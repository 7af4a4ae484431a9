"""Run steps on this machine, several at a time, with their progress in view.

A step that uses no GPU runs in a forked child. Importing torch and ESPnet takes 10 to
30 seconds; the driver does it once, with the GPUs hidden, and every such child has it
for nothing. The driver itself computes nothing, starts no thread and never asks CUDA,
so forking it is safe. A step that uses GPUs gets a fresh interpreter (see `child`).

What a step starts dies with the driver (no training goes on in the dark after a kill),
and until then a lock on its output folder is held, so that two runs never write the
same one (see `guard`).
"""

import importlib
import os
import resource
import selectors
import shlex
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import BinaryIO, TextIO

from tqdm import tqdm

from espnet_ext.errors import UserError
from espnet_ext.jobs import child as child_process
from espnet_ext.jobs.gpus import hidden_gpus
from espnet_ext.jobs.guard import Guard, guarding
from espnet_ext.jobs.lock import acquire
from espnet_ext.jobs.memory import format_size
from espnet_ext.jobs.progress import EpochProgress
from espnet_ext.jobs.step import Status, Step, set_aside, status

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
    forked = [step for step in todo if not step.gpus]
    if len(forked) > 1:
        with hidden_gpus():
            for module in sorted({name for step in forked for name in step.preload}):
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

    The arguments are as in `run_steps`.
    """
    waiting = list(todo)
    slots = list(range(jobs))
    failed: dict[str, Failure] = {}
    alone = len(todo) == 1 or jobs == 1
    with (
        selectors.DefaultSelector() as selector,
        _no_tqdm_thread(),
        guarding() as guard,
    ):
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
                        child = _start(step, lock, slot, gpus, guard)
                    if child.step.epochs:
                        child.progress = EpochProgress(
                            child.step.name, child.step.epochs, slot
                        )
                    selector.register(child.pipe, selectors.EVENT_READ, child)
                    running[child.pid] = child
                events = selector.select(timeout=1.0)
                _end_what_is_left_behind(running.values(), guard)
                for key, _ in events:
                    child = key.data
                    data = os.read(child.pipe, 65536)
                    if data:
                        _forward(child, data, echo=alone and child.progress is None)
                        continue
                    selector.unregister(child.pipe)
                    del running[child.pid]
                    slots.append(child.slot)
                    how = _finish(child, guard)
                    if how:
                        failed[child.step.name] = Failure(child.step, how)
        finally:
            for pid in running:  # an interrupt: nobody will wait for them
                with suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
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


def _start(
    step: Step, lock: TextIO, slot: int, gpus: Sequence[str], guard: Guard
) -> Child:
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
        try:
            os.setpgid(0, 0)
            os.close(reader)
            guard.close()
            gpu = gpus[slot % len(gpus)] if gpus else None
            child_process.become(step, lock, writer, gpu)
        finally:
            os._exit(1)
    with suppress(PermissionError, ProcessLookupError):  # it has done so itself
        os.setpgid(pid, pid)
    guard.hold(pid, lock)
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


def _end_what_is_left_behind(children: Iterable[Child], guard: Guard) -> None:
    """Kill what children that have ended started: it keeps their pipes open."""
    for child in children:
        if os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            guard.release(child.pid)


def _finish(child: Child, guard: Guard) -> str:
    """Collect an ended child; return how it failed, or nothing."""
    os.close(child.pipe)
    child.log.close()
    # While the child is not yet collected, no other process group can have its number.
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    guard.release(child.pid)
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
