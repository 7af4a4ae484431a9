"""One step in a process of its own: what the local back end starts.

A step that uses no GPU runs in a fork of the driver, which shares what the driver has
imported. A step that uses GPUs runs in a fresh interpreter: CUDA cannot be used in a
fork of a process that has asked for it, and importing ESPnet's trainer asks.

A child dies with its driver, and holds the lock on its output folder until then.
"""

import ctypes
import importlib
import json
import os
import signal
import sys
import tempfile
import traceback
from typing import NoReturn, TextIO

from espnet_ext.errors import UserError, describe_os_error
from espnet_ext.jobs.code import code_digest
from espnet_ext.jobs.gpus import HIDDEN
from espnet_ext.jobs.lock import finishing, sign
from espnet_ext.jobs.nodes import call_over_nodes
from espnet_ext.jobs.step import (
    Status,
    Step,
    describe_inputs,
    mark_done,
    mark_started,
    status,
    step_from_json,
    step_to_json,
    write_files,
)

PR_SET_PDEATHSIG = 1


def become(step: Step, lock: TextIO, output: int, gpu: str | None) -> NoReturn:
    """Turn this process, a new fork of the driver, into the step's.

    Args:
        step: The step.
        lock: The right to write its output.
        output: Descriptor that takes what it prints.
        gpu: ``CUDA_VISIBLE_DEVICES`` of a step that uses GPUs; None leaves it alone.
    """
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os.dup2(output, 1)
    os.dup2(output, 2)
    if not step.gpus:
        os.environ.update(HIDDEN)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.stdout = os.fdopen(1, "w", buffering=1)
        sys.stderr = os.fdopen(2, "w", buffering=1)
        run(step, lock)
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    with tempfile.TemporaryFile("w+", encoding="utf-8") as text:
        json.dump(step_to_json(step), text, default=str)
        text.seek(0)
        os.dup2(text.fileno(), 0)
    os.set_inheritable(lock.fileno(), True)
    module = "espnet_ext.jobs.child"
    os.execv(sys.executable, [sys.executable, "-m", module, str(lock.fileno())])


def run(step: Step, lock: TextIO) -> NoReturn:
    """Run the step, record that it is done, and end this process."""
    code = 1
    try:
        sign(lock)
        code_digest(step.module)  # of what will be imported, whatever is edited then
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


def _main() -> NoReturn:
    """Run the step that stands on standard input, in a fresh interpreter."""
    step = step_from_json(json.load(sys.stdin))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    descriptor = int(sys.argv[1])
    os.set_inheritable(descriptor, False)
    sys.stdout = os.fdopen(1, "w", buffering=1)
    sys.stderr = os.fdopen(2, "w", buffering=1)
    run(step, os.fdopen(descriptor, "a+", encoding="utf-8"))


if __name__ == "__main__":
    _main()
