"""Nothing of a step outlives its driver, and its lock is held as long as anything does.

The kernel ends a driver's children when the driver dies (`PR_SET_PDEATHSIG`), but not
what the children have started: the ranks of a distributed training, pools of workers.
So a small process stands between the driver and each step. What a step has started and
left behind becomes its child; when the step has ended or the driver is gone, however it
died, it kills them all. Until the last one is dead it holds the step's lock.
"""

import contextlib
import ctypes
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

# linux/prctl.h
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def guard(driver: int, pipe: int, become_step: Callable[[], NoReturn]) -> NoReturn:
    """Turn this process, a new fork of `driver`, into the guard of a step.

    It exits as the step does; 128 + N stands for signal N. The step is a fork that
    calls `become_step`; it alone keeps `pipe`, which takes its output.
    """
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)
    os.setsid()
    awaited = {signal.SIGCHLD, signal.SIGTERM}
    before = signal.pthread_sigmask(
        signal.SIG_BLOCK, awaited | {signal.SIGINT, signal.SIGHUP}
    )
    step = os.fork()
    if step == 0:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        os.setpgid(0, 0)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        become_step()
    os.close(pipe)
    ended, status = 0, 1
    while os.getppid() == driver and not ended:
        ended, status = os.waitpid(step, os.WNOHANG)
        if not ended and signal.sigwait(awaited) == signal.SIGTERM:
            break
    _kill_descendants()
    code = os.waitstatus_to_exitcode(status)
    os._exit(code if code >= 0 else 128 - code)


def _kill_descendants() -> None:
    """Kill the children until there are no more: orphans become children too."""
    while children := _children():
        for pid in children:
            with contextlib.suppress(PermissionError):
                os.kill(pid, signal.SIGKILL)
        os.waitpid(-1, 0)


def _children() -> list[int]:
    """List the processes that this one is the parent of, dead ones included."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has just ended
            # man 5 proc: pid (name) state parent ...
            parent = path.read_text().rpartition(")")[2].split()[1]
            if int(parent) == os.getpid():
                found.append(int(path.parent.name))
    return found
