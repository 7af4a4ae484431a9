#!/usr/bin/env python3
"""Run the stages of a recipe: what ``ser.sh`` calls."""

import argparse
import contextlib
import importlib
import io
import math
import os
import sys
import time
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from espnet_ext.errors import UserError, exit_on_user_error
from espnet_ext.jobs import slurm
from espnet_ext.jobs.again import force, print_other_code
from espnet_ext.jobs.batch import step_key, unique
from espnet_ext.jobs.cluster import (
    KIND_OF_STAGE,
    ClusterOptions,
    run_plan,
    steps_under_way,
    submitting,
)
from espnet_ext.jobs.gpus import gpus_of_runs, hidden_gpus, visible_gpus
from espnet_ext.jobs.launcher import run_with_launcher
from espnet_ext.jobs.local import last_output, run_steps
from espnet_ext.jobs.memory import SHARE, available_memory, parse_size
from espnet_ext.jobs.option_checks import check_characters, check_outputs, complete
from espnet_ext.jobs.options import config_path, get_parser, table_path
from espnet_ext.jobs.overview import print_overview, print_plan, standings
from espnet_ext.jobs.recipe import (
    STAGES,
    Mini,
    Recipe,
    build_plan,
    is_classical,
    training_config,
)
from espnet_ext.jobs.shell_files import source
from espnet_ext.jobs.slurm_conf import parse_command, read_slurm_conf
from espnet_ext.jobs.step import Status, Step, is_done, status
from espnet_ext.jobs.table import (
    LAST_SHARED_STAGE,
    MINI_FOLDERS,
    Outcome,
    Place,
    Table,
    TableOptions,
    plan_table,
    print_standing,
    run_stages,
    table_step,
)
from espnet_ext.utils.packages import strangers

# The variable in which cmd.sh finds and tells the back end.
BACKEND = "cmd_backend"

# A process with the tiny upstream or its features: up to 0.8 GB were measured.
MINI_MEMORY = 2**30


@exit_on_user_error
def main(cmd: Sequence[str] | None = None) -> None:
    """Build the plan and run the stages that were asked for."""
    args = get_parser().parse_args(cmd)
    for sentence in strangers():
        print(f"warning: {sentence}", file=sys.stderr)
    read_shell_files(args)
    complete(args, os.environ)
    check_characters(args)
    check_arguments(args)
    if args.table is not None:
        make_table(args)
        return
    check_corpus(args)
    recipes = recipes_of(args)
    check_outputs(recipes)
    steps = unique(step for recipe in recipes for step in build_plan(recipe))
    if args.dry_run:
        print_plan(steps, forced_stages(args))
        return
    if args.status:
        show_status(planned(recipes, args), args)
        return
    start = time.monotonic()
    begin(steps, args)
    if args.cmd_backend == "slurm":
        run_on_slurm(lambda: planned(recipes, args), recipes, args)
        if args.wait == "true":
            print_end(start)
        return
    for stage in range(args.stage, args.stop_stage + 1):
        # Planned again for each stage: the plan of the later ones reads what the
        # earlier ones have written.
        steps = unique(
            step
            for recipe in recipes
            for step in build_plan(recipe)
            if step.stage == stage
        )
        if stage == args.stage and args.stage <= 5 <= args.stop_stage:
            check_training_configs(recipes)
        if not steps:  # the classical baseline has no training
            continue
        print(f"Stage {stage}: {STAGES[stage]}", flush=True)
        run_stage(steps, args)
    print_end(start)


def read_shell_files(args: argparse.Namespace) -> None:
    """Take over what cmd.sh and db.sh say, as if they were sourced before the start."""
    if args.cmd_backend is not None:
        os.environ[BACKEND] = args.cmd_backend
    for path in (Path("cmd.sh"), Path("db.sh")):
        if path.exists():
            os.environ.update(source(path, os.environ))
    if args.cmd_backend is None:
        args.cmd_backend = os.environ.get(BACKEND, "local")


def print_end(start: float) -> None:
    """Say how long it took, and below which folder the printed paths are."""
    seconds = time.monotonic() - start
    print(f"Finished in {seconds:.0f} s. The files are in {Path.cwd()}", flush=True)


def begin(steps: Sequence[Step], args: argparse.Namespace) -> None:
    """Take what is forced out of the finished steps; tell what other code has made.

    Args:
        steps: The plan, with the stages that were not asked for.
        args: The options.

    Raises:
        UserError: A forced step, or one that reads what it makes, is running or queued.
    """
    forced = forced_stages(args)
    if forced and args.cmd_backend == "slurm":
        with submitting(batches_root(args)):
            force(steps, forced, steps_under_way(slurm.queue()))
    else:
        force(steps, forced)
    print_other_code(s for s in steps if args.stage <= s.stage <= args.stop_stage)


def forced_stages(args: argparse.Namespace) -> set[int]:
    """Stages that are to be made again."""
    return set().union(*args.force)


def show_status(steps: Sequence[Step], args: argparse.Namespace) -> None:
    """Print how each step stands."""
    queue = slurm.queue() if args.cmd_backend == "slurm" else {}
    found = standings(steps, batches_root(args), list(queue.values()))
    print_overview(steps, found)


def check_arguments(args: argparse.Namespace) -> None:
    """Refuse arguments that cannot mean anything.

    Raises:
        UserError: Names the option.
    """
    if not 1 <= args.stage <= args.stop_stage <= max(STAGES):
        raise UserError(
            f"--stage {args.stage} --stop_stage {args.stop_stage}: stages go from 1 to "
            f"{max(STAGES)}, the first not after the last"
        )
    left_out = forced_stages(args) - set(range(args.stage, args.stop_stage + 1))
    if left_out:
        raise UserError(
            f"--force {min(left_out)}: --stage {args.stage} --stop_stage "
            f"{args.stop_stage} leave that stage out"
        )
    smallest = dict.fromkeys(("ngpu", "seed", "mini_seed"), 0)
    counts = ("nj", "num_nodes", "extract_jobs", "runs_per_job", "seeds", "resamples")
    for name, bound in {**smallest, **dict.fromkeys(counts, 1)}.items():
        value = getattr(args, name)
        if value is not None and value < bound:
            raise UserError(f"--{name} {value}: at least {bound} is needed")
    if not 0 < args.mini_scale < math.inf:
        raise UserError(f"--mini_scale {args.mini_scale}: a factor above 0 is needed")
    lengths = clip_lengths(args)
    if lengths is not None and not 0 <= lengths[0] < lengths[1]:
        raise UserError(
            f"--min_seconds {args.min_seconds} --max_seconds {args.max_seconds}: no "
            "clip is left"
        )
    if lengths is not None and args.table is not None:
        raise UserError(
            "--min_seconds, --max_seconds: a table says itself which clips it leaves "
            "out; write seconds: [SHORTEST, LONGEST] into a preset of its YAML"
        )
    for size in (args.mem, args.max_mem):
        if size is not None:
            parse_size(size)
    if args.num_nodes > 1 and args.cmd_backend != "slurm":
        raise UserError(
            f"--num_nodes {args.num_nodes} needs cmd_backend=slurm (see cmd.sh)"
        )


def check_corpus(args: argparse.Namespace) -> None:
    """Make sure that the options name a corpus that is there.

    Raises:
        UserError: Names the option.
    """
    for name in ("corpus", "scheme"):
        if getattr(args, name) is None:
            raise UserError(f"--{name} is missing (or --table)")
    if not args.corpus_root:
        raise UserError(
            f"where is {args.corpus}? Write its folder into db.sh, or give it with "
            "--corpus_root"
        )
    if args.mini_seed is None and not Path(args.corpus_root).is_dir():
        raise UserError(
            f"--corpus_root {args.corpus_root}: no such folder; set the corpus' place "
            "in db.sh or give it here"
        )


def recipes_of(args: argparse.Namespace) -> list[Recipe]:
    """Turn the options into one recipe a fold."""
    configs = args.train_config or [Path("conf", f"train_{m}.yaml") for m in args.model]
    mini = None
    if args.mini_seed is not None:
        mini = Mini(args.mini_seed, args.mini_scale)
    recipe = Recipe(
        corpus=args.corpus,
        corpus_root=Path(args.corpus_root),
        scheme=args.scheme,
        fold=None,
        labels=config_path("labels", args.labels),
        features=config_path("features", args.features),
        models={path.stem.removeprefix("train_"): path for path in configs},
        upstream=args.upstream,
        corpus_overlay=None if args.train_config else args.corpus_overlay,
        overlay=args.overlay,
        seed=args.seed,
        mini=mini,
        datadir=args.datadir,
        dumpdir=args.dumpdir,
        expdir=args.expdir,
        nj=args.nj or default_nj(args),
        ngpu=args.ngpu,
        num_nodes=args.num_nodes,
        workers=args.extract_jobs,
        on_bad_audio=args.on_bad_audio,
        resamples=args.resamples or 1000,
        seconds=clip_lengths(args),
    )
    return [replace(recipe, fold=fold) for fold in args.fold] or [recipe]


def clip_lengths(args: argparse.Namespace) -> tuple[float, float] | None:
    """Return the shortest and longest clip of train and valid, or None for all."""
    if args.min_seconds is None and args.max_seconds is None:
        return None
    longest = math.inf if args.max_seconds is None else args.max_seconds
    return args.min_seconds or 0.0, longest


def default_nj(args: argparse.Namespace) -> int:
    """Return how many processes a step may start where it runs."""
    if args.cmd_backend == "slurm":
        return int(commands_of(args)["train"][1].get("num_threads", 1))
    return len(os.sched_getaffinity(0))


def commands_of(args: argparse.Namespace) -> dict[str, tuple[str, dict[str, str]]]:
    """Read cmd.sh's commands: program and options by kind of work.

    Raises:
        UserError: If they are not for this back end.
    """
    default = {"local": "run.pl", "slurm": "slurm.pl"}.get(args.cmd_backend, "")
    commands = {}
    for kind in ("train", "cuda", "decode"):
        text = os.environ.get(f"{kind}_cmd", default)
        program, options = parse_command(text)
        if args.cmd_backend == "slurm" and program != "slurm.pl":
            raise UserError(
                f"--cmd_backend slurm, but cmd.sh's {kind}_cmd is {text!r}: set "
                "cmd_backend=slurm there, or in the environment"
            )
        commands[kind] = (program, options)
    return commands


def batches_root(args: argparse.Namespace) -> Path:
    """Return where what was handed to a cluster lies."""
    return args.expdir / "slurm"


def planned(recipes: Sequence[Recipe], args: argparse.Namespace) -> list[Step]:
    """List the steps of the stages that were asked for, in order."""
    steps = unique(step for recipe in recipes for step in build_plan(recipe))
    chosen = [s for s in steps if args.stage <= s.stage <= args.stop_stage]
    return sorted(chosen, key=lambda step: step.stage)


def planned_table(table: Table, args: argparse.Namespace) -> list[Step]:
    """List the steps of a table in the stages that were asked for, in order."""
    steps = [*table.steps(), table_step(table)]
    return [s for s in steps if args.stage <= s.stage <= args.stop_stage]


def show_results(steps: Iterable[Step]) -> None:
    """Print the tables that are finished."""
    for step in steps:
        if step.stage == max(STAGES) and is_done(step):
            print(last_output(step), end="")


def run_on_slurm(
    plan: Callable[[], Sequence[Step]],
    recipes: Sequence[Recipe],
    args: argparse.Namespace,
) -> None:
    """Hand all stages to Slurm at once, and show the tables when they are there."""
    if args.stage <= 5 <= args.stop_stage:
        check_training_configs(recipes, queued=steps_under_way(slurm.queue()))
    commands = {kind: options for kind, (_, options) in commands_of(args).items()}
    if args.mem is not None:
        commands = {kind: {**o, "mem": args.mem} for kind, o in commands.items()}
    conf = commands["train"].get("config", "conf/slurm.conf")
    options = ClusterOptions(
        root=batches_root(args),
        conf=read_slurm_conf(Path(conf)),
        commands=commands,
        runs_per_job=args.runs_per_job,
        max_restarts=args.max_restarts,
        wait=args.wait == "true",
    )
    run_plan(plan, options, show=show_results)


def make_table(args: argparse.Namespace) -> None:
    """Run everything that a table needs, and make it of what there is.

    Raises:
        UserError: After all that could run has run, if the table lacks something.
    """
    table = plan_table(table_options(args))
    check_outputs(table.recipes)
    steps = [*table.steps(), table_step(table)]
    if args.dry_run:
        print_plan(steps, forced_stages(args))
        return
    if args.status:
        show_status(planned_table(table, args), args)
        return
    start = time.monotonic()
    begin(steps, args)
    print_standing(table)
    if args.cmd_backend == "slurm":
        run_on_slurm(lambda: planned_table(table, args), table.recipes, args)
        if args.wait == "true":
            print_end(start)
    else:
        outcome = run_table(table, args)
        print_end(start)
        outcome.check()
    if args.stop_stage == max(STAGES):
        check_table(table, args)


def check_table(table: Table, args: argparse.Namespace) -> None:
    """See that the table has all of its runs.

    Where they are left to Slurm, only those that this call has not submitted count.

    Raises:
        UserError: Names what is not finished.
    """
    left = args.cmd_backend == "slurm" and args.wait == "false"
    missing = [
        step.name
        for run in table.runs
        for step in run.steps()
        if (step.stage < args.stage or not left) and not is_done(step)
    ]
    if missing:
        names = "".join(f"\n    {name}" for name in missing)
        raise UserError(
            f"{table.name} lacks runs, because these are not finished:{names}\n"
            "Start the same command without --stage to make them"
        )
    if not left and not is_done(table_step(table)):
        raise UserError(
            f"runs have ended while {table.name} was made: start the same command again"
        )


def run_table(table: Table, args: argparse.Namespace) -> Outcome:
    """Run the stages that a table shares with its recipes, and make the table."""
    if args.stage <= 5 <= args.stop_stage:
        check_training_configs(table.recipes)
    stages = range(args.stage, min(args.stop_stage, LAST_SHARED_STAGE) + 1)
    outcome = run_stages(table, stages, lambda steps: run_stage(steps, args))
    if args.stop_stage == max(STAGES):
        print(f"Stage {args.stop_stage}: the table", flush=True)
        try:
            run_stage([table_step(table)], args)
        except UserError as error:
            outcome.failures.append(str(error))
    return outcome


def table_options(args: argparse.Namespace) -> TableOptions:
    """Turn the command line into a table's options.

    Raises:
        UserError: A corpus' folder is not there.
    """
    roots = {"iemocap": args.iemocap, "msp_podcast": args.msp_podcast}
    mini = None
    if args.mini_seed is not None:
        mini = Mini(args.mini_seed, args.mini_scale)
        folder = Path(args.corpus_root).parent
        roots = {corpus: folder / name for corpus, name in MINI_FOLDERS.items()}
    homes = dict(item.partition("=")[::2] for item in args.home)
    places = {}
    for corpus, root in roots.items():
        if not root:
            continue
        if mini is None and not Path(root).is_dir():
            raise UserError(f"--{corpus} {root}: no such folder")
        home = Path(homes.get(corpus, ""))
        places[corpus] = Place(Path(root), home / args.datadir, home / args.dumpdir)
    return TableOptions(
        path=table_path(args.table, Path("conf")),
        preset=args.preset,
        seeds=args.seeds,
        places=places,
        datadir=args.datadir,
        dumpdir=args.dumpdir,
        expdir=args.expdir,
        features=None if mini is None else config_path("features", args.features),
        upstream=args.upstream,
        overlay=args.overlay,
        mini=mini,
        nj=args.nj or default_nj(args),
        ngpu=args.ngpu,
        num_nodes=args.num_nodes,
        workers=args.extract_jobs,
        on_bad_audio=args.on_bad_audio,
        resamples=args.resamples or 10_000,
    )


def check_training_configs(
    recipes: Sequence[Recipe], queued: Container[str] = ()
) -> None:
    """Check every training YAML before hours are spent on features.

    The check imports ESPnet (10 to 30 seconds), which the trainings need anyway; it is
    left out when nothing is to be trained, or only what is in Slurm's queue already.

    Args:
        recipes: With their trainings.
        queued: Keys of the steps that are in the queue.

    Raises:
        UserError: Names an unknown key and the nearest one that exists.
    """
    todo = [
        (recipe, model)
        for recipe in recipes
        for model, step in zip(
            [m for m in recipe.models if not is_classical(training_config(recipe, m))],
            [s for s in build_plan(recipe) if s.stage == 5],
            strict=True,
        )
        if step_key(step) not in queued and status(step) is not Status.DONE
    ]
    if not todo:
        return
    print("Loading ESPnet ...", flush=True)
    import_espnet()
    from espnet_ext.tasks.config import check_config

    for recipe, model in todo:
        check_config(training_config(recipe, model))


def import_espnet() -> None:
    """Import ESPnet without its remark that Flash Attention is not installed.

    Nothing here uses it, and to a new user the remark looks like a failure.
    """
    with contextlib.redirect_stderr(io.StringIO()) as said, hidden_gpus():
        importlib.import_module("espnet_ext.tasks.ser")
    for line in said.getvalue().splitlines():
        if "Flash Attention" not in line:
            print(line, file=sys.stderr)


def run_stage(steps: Sequence[Step], args: argparse.Namespace) -> None:
    """Run one stage: trainings and inference side by side, the rest in order.

    The table of a scoring that was finished before is shown again: it is what the
    user is waiting for.
    """
    jobs = args.nj or default_nj(args)
    stage = steps[0].stage
    kind = KIND_OF_STAGE.get(stage, "train")
    if args.cmd_backend != "local":
        command = os.environ.get(f"{kind}_cmd", "")
        for group in [[step] for step in steps] if kind == "train" else [steps]:
            run_with_launcher(group, command, jobs, batches_root(args))
        show_results(steps)
        return
    gpus = gpus_of_runs(args.ngpu, visible_gpus())
    bound, need = memory_bound(args), memory_of(kind, args)
    steps = [replace(step, memory=need) for step in steps]
    if stage in (5, 6):
        if args.ngpu:
            jobs = min(jobs, max(len(gpus), 1) * args.runs_per_job)
        run_steps(steps, jobs, gpus, memory=bound)
        return
    for step in steps:
        workers = 1 if is_done(step) else step.workers
        ran = run_steps([step] * workers, workers, gpus, memory=bound)
        if not ran and stage == max(STAGES):
            print(last_output(step), end="")


def memory_bound(args: argparse.Namespace) -> int:
    """Memory that processes on this machine may need together, in bytes."""
    if args.max_mem is not None:
        return parse_size(args.max_mem)
    return int(available_memory() * SHARE)


def memory_of(kind: str, args: argparse.Namespace) -> int:
    """Memory that one process of a kind needs, in bytes: --mem here or in cmd.sh."""
    if args.mem is not None:
        return parse_size(args.mem)
    if args.mini_seed is not None:
        return MINI_MEMORY
    return parse_size(commands_of(args)[kind][1].get("mem", "0"))


if __name__ == "__main__":
    main()
