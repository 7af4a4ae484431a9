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
import selectors
import shlex
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import BinaryIO

from espnet_ext.errors import UserError
from espnet_ext.jobs import child as child_process
from espnet_ext.jobs.guard import guard
from espnet_ext.jobs.lock import acquire
from espnet_ext.jobs.machine import format_size, hidden_gpus
from espnet_ext.jobs.progress import EpochProgress, write_line
from espnet_ext.jobs.step import Status, Step, set_aside, status

LOG_TAIL = 15
LOG_HEADER = "# Started at "
KEPT = "What was finished is kept: put it right and start the same command again."


@dataclass
class Child:
    """A step that is running."""

    step: Step
    pid: int  # of its guard
    pipe: int  # what it prints
    log: BinaryIO
    slot: int
    progress: EpochProgress | None  # of a training
    started: float = field(default_factory=time.monotonic)


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
    failures = _run(todo, min(jobs, len(todo)), gpus, patience, memory)
    if failures:
        raise UserError("\n".join([*failures.values(), KEPT]))
    return todo


def _run(
    todo: Sequence[Step],
    jobs: int,
    gpus: Sequence[str],
    patience: float,
    memory: int | None,
) -> dict[str, str]:
    """Keep `jobs` children busy until all have ended; return texts of failures."""
    waiting = list(todo)
    slots = list(range(jobs))
    failures: dict[str, str] = {}
    alone = len(todo) == 1 or jobs == 1
    running: dict[int, Child] = {}
    with selectors.DefaultSelector() as selector:
        try:
            while waiting or running:
                while waiting and slots and _fits(waiting[0], running, memory):
                    step = waiting.pop(0)
                    try:
                        child = _start(step, slots[0], gpus, patience)
                    except UserError as error:
                        append_to_log(step, f"error: {error}")
                        failures[step.name] = describe_failure(step, "failed")
                        continue
                    if child is not None:
                        del slots[0]
                        running[child.pid] = child
                        selector.register(child.pipe, selectors.EVENT_READ, child)
                for key, _ in selector.select() if running else ():
                    child = key.data
                    if data := os.read(child.pipe, 65536):
                        _forward(child, data, echo=alone)
                        continue
                    selector.unregister(child.pipe)
                    del running[child.pid]
                    slots.append(child.slot)
                    if how := _finish(child):
                        failures[child.step.name] = describe_failure(child.step, how)
        finally:
            for pid in running:  # an interrupt: nobody will wait for them
                os.kill(pid, signal.SIGTERM)
                os.waitpid(pid, 0)
    return failures


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


def append_to_log(step: Step, text: str) -> None:
    """Add a line to what a step has printed."""
    step.log.parent.mkdir(parents=True, exist_ok=True)
    with open(step.log, "a", encoding="utf-8") as log:
        log.write(f"{text}\n")


def _start(step: Step, slot: int, gpus: Sequence[str], patience: float) -> Child | None:
    """Start the child, which then holds the lock; None if the step is finished by now.

    Raises:
        UserError: Another process writes the step's output.
    """
    with acquire(step, patience) as lock:
        if status(step) is Status.DONE:
            print(f"  {step.name}: finished in the meantime")
            return None
        if step.keeps_partial_work and status(step) is Status.CHANGED:
            place = set_aside(step)
            print(
                f"  {step.name}: its inputs or settings have changed;"
                f" the earlier work is kept in {place}"
            )
        now = time.strftime("%F %T")
        append_to_log(step, f"{LOG_HEADER}{now}: {shlex.join(step.command())}")
        reader, writer = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        driver = os.getpid()
        pid = os.fork()
        if pid == 0:
            try:
                os.close(reader)
                gpu = gpus[slot % len(gpus)] if gpus else None
                become = partial(child_process.become, step, lock, writer, gpu)
                guard(driver, writer, become)
            finally:
                os._exit(1)
    os.close(writer)
    log = open(step.log, "ab")  # noqa: SIM115 (closed in _finish)
    progress = EpochProgress(step.name, step.epochs, slot) if step.epochs else None
    return Child(step, pid, reader, log, slot, progress)


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
    code = os.waitstatus_to_exitcode(wait_status)
    if child.progress is not None:
        child.progress.bar.close()
    seconds = time.monotonic() - child.started
    memory = format_size(used.ru_maxrss * 1024)  # the largest process at its largest
    name = child.step.name
    if code == 0:
        write_line(f"  {name}: done in {seconds:.0f} s, {memory} of memory")
        return ""
    how = f"failed (status {code})"
    if code > 128:  # see `guard`
        how = f"was killed by signal {code - 128}"
    if code == 128 + signal.SIGKILL:
        advice = "lower --nj or --max_mem, or say with --mem how much a process needs"
        if "SLURM_JOB_ID" in os.environ:
            advice = "raise --mem, here or in cmd.sh, or lower --runs_per_job"
        how = f"was killed, maybe out of memory (it had {memory}): {advice}"
    if code > 128:
        append_to_log(child.step, f"error: {name} {how}")
    write_line(f"  {name}: after {seconds:.0f} s {how}")
    return how


def last_output(step: Step) -> str:
    """What the step printed when it ran last; empty if it has no log."""
    try:
        text = step.log.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    _, header, last = text.rpartition(LOG_HEADER)
    return last.partition("\n")[2] if header else text


def describe_failure(step: Step, how: str) -> str:
    """Say how a step failed, with the end of its log."""
    lines = last_output(step).splitlines()[-LOG_TAIL:]
    head = f"{step.name} {how}; the end of {os.path.abspath(step.log)}:"
    return "\n".join([head, *(f"    {line}" for line in lines)])
