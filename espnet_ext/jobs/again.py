"""What is finished and shall be made again: found out by its code, or by ``--force``.

Forcing takes effect at once, before anything runs: the steps are then no longer
finished, for this process as for every job. So nothing has to be handed to a cluster,
a job that is started again goes on, and so does the same command without ``--force``.
"""

from collections.abc import Container, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace

from espnet_ext.errors import UserError
from espnet_ext.jobs.batch import step_key
from espnet_ext.jobs.lock import acquire, holder
from espnet_ext.jobs.step import Step, forget, is_done, made_by_other_code, set_aside


def force(
    plan: Sequence[Step], stages: Container[int], queued: Container[str] = ()
) -> None:
    """Make the steps of some stages unfinished, all or none.

    What goes on from what lies there (a training, a feature store) is set aside, so
    that it begins anew; the rest stays in place until it is replaced.

    Args:
        plan: All steps, in order.
        stages: Which stages.
        queued: Keys of the steps that are in a cluster's queue.

    Raises:
        UserError: A step of these or of later stages, which read what they make, is
            running or queued.
    """
    steps = [step for step in plan if step.stage in stages]
    if not steps:
        return
    for step in plan:
        if step.stage < steps[0].stage:
            continue
        if step_key(step) in queued:
            raise UserError(
                f"--force: {step.name} is in the queue already. Leave --force out to "
                "attach to it, or stop the job with scancel first"
            )
        owner = holder(step)
        if owner is not None:
            raise UserError(
                f"--force: {step.name} is running ({owner}); wait for it or stop it "
                "first"
            )
    there = [step for step in steps if step.output.exists()]
    with ExitStack() as locks:
        for step in there:
            locks.enter_context(acquire(replace(step, workers=1)))
        for step in there:
            if not (step.keeps_partial_work or step.grows):
                forget(step)
                continue
            place = set_aside(step)
            if place is not None:
                print(f"  {step.name}: forced; the earlier work is kept in {place}")


def print_other_code(steps: Iterable[Step]) -> None:
    """Say in a line how many finished steps were made by other code, if any."""
    stages = [s.stage for s in steps if is_done(s) and made_by_other_code(s)]
    if not stages:
        return
    listed = " ".join(str(stage) for stage in sorted(set(stages)))
    one = len(stages) == 1
    print(
        f"{len(stages)} finished step{'' if one else 's'} (stage{'s' * (' ' in listed)}"
        f" {listed}) {'was' if one else 'were'} made by other code; --force {listed} "
        f"makes {'it' if one else 'them'} again",
        flush=True,
    )
