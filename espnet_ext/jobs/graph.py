"""Which steps wait for which, read off what they read and write."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from espnet_ext.jobs.batch import step_key
from espnet_ext.jobs.step import Evidence, Status, Step, runs_of, status


def prerequisites(steps: Sequence[Step]) -> dict[str, tuple[Step, ...]]:
    """List for each step the earlier ones that it must wait for.

    Only the nearest: what they wait for themselves is left out.

    Args:
        steps: A plan, in an order in which it can run.

    Returns:
        Steps by the key of the one that waits.
    """
    before: dict[str, set[str]] = {}  # all that a step waits for, by key
    nearest: dict[str, tuple[Step, ...]] = {}
    for number, step in enumerate(steps):
        paths = read_by(step)
        direct = {
            step_key(other): other
            for other in steps[:number]
            if any(path.is_relative_to(other.output) for path in paths)
        }
        implied = set().union(*(before[key] for key in direct))
        key = step_key(step)
        before[key] = implied | set(direct)
        nearest[key] = tuple(s for k, s in direct.items() if k not in implied)
    return nearest


def read_by(step: Step) -> list[Path]:
    """List what a step reads: files, folders, and the outputs of runs it reports on."""
    paths = []
    for item in step.inputs:
        paths.append(item.path)
        if item.evidence is Evidence.RUNS:
            paths += [s.output for run in runs_of(step, item).values() for s in run]
    return paths


def unfinished(
    steps: Sequence[Step], needs: Mapping[str, Sequence[Step]]
) -> dict[str, Step]:
    """List what is to do, by key: also what waits for something that is to do.

    A step that looks finished now is looked at again when what it reads has been made
    anew: its job ends at once if nothing has changed.
    """
    todo: dict[str, Step] = {}
    for step in steps:
        key = step_key(step)
        waits = any(step_key(other) in todo for other in needs[key])
        if waits or status(step) is not Status.DONE:
            todo[key] = step
    return todo
