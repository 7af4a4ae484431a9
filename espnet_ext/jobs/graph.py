"""Which steps wait for which, read off what they read and write."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from espnet_ext.jobs.batch import step_key
from espnet_ext.jobs.step import Evidence, Step, is_done, runs_of


def prerequisites(steps: Sequence[Step]) -> dict[str, tuple[Step, ...]]:
    """List for each step the earlier ones that it must wait for, by its key.

    Only the nearest: what they wait for themselves is left out. `steps` are in an
    order in which they can run.
    """
    made: dict[Path, list[Step]] = defaultdict(list)  # earlier steps by output
    before: dict[str, set[str]] = {}  # all that a step waits for, by key
    nearest: dict[str, tuple[Step, ...]] = {}
    for step in steps:
        read = [item.path for item in step.inputs]
        for item in step.inputs:
            if item.evidence is Evidence.RUNS:
                read += [s.output for run in runs_of(step, item).values() for s in run]
        direct = {
            step_key(other): other
            for path in read
            for folder in (path, *path.parents)
            for other in made.get(folder, ())
        }
        implied = set().union(*(before[key] for key in direct))
        key = step_key(step)
        before[key] = implied | set(direct)
        nearest[key] = tuple(s for k, s in direct.items() if k not in implied)
        made[step.output].append(step)
    return nearest


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
        if any(step_key(other) in todo for other in needs[key]) or not is_done(step):
            todo[key] = step
    return todo
