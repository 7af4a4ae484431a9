"""The right to write a step's output, held by one process at a time.

A lock of the operating system: it is gone when its holder dies, however it dies. On a
network file system the server takes some time to notice that a node has died.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from espnet_ext.errors import UserError
from espnet_ext.jobs.step import Step

_POLL_SECONDS = 0.5


def lock_path(step: Step) -> Path:
    """Where the lock of the step lies: beside its output, which may be replaced."""
    return step.output.parent / f".{step.output.name}.lock"


def acquire(step: Step, patience: float = 1.0) -> TextIO:
    """Take the right to write the step's output; closing the stream gives it back.

    Forked children hold it too, until the last of them has closed it. Several workers
    of one step hold it together. `patience` is in seconds: a look by `holder` takes a
    moment, and a job that is being killed on a failed node takes longer.

    Raises:
        UserError: If another run holds it all that time.
    """
    path = lock_path(step)
    path.parent.mkdir(parents=True, exist_ok=True)
    stream = open(path, "a+", encoding="utf-8")  # noqa: SIM115 (the caller's to close)
    kind = fcntl.LOCK_SH if step.workers > 1 else fcntl.LOCK_EX
    deadline = time.monotonic() + patience
    while not _taken(stream, kind):
        if time.monotonic() >= deadline:
            stream.close()
            raise UserError(
                f"{step.output} is being written by "
                f"{holder(step) or 'another process'}; wait for it or stop it first"
            )
        time.sleep(_POLL_SECONDS)
    return stream


def _taken(stream: TextIO, kind: int) -> bool:
    try:
        fcntl.flock(stream, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def sign(stream: TextIO) -> None:
    """Write into the lock who holds it: the calling process."""
    stream.seek(0)
    stream.truncate()
    stream.write(f"process {os.getpid()} on {os.uname().nodename}")
    stream.flush()


@contextmanager
def finishing(step: Step) -> Iterator[None]:
    """Let one worker after the other say that the step is done.

    Each worker writes the index of what they made together, and then the step's record
    of it: the last record must be of the last index.
    """
    with open(lock_path(step).with_suffix(".finish"), "a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def holder(step: Step) -> str | None:
    """Say who is writing the step's output now, or None if nobody is."""
    try:
        # Writable: a network file system wants that for an exclusive lock.
        stream = open(lock_path(step), "r+", encoding="utf-8")  # noqa: SIM115
    except OSError:
        return None
    with stream:
        if _taken(stream, fcntl.LOCK_EX):
            return None
        return stream.read().strip() or "another process"
