"""One step in a process of its own: what the local back end starts.

A step that uses no GPU runs in a fork of the driver, which shares what the driver has
imported. A step that uses GPUs runs in a fresh interpreter: CUDA cannot be used in a
fork of a process that has asked for it, and importing ESPnet's trainer asks.
"""

import importlib
import json
import os
import subprocess
import sys
import traceback
from dataclasses import asdict
from typing import NoReturn, TextIO

from espnet_ext.errors import UserError, describe_os_error
from espnet_ext.jobs.code import code_digest
from espnet_ext.jobs.lock import finishing, sign
from espnet_ext.jobs.machine import HIDDEN
from espnet_ext.jobs.step import (
    Status,
    Step,
    describe_inputs,
    mark_done,
    mark_started,
    status,
    step_from_json,
    write_files,
)


def become(step: Step, lock: TextIO, output: int, gpu: str | None) -> NoReturn:
    """Turn this process, a new fork that holds `lock`, into the step's.

    `output` is the descriptor that takes what it prints, `gpu` the
    ``CUDA_VISIBLE_DEVICES`` of a step that uses GPUs; None leaves it alone.
    """
    os.dup2(output, 1)
    os.dup2(output, 2)
    sign(lock)
    if step.gpus:
        if gpu is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = gpu
        fresh = [sys.executable, "-u", "-m", "espnet_ext.jobs.child"]
        text = json.dumps(asdict(step), default=str)
        code = subprocess.run(fresh, input=text, text=True, check=False).returncode
        os._exit(code if code >= 0 else 128 - code)
    os.environ.update(HIDDEN)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.stdout = os.fdopen(1, "w", buffering=1)
    sys.stderr = os.fdopen(2, "w", buffering=1)
    run(step)


def run(step: Step) -> NoReturn:
    """Run the step, record that it is done, and end this process."""
    code = 1
    try:
        code_digest(step.module)  # of what will be imported, whatever is edited then
        write_files(step)
        if step.keeps_partial_work:
            mark_started(step)
        code = _run_program(step)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
    except OSError as error:
        print(f"error: {describe_os_error(error)}", file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _run_program(step: Step) -> int:
    """Call the step's program, and record that it ended well; return its status."""
    try:
        before = describe_inputs(step)
    except OSError:
        before = None  # its program will say what is missing
    sys.argv = [step.module, *step.args]
    try:
        importlib.import_module(step.module).main(list(step.args))
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        if code:
            return code
    with finishing(step):
        mark_done(step, before)
    if status(step) is Status.CHANGED:
        print(
            f"{step.name}: what it reads has changed while it ran: start the same "
            "command again"
        )
    return 0


if __name__ == "__main__":
    run(step_from_json(json.load(sys.stdin)))
