"""Run what was asked for: here, or on Slurm."""

import argparse
import contextlib
import importlib
import io
import sys
import time
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from espnet_ext.classical import is_classical
from espnet_ext.errors import UserError
from espnet_ext.jobs import slurm
from espnet_ext.jobs.again import force, print_other_code
from espnet_ext.jobs.arrays import KIND_OF_STAGE, ClusterOptions
from espnet_ext.jobs.batch import step_key
from espnet_ext.jobs.cluster import run_plan, steps_under_way, submitting
from espnet_ext.jobs.graph import prerequisites, unfinished
from espnet_ext.jobs.local import last_output, run_steps
from espnet_ext.jobs.machine import (
    SHARE,
    gpus_of_runs,
    hidden_gpus,
    parse_size,
    visible_gpus,
)
from espnet_ext.jobs.option_checks import forced_stages
from espnet_ext.jobs.overview import print_overview, standings
from espnet_ext.jobs.recipe import config_files, train_step, training_config
from espnet_ext.jobs.slurm_conf import read_slurm_conf
from espnet_ext.jobs.stages import PACKING, SCORING, STAGES
from espnet_ext.jobs.step import Step, is_done
from espnet_ext.jobs.table import Table, print_standing, table_step
from espnet_ext.jobs.work import Work, commands_of, default_nj
from espnet_ext.utils.machine import free_memory

# A process with the tiny upstream or its features: up to 0.8 GB were measured.
MINI_MEMORY = 2**30


def run(work: Work, args: argparse.Namespace) -> None:
    """Run the stages that were asked for, and print the results.

    Raises:
        UserError: After all that could run has run, if something failed or is missing.
    """
    start = time.monotonic()
    begin(work.all_steps(), args, work.stages)
    if work.table is not None:
        print_standing(work.table)
    on_slurm = args.cmd_backend == "slurm"
    if 5 in work.stages:
        check_training_configs(work, steps_under_way() if on_slurm else ())
    failures: list[str] = []
    if on_slurm:
        run_plan(work.steps, cluster_options(args), show=show_results)
    else:
        failures = run_stages(work, lambda steps: run_stage(steps, args))
    if not on_slurm or args.wait:
        seconds = time.monotonic() - start
        print(f"Finished in {seconds:.0f} s. The files are in {Path.cwd()}", flush=True)
    if failures:
        raise UserError("\n".join(failures))
    if work.table is not None and SCORING in work.stages:
        check_table(work.table, args)


def begin(
    steps: Sequence[Step], args: argparse.Namespace, stages: Container[int]
) -> None:
    """Take what is forced out of the finished steps; name what other code has made.

    `steps` are all, `stages` those that were asked for.

    Raises:
        UserError: A forced step, or one that reads what it makes, is running or queued.
    """
    forced = forced_stages(args)
    if forced and args.cmd_backend == "slurm":
        with submitting(batches_root(args)):
            force(steps, forced, steps_under_way())
    else:
        force(steps, forced)
    print_other_code(step for step in steps if step.stage in stages)


def show_status(steps: Sequence[Step], args: argparse.Namespace) -> None:
    """Print how each step stands."""
    queue = slurm.queue() if args.cmd_backend == "slurm" else {}
    found = standings(steps, batches_root(args), list(queue.values()))
    print_overview(steps, found)


def batches_root(args: argparse.Namespace) -> Path:
    """Return where what was handed to a cluster lies."""
    return args.expdir / "slurm"


def cluster_options(args: argparse.Namespace) -> ClusterOptions:
    """Say how a plan is run on Slurm."""
    commands = commands_of(args)
    if args.mem is not None:
        commands = {kind: {**o, "mem": args.mem} for kind, o in commands.items()}
    return ClusterOptions(
        root=batches_root(args),
        conf=read_slurm_conf(Path(commands["train"].get("config", "conf/slurm.conf"))),
        commands=commands,
        runs_per_job=args.runs_per_job,
        max_restarts=args.max_restarts,
        wait=args.wait,
    )


# ---- Stage by stage, on this machine


def run_stages(work: Work, run_group: Callable[[Sequence[Step]], None]) -> list[str]:
    """Run the stages one after the other; a failure stops what depends on it.

    `run_group` runs steps of one stage that do not depend on each other; it raises
    UserError if some have failed.

    Returns:
        A text for each stage or step that failed, and one for what could not run.
    """
    failures, left_out = [], []
    for stage in work.stages:
        print(f"Stage {stage}: {STAGES[stage]}", flush=True)
        steps = work.steps()
        here = [step for step in steps if step.stage == stage]
        if work.table is not None and stage != SCORING:  # too many to name each
            done, total = sum(map(is_done, here)), len(here)
            here = [step for step in here if not is_done(step)]
            if done:
                print(f"  {done} of {total} finished before")
        # From training on the steps of a stage do not depend on each other.
        for group in [[step] for step in here] if stage < 5 else [here]:
            ready = split_ready(steps, group)
            left_out += [f"    {step.name}" for step in group if step not in ready]
            try:
                if ready:
                    run_group(ready)
            except UserError as error:
                failures.append(str(error))
    if left_out:
        failures += ["Not run, because what they need is not finished:", *left_out]
    return failures


def split_ready(plan: Sequence[Step], group: Sequence[Step]) -> list[Step]:
    """Choose from a group what is finished, or can run because all it reads is."""
    if all(map(is_done, group)):
        return list(group)
    needs = prerequisites(plan)
    todo = unfinished(plan, needs)
    return [
        step
        for step in group
        if step.reports
        or not any(step_key(other) in todo for other in needs[step_key(step)])
        or is_done(step)
    ]


def run_stage(steps: Sequence[Step], args: argparse.Namespace) -> None:
    """Run steps of one stage: trainings and inference side by side, the rest in order.

    The table of a scoring that was finished before is shown again: it is what the
    user is waiting for.
    """
    jobs = args.nj or default_nj(args)
    stage = steps[0].stage
    gpus = gpus_of_runs(args.ngpu, visible_gpus())
    bound = memory_bound(args)
    need = memory_of(KIND_OF_STAGE.get(stage, "train"), args)
    steps = [replace(step, memory=need) for step in steps]
    if stage in (5, 6, PACKING):
        if args.ngpu:
            jobs = min(jobs, max(len(gpus), 1) * args.runs_per_job)
        run_steps(steps, jobs, gpus, memory=bound)
        return
    for step in steps:
        workers = 1 if is_done(step) else step.workers
        if not run_steps([step] * workers, workers, gpus, memory=bound):
            show_results([step])


def show_results(steps: Iterable[Step]) -> None:
    """Print the tables that are finished."""
    for step in steps:
        if step.stage == SCORING and is_done(step):
            print(last_output(step), end="")


def memory_bound(args: argparse.Namespace) -> int:
    """Memory that processes on this machine may need together, in bytes."""
    if args.max_mem is not None:
        return parse_size(args.max_mem)
    return int(free_memory() * SHARE)


def memory_of(kind: str, args: argparse.Namespace) -> int:
    """Memory that one process of a kind needs, in bytes: --mem here or in cmd.sh."""
    if args.mem is not None:
        return parse_size(args.mem)
    if args.mini_seed is not None:
        return MINI_MEMORY
    return parse_size(commands_of(args)[kind].get("mem", "0"))


# ---- Checks before and after


def check_table(table: Table, args: argparse.Namespace) -> None:
    """See that the table has all of its runs.

    Where they are left to Slurm, only those that this call has not submitted count.

    Raises:
        UserError: Names what is not finished.
    """
    left = args.cmd_backend == "slurm" and not args.wait
    missing = [
        f"\n    {step.name}"
        for run in table.runs
        for step in run.steps()
        if (step.stage < args.stage or not left) and not is_done(step)
    ]
    if missing:
        raise UserError(
            f"{table.name} lacks runs, because these are not finished:"
            f"{''.join(missing)}\nStart the same command without --stage to make them"
        )
    if not left and not is_done(table_step(table)):
        raise UserError(
            f"runs have ended while {table.name} was made: start the same command again"
        )


def check_training_configs(work: Work, queued: Container[str]) -> None:
    """Check every training YAML before hours are spent on features.

    The check imports ESPnet (10 to 30 seconds), which the trainings need anyway; it is
    left out when nothing is to be trained, or only what is in Slurm's queue already
    (`queued` holds the keys).

    Raises:
        UserError: Names an unknown key and the nearest one that exists.
    """
    todo = []
    for recipe in work.recipes:
        for model in recipe.models:
            config = training_config(recipe, model)
            if is_classical(config):
                continue
            step = train_step(recipe, model, config)
            if step_key(step) not in queued and not is_done(step):
                todo.append((config, config_files(recipe, model)))
    if not todo:
        return
    print("Loading ESPnet ...", flush=True)
    import_espnet()
    from espnet_ext.tasks.config import check_config

    for config, files in todo:
        check_config(config, files)


def import_espnet() -> None:
    """Import ESPnet without its remark that Flash Attention, which is unused, lacks."""
    with contextlib.redirect_stderr(io.StringIO()) as printed, hidden_gpus():
        importlib.import_module("espnet_ext.tasks.ser")
    for line in printed.getvalue().splitlines():
        if "Flash Attention" not in line:
            print(line, file=sys.stderr)
