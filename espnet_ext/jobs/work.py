"""What the options ask for, as recipes or a table, and the steps of that."""

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from espnet_ext.errors import UserError
from espnet_ext.jobs.batch import unique
from espnet_ext.jobs.manifest import manifest_options
from espnet_ext.jobs.option_checks import (
    MINI_FOLDERS,
    chosen_stages,
    clip_lengths,
    training_yamls,
)
from espnet_ext.jobs.options import config_path, table_path
from espnet_ext.jobs.over_folds import folds_step
from espnet_ext.jobs.packages import Packing, package_steps
from espnet_ext.jobs.recipe import Mini, Recipe, build_plan, config_files
from espnet_ext.jobs.slurm_conf import parse_command
from espnet_ext.jobs.step import Step
from espnet_ext.jobs.table import Table, plan_table, table_step
from espnet_ext.jobs.table_corpora import Place


@dataclass(frozen=True)
class Work:
    """What a call of ``run.sh`` is to do."""

    recipes: Sequence[Recipe]  # one a fold; of a table those of its runs
    table: Table | None
    stages: Sequence[int]  # those that were asked for
    packing: Packing = field(default_factory=Packing)

    def all_steps(self) -> list[Step]:
        """List the steps of all stages, in an order in which they can run."""
        if self.table is not None:
            return [*self.table.steps(), table_step(self.table)]
        steps = unique(step for recipe in self.recipes for step in build_plan(recipe))
        if len(self.recipes) > 1:
            steps.append(folds_step(self.recipes))
        for recipe in self.recipes:  # packing only where it is asked for
            packages = package_steps(recipe, self.packing)
            steps += [step for step in packages if step.stage in self.stages]
        return sorted(unique(steps), key=lambda step: step.stage)

    def steps(self) -> list[Step]:
        """List the steps of the stages that were asked for.

        Call it again after each stage: the scoring of a recipe also reads the models
        that were finished before.
        """
        return [step for step in self.all_steps() if step.stage in self.stages]


def plan_work(args: argparse.Namespace) -> Work:
    """Turn the options into recipes or a table.

    Raises:
        UserError: The table's YAML is wrong, or a corpus of it has no place.
    """
    if args.table is not None:
        table = table_of(args)
        return Work(table.recipes, table, chosen_stages(args))
    recipe = recipe_of(args)
    folds = dict.fromkeys(args.fold or [None])
    recipes = [replace(recipe, fold=fold) for fold in folds]
    packing = Packing(tuple(args.pack_seeds), args.hf_repo, args.licence_ack)
    return Work(recipes, None, chosen_stages(args), packing)


def recipe_of(args: argparse.Namespace) -> Recipe:
    """Turn the options into a recipe, without its fold."""
    same = (
        *("corpus", "scheme", "upstream", "overlay", "seed", "datadir", "dumpdir"),
        *("expdir", "ngpu", "on_bad_audio", "manifest"),
    )
    built_in = args.mini_seed is not None
    return Recipe(
        **{name: getattr(args, name) for name in same},
        corpus_root=Path(args.corpus_root or ""),
        fold=None,
        labels=config_path("labels", args.labels),
        features=config_path("features", args.features),
        models={p.stem.removeprefix("train_"): p for p in training_yamls(args)},
        corpus_overlay=None if args.train_config else args.corpus_overlay,
        mini=Mini(args.mini_seed, args.mini_scale) if built_in else None,
        nj=args.nj or default_nj(args),
        workers=args.extract_jobs,
        resamples=args.resamples or (1000 if args.table is None else 10_000),
        seconds=clip_lengths(args),
        manifest_options=manifest_options(args),
    )


def table_of(args: argparse.Namespace) -> Table:
    """Turn the options into a table."""
    base = recipe_of(args)
    roots = args.root
    if base.mini is not None:
        folder = base.corpus_root.parent
        roots = {corpus: folder / name for corpus, name in MINI_FOLDERS.items()}
    places = {}
    for corpus, root in roots.items():
        home = args.home.get(corpus, Path())
        places[corpus] = Place(Path(root), home / args.datadir, home / args.dumpdir)
    own_features = base.mini is not None or "features" in args.given
    return plan_table(
        path=table_path(args.table, Path("conf")),
        base=base,
        places=places,
        preset=args.preset,
        seeds=args.seeds,
        features=base.features if own_features else None,
    )


def printed_config(args: argparse.Namespace) -> str:
    """Return a model's whole training YAML, with the file that each key comes from."""
    from espnet_ext.tasks.config import describe_config

    name = args.print_config
    recipe = recipe_of(args)
    recipe = replace(recipe, models={name: Path("conf", f"train_{name}.yaml")})
    return describe_config(config_files(recipe, name), {})


def default_nj(args: argparse.Namespace) -> int:
    """Return how many processes a step may start where it runs."""
    if args.cmd_backend == "slurm":
        return int(commands_of(args)["train"].get("num_threads", 1))
    return len(os.sched_getaffinity(0))


def commands_of(args: argparse.Namespace) -> dict[str, dict[str, str]]:
    """Read the options of cmd.sh's commands, by kind of work.

    Raises:
        UserError: If they are not for this back end.
    """
    default = {"local": "run.pl", "slurm": "slurm.pl"}.get(args.cmd_backend, "")
    commands = {}
    for kind in ("train", "cuda", "decode"):
        text = os.environ.get(f"{kind}_cmd", default)
        program, commands[kind] = parse_command(text)
        if args.cmd_backend == "slurm" and program != "slurm.pl":
            raise UserError(
                f"--cmd_backend slurm, but cmd.sh's {kind}_cmd is {text!r}: set "
                "cmd_backend=slurm there, or in the environment"
            )
    return commands
