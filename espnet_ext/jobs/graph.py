"""Which steps wait for which, read off what they read and write."""

from collections.abc import Mapping, Sequence

from espnet_ext.jobs.batch import step_key
from espnet_ext.jobs.step import Status, Step, status


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
        direct = {
            step_key(other): other
            for other in steps[:number]
            if any(item.path.is_relative_to(other.output) for item in step.inputs)
        }
        implied = set().union(*(before[key] for key in direct))
        key = step_key(step)
        before[key] = implied | set(direct)
        nearest[key] = tuple(s for k, s in direct.items() if k not in implied)
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
        waits = any(step_key(other) in todo for other in needs[key])
        if waits or status(step) is not Status.DONE:
            todo[key] = step
    return todo
