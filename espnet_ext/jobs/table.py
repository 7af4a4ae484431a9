"""The plan of a table: the recipes of its rows, folds and seeds, and how it is made.

A table is many ordinary recipes (`jobs.recipe`), so its data, features and trainings
are those that the recipes would make by themselves, and either finds the other's work.
Only the last step is its own: scoring all runs together. It waits for all of them,
however they end.

One failed run does not stop the others: what does not depend on it is run, the table is
made of what there is, and the failures are told at the end.
"""

import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from espnet_ext.errors import UserError
from espnet_ext.jobs.recipe import (
    STAGES,
    Mini,
    Recipe,
    build_plan,
    infer_step,
    train_step,
    training_config,
)
from espnet_ext.jobs.step import (
    Evidence,
    Input,
    Step,
    format_runs,
    is_done,
    recorded_code,
    recorded_fingerprint,
)
from espnet_ext.scoring.spec import CorpusSpec, TableSpec, load_table

# Where the generator puts the built-in corpora, beside each other.
MINI_FOLDERS = {"iemocap": "IEMOCAP_full_release", "msp_podcast": "MSP-PODCAST-1.8"}

# The last stage that recipes and tables share: inference.
LAST_SHARED_STAGE = 6
RUNS_HEADER = (
    *("row", "fold", "seed", "predictions", "train_log"),
    *("config", "training", "code"),
)


@dataclass(frozen=True)
class Place:
    """Where one corpus of a table is, and where its data and features go.

    Attributes:
        root: The corpus as distributed.
        datadir: For its data directories.
        dumpdir: For its features.
    """

    root: Path
    datadir: Path
    dumpdir: Path


@dataclass(frozen=True)
class TableOptions:
    """What the command line says about a table.

    Attributes:
        path: The table's YAML.
        preset: One of its presets.
        seeds: Number of seeds; None: as the YAML says.
        places: Of each corpus.
        datadir: Where data directories of several corpora go.
        dumpdir: Where sets go.
        expdir: Where trainings and the table go.
        features: Feature config in place of the preset's.
        upstream: Upstream in place of the feature config's.
        overlay: YAML merged over each training YAML.
        mini: How to generate the corpora; None for those that are there.
        nj: As in `Recipe`.
        ngpu: As in `Recipe`.
        num_nodes: As in `Recipe`.
        workers: As in `Recipe`.
        on_bad_audio: As in `Recipe`.
        resamples: Bootstrap resamples of the table.
    """

    path: Path
    preset: str
    seeds: int | None
    places: Mapping[str, Place]
    datadir: Path
    dumpdir: Path
    expdir: Path
    features: Path | None = None
    upstream: str | None = None
    overlay: Path | None = None
    mini: Mini | None = None
    nj: int = 1
    ngpu: int = 0
    num_nodes: int = 1
    workers: int = 1
    on_bad_audio: str = "fail"
    resamples: int = 10_000


@dataclass(frozen=True)
class Run:
    """One training of a table: a row on a fold with a seed.

    Attributes:
        row: Key of the row.
        fold: Of the split; 0 where there are none.
        seed: The user's seed.
        recipe: That it is part of.
        model: Its name there.
    """

    row: str
    fold: int
    seed: int
    recipe: Recipe
    model: str

    @property
    def folder(self) -> Path:
        """Where it is trained."""
        return self.recipe.run(self.model)

    def steps(self) -> tuple[Step, Step]:
        """Training and inference."""
        config = training_config(self.recipe, self.model)
        return (
            train_step(self.recipe, self.model, config),
            infer_step(self.recipe, self.model, config),
        )


@dataclass(frozen=True)
class Table:
    """A table as it is planned.

    Attributes:
        spec: Its YAML.
        options: The command line.
        runs: Every training.
    """

    spec: TableSpec
    options: TableOptions
    runs: tuple[Run, ...]

    @property
    def name(self) -> str:
        """Name of its folder."""
        preset = self.options.preset
        return self.spec.name if preset == "paper" else f"{self.spec.name}_{preset}"

    @property
    def output(self) -> Path:
        """Where the table goes."""
        return self.options.expdir / "tables" / self.name

    @property
    def recipes(self) -> list[Recipe]:
        """The recipes of all runs, each once, with all their models."""
        found: dict[tuple[Path, int], Recipe] = {}
        for run in self.runs:
            recipe = found.setdefault((run.recipe.runs, run.seed), run.recipe)
            models = {**recipe.models, **run.recipe.models}
            found[run.recipe.runs, run.seed] = replace(recipe, models=models)
        return list(found.values())

    def steps(self) -> list[Step]:
        """Everything before the table itself, in an order in which it can run."""
        steps = {
            step.name: step
            for recipe in self.recipes
            for step in build_plan(recipe)
            if step.stage <= LAST_SHARED_STAGE
        }
        return sorted(steps.values(), key=lambda step: step.stage)


def plan_table(options: TableOptions) -> Table:
    """Read a table's YAML and lay out its runs.

    Raises:
        UserError: The YAML is wrong, a corpus' place is not known, or two rows would
            be trained in one folder.
    """
    spec = load_table(options.path)
    if options.preset not in spec.presets:
        raise UserError(
            f"{options.path}: no preset {options.preset!r}; there are "
            f"{', '.join(spec.presets)}"
        )
    for corpus in spec.corpora:
        if corpus not in options.places:
            raise UserError(
                f"{options.path} needs {corpus}: give --{corpus} DIR, or set its place "
                "in db.sh"
            )
    seeds = spec.seeds if options.seeds is None else options.seeds
    runs = tuple(
        _run(spec, options, row, fold, seed)
        for seed in range(seeds)
        for fold in spec.folds
        for row in spec.rows
    )
    folders: dict[Path, Run] = {}
    for run in runs:
        other = folders.setdefault(run.folder, run)
        if other is not run:
            raise UserError(
                f"{options.path}: rows {other.row} and {run.row} would both be trained "
                f"in {run.folder}; give their YAMLs different names"
            )
    return Table(spec, options, runs)


def _run(spec: TableSpec, options: TableOptions, row: str, fold: int, seed: int) -> Run:
    preset = spec.presets[options.preset]
    config = Path(preset.configs, spec.rows[row].config)
    model = config.stem.removeprefix("train_")
    if options.preset != "paper":  # beside the paper preset's, not in their place
        model = f"{options.preset}_{model}"
    modes = spec.rows[row].train
    hidden = any(mode != "both" for mode in modes.values())
    first, *others = [
        _recipe(spec, options, corpus, fold, seed) for corpus in spec.corpora
    ]
    recipe = replace(
        first,
        models={model: config},
        partners=tuple(others),
        shown={c: modes.get(c, "both") for c in spec.corpora} if hidden else {},
        subset_like=next(
            (c.subset_like for c in spec.corpora.values() if c.subset_like), None
        ),
    )
    if preset.seconds is not None:
        recipe = replace(recipe, seconds=preset.seconds)
    if others:
        recipe = replace(recipe, setsdir=options.dumpdir)
    return Run(row, fold, seed, recipe, model)


def _recipe(
    spec: TableSpec, options: TableOptions, corpus: str, fold: int, seed: int
) -> Recipe:
    """Make one corpus' part, as the corpus' own recipe would have it."""
    preset = spec.presets[options.preset]
    described: CorpusSpec = spec.corpora[corpus]
    place = options.places[corpus]
    features = Path("conf", "features", f"{preset.features}.yaml")
    return Recipe(
        corpus=corpus,
        corpus_root=place.root,
        scheme=described.scheme,
        fold=fold if described.folds else None,
        labels=Path("conf", "labels", f"{spec.labels}.yaml"),
        features=features if options.features is None else options.features,
        models={},
        upstream=options.upstream,
        corpus_overlay=None if preset.overlay is None else Path(preset.overlay),
        overlay=options.overlay,
        seed=seed,
        mini=options.mini,
        datadir=place.datadir,
        dumpdir=place.dumpdir,
        expdir=options.expdir,
        nj=options.nj,
        ngpu=options.ngpu,
        num_nodes=options.num_nodes,
        workers=options.workers,
        on_bad_audio=options.on_bad_audio,
    )


def table_step(table: Table) -> Step:
    """Score the runs that are finished when it starts, and write the table."""
    runs_file = table.output.parent / "runs" / f"{table.name}.json"
    runs = {f"{run.row} {run.fold} {run.seed}": run.steps() for run in table.runs}
    return Step(
        name=f"make {table.name}",
        stage=max(STAGES),
        module="espnet_ext.bin.ser_score",
        args=(
            *("--table", str(table.options.path), "--runs", str(runs_file)),
            *("--output", str(table.output)),
            *("--resamples", str(table.options.resamples)),
        ),
        output=table.output,
        products=("RESULTS.md", "table.csv", "table.json", "table.tex", "report.html"),
        inputs=(Input(table.options.path), Input(runs_file, Evidence.RUNS)),
        settings={
            "resamples": table.options.resamples,
            "runs": {label: _settings_of(steps) for label, steps in runs.items()},
        },
        files=((runs_file, format_runs(runs)),),
    )


def _settings_of(steps: Iterable[Step]) -> str:
    text = json.dumps([step.settings for step in steps], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def list_runs(runs: Mapping[str, Sequence[Step]]) -> str:
    """List runs for ``ser_score``; paths are blank of those that are not finished.

    Args:
        runs: Training and inference, by ``row fold seed``.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(RUNS_HEADER)
    for label, (train, infer) in runs.items():
        there = is_done(train) and is_done(infer)
        writer.writerow(
            [
                *label.rsplit(maxsplit=2),
                infer.output / infer.products[0] if there else "",
                train.log if there else "",
                train.files[0][0],
                recorded_fingerprint(train.output) if there else "",
                _code_of(train, infer) if there else "",
            ]
        )
    return text.getvalue()


def _code_of(*steps: Step) -> str:
    return " ".join(recorded_code(step.output) for step in steps)


def print_standing(table: Table) -> None:
    """Print what is finished and what is to do."""
    spec = table.spec
    steps = [step for step in table.steps() if step.stage < 5]
    done = sum(is_done(step) for step in steps)
    finished = {
        (run.row, run.fold, run.seed): is_done(run.steps()[1]) for run in table.runs
    }
    seeds = sorted({run.seed for run in table.runs})
    print(f"{spec.title} (preset {table.options.preset}, {_count(len(seeds), 'seed')})")
    print(f"  data, features and sets: {done} of {len(steps)} steps finished")
    print(f"  runs: {sum(finished.values())} of {len(finished)} finished")
    width = max(len(row.name) for row in spec.rows.values()) + 2
    if spec.folds != (0,):
        heads = "".join(f"fold {n}".ljust(10) for n in spec.folds)
        print(" " * (width + 4) + heads.rstrip())
    for key, row in spec.rows.items():
        line = f"    {row.name.ljust(width)}"
        for fold in spec.folds:
            there = sum(finished[key, fold, seed] for seed in seeds)
            word = "to do" if not there else f"{there} of {len(seeds)}"
            line += ("done" if there == len(seeds) else word).ljust(10)
        print(line.rstrip(), flush=True)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


@dataclass
class Outcome:
    """What went wrong while a table was made.

    Attributes:
        failures: A text for each stage or step that failed, with the end of its log.
        left_out: Steps that could not run, because they read what failed.
    """

    failures: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def check(self) -> None:
        """Raise UserError that tells all of it, if there is anything to tell."""
        if not self.failures and not self.left_out:
            return
        text = "\n".join(self.failures)
        if self.left_out:
            text += "\nNot run, because what they need is not finished:"
            text += "".join(f"\n    {name}" for name in self.left_out)
        raise UserError(text)


def run_stages(
    table: Table,
    stages: Iterable[int],
    run_stage: Callable[[Sequence[Step]], None],
) -> Outcome:
    """Run everything before the table itself; a failure stops what depends on it.

    Args:
        table: The table.
        stages: Which stages, none after `LAST_SHARED_STAGE`.
        run_stage: Runs steps of one stage; raises UserError when some have failed.
    """
    outcome = Outcome()
    for stage in stages:
        print(f"Stage {stage}: {STAGES[stage]}", flush=True)
        # Planned again for each stage, as recipes are.
        plan = table.steps()
        here = [step for step in plan if step.stage == stage]
        wanted = [step for step in here if not is_done(step)]
        if len(wanted) < len(here):
            print(f"  {len(here) - len(wanted)} of {len(here)} finished before")
        # From training on the steps of a stage do not depend on each other.
        for group in [[step] for step in wanted] if stage < 5 else [wanted]:
            ready, waiting = split_ready(plan, group)
            outcome.left_out += [step.name for step in waiting]
            try:
                if ready:
                    run_stage(ready)
            except UserError as error:
                outcome.failures.append(str(error))
    return outcome


def split_ready(
    plan: Sequence[Step], wanted: Sequence[Step]
) -> tuple[list[Step], list[Step]]:
    """Part steps into those that can run now and those that cannot.

    Args:
        plan: All steps.
        wanted: Some of them.

    Returns:
        The steps whose inputs are finished, and the others.
    """
    done: dict[str, bool] = {}

    def can_run(step: Step) -> bool:
        others = [
            other
            for other in plan
            if other.name != step.name
            and any(item.path.is_relative_to(other.output) for item in step.inputs)
        ]
        for other in others:
            if other.name not in done:
                done[other.name] = is_done(other)
        return all(done[other.name] for other in others)

    ready = [step for step in wanted if can_run(step)]
    return ready, [step for step in wanted if step not in ready]
