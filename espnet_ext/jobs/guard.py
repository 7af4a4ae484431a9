"""Nothing of a step outlives its driver, and its lock is held as long as anything does.

The kernel ends a driver's children when the driver dies (`PR_SET_PDEATHSIG`), but not
what the children have started: the ranks of a distributed training, pools of workers,
``srun``. So each step is a process group, and a small process in a session of its own
watches the driver. When the driver is gone, however it died, the guard kills the groups
and only then gives back their locks: a second run never meets writers of the first.
"""

import contextlib
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

_POLL_SECONDS = 0.02
_PATIENCE_SECONDS = 60.0  # a process that waits for a dead disk cannot be killed


class Guard:
    """The driver's end. A guard that was killed is missed by nothing but a kill."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link

    def hold(self, group: int, lock: TextIO) -> None:
        """Watch over a process group and hold its lock."""
        with contextlib.suppress(OSError):
            socket.send_fds(self._link, [str(group).encode()], [lock.fileno()])
            self._link.recv(1)

    def release(self, group: int) -> None:
        """Kill what a step that has ended left behind, and give its lock back."""
        with contextlib.suppress(OSError):
            self._link.send(str(group).encode())
            self._link.recv(1)

    def close(self) -> None:
        """Let go of the guard: in a child, which must not keep the driver alive."""
        self._link.close()


@contextlib.contextmanager
def guarding() -> Iterator[Guard]:
    """Start a guard of this process; its end is the end of the context."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        try:
            ours.close()
            os.setsid()
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            _watch(theirs)
        finally:
            os._exit(0)
    theirs.close()
    try:
        yield Guard(ours)
    finally:
        ours.close()
        os.waitpid(pid, 0)


def _watch(link: socket.socket) -> None:
    """Hold locks until they are given back or the driver is gone."""
    held: dict[int, int] = {}  # process group -> descriptor of its lock
    while True:
        message, locks, _, _ = socket.recv_fds(link, 32, 1)
        if not message:
            break
        group = int(message)
        if locks:
            held[group] = locks[0]
        elif group in held:
            _kill(group)
            os.close(held.pop(group))
        link.send(b".")
    for group in held:
        _kill(group)
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while any(map(_lives, held)) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)


def _kill(group: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def _lives(group: int) -> bool:
    """Whether a process of the group runs; where no `init` collects, dead ones stay."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has just ended
            # man 5 proc: pid (name) state parent group ...
            state, _, its_group = path.read_text().rpartition(")")[2].split()[:3]
            if int(its_group) == group and state not in "ZX":
                return True
    return False
