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
    """Make the steps of some stages of a plan unfinished, all or none.

    What goes on from what lies there (a training, a feature store) is set aside, so
    that it begins anew; the rest stays in place until it is replaced.

    Raises:
        UserError: A step of these or of later stages, which read what they make, is
            running, or in a cluster's queue (`queued` holds the keys).
    """
    steps = [step for step in plan if step.stage in stages]
    for step in plan if steps else ():
        if step.stage < steps[0].stage:
            continue
        if step_key(step) in queued:
            raise UserError(
                f"--force: {step.name} is in the queue already. Leave --force out to "
                "attach to it, or stop the job with scancel first"
            )
        if owner := holder(step):
            raise UserError(
                f"--force: {step.name} is running ({owner}); wait for it or stop it "
                "first"
            )
    there = [step for step in steps if step.output.exists()]
    with ExitStack() as locks:
        for step in there:
            locks.enter_context(acquire(replace(step, workers=1)))
        for step in there:
            if step.keeps_partial_work or step.grows:
                place = set_aside(step)
                print(f"  {step.name}: forced; the earlier work is kept in {place}")
            else:
                forget(step)


def print_other_code(steps: Iterable[Step]) -> None:
    """Say in a line how many finished steps were made by other code, if any."""
    stages = [s.stage for s in steps if is_done(s) and made_by_other_code(s)]
    if stages:
        listed = " ".join(map(str, sorted(set(stages))))
        print(
            f"{len(stages)} finished (stages {listed}) made by other code; --force "
            f"{listed} makes that again",
            flush=True,
        )
