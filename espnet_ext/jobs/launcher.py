"""Run steps through a launcher called like Kaldi's ``run.pl``: queue.pl, ssh.pl, ...

``queue.pl --mem 8G --gpu 1 LOG COMMAND`` returns when the command has ended, and fails
when it has failed. That is all it can do: there is no queue to look into, so what is
under way ends with this process or is found again by its lock only.
"""

import shlex
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from espnet_ext.errors import UserError
from espnet_ext.jobs.batch import Batch, write_batch
from espnet_ext.jobs.step import Status, Step, status


def run_with_launcher(
    steps: Sequence[Step], command: str, jobs: int, root: Path
) -> list[Step]:
    """Run the unfinished ones of `steps`, which do not depend on each other.

    Args:
        steps: Steps of one stage.
        command: The launcher with its options, from cmd.sh.
        jobs: How many are handed to it at the same time.
        root: Folder of the batches.

    Returns:
        The steps that were run.

    Raises:
        UserError: After all have ended, if some failed; names each with its log.
    """
    todo = []
    for step in steps:
        if status(step) is Status.DONE:
            print(f"  {step.name}: finished before ({step.output})")
        else:
            todo += [step] * step.workers
    if not todo:
        return []
    batch = write_batch(root, {n: [step] for n, step in enumerate(todo)}, 0)
    with ThreadPoolExecutor(max(jobs, 1)) as pool:
        codes = list(
            pool.map(lambda n: _launch(batch, n, shlex.split(command)), batch.tasks)
        )
    failed = {
        step.name: batch.log(number)
        for number, (step, code) in enumerate(zip(todo, codes, strict=True))
        if code != 0
    }
    if failed:
        lines = [f"{name} failed; see {log}" for name, log in failed.items()]
        raise UserError("\n".join(lines))
    return todo


def _launch(batch: Batch, number: int, words: Sequence[str]) -> int:
    (step,) = batch.tasks[number]
    options = ["--gpu", str(step.gpus)] if step.gpus else []
    log = str(batch.log(number))
    program = ["bash", str(batch.script), str(number)]
    print(f"  {step.name}: {words[0]}, log {step.log}", flush=True)
    try:
        result = subprocess.run([*words, *options, log, *program], check=False)
    except FileNotFoundError:
        print(f"error: cmd.sh: {words[0]} is not on PATH", file=sys.stderr)
        return 127
    return result.returncode
