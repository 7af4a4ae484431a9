"""The plan of a table: the recipes of its rows, folds and seeds, and how it is made.

Its data, features and trainings are those that ordinary recipes (`jobs.recipe`) would
make, and either finds the other's work. Only the last step is its own: it scores all
runs together. It waits for all of them, however they end, and is made of those that are
finished.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from espnet_ext.classical import is_classical
from espnet_ext.errors import UserError
from espnet_ext.jobs.batch import unique
from espnet_ext.jobs.manifest import missing_target
from espnet_ext.jobs.options import config_path, is_config_file
from espnet_ext.jobs.recipe import (
    Recipe,
    build_plan,
    classical_step,
    infer_step,
    train_step,
    training_config,
)
from espnet_ext.jobs.stages import SCORING
from espnet_ext.jobs.step import (
    Evidence,
    Input,
    Step,
    command_line,
    format_runs,
    hash_json,
    is_done,
    recorded_code,
    recorded_fingerprint,
)
from espnet_ext.jobs.table_corpora import Place, Source, find_sources
from espnet_ext.scoring.spec import TableSpec, load_table

RUNS_HEADER = (
    *("row", "fold", "seed", "predictions", "train_log"),
    *("config", "training", "code", "train_set"),
)


@dataclass(frozen=True)
class Run:
    """One training of a table: a row on a fold with a seed."""

    row: str
    fold: int  # 0 where there are none
    seed: int
    recipe: Recipe  # that it is part of
    model: str  # its name there

    @property
    def folder(self) -> Path:
        """Where it is trained."""
        return self.recipe.run(self.model)

    def steps(self) -> tuple[Step, ...]:
        """Training and inference; of the classical baseline one step for both."""
        config = training_config(self.recipe, self.model)
        if is_classical(config):
            return (classical_step(self.recipe, self.model, config),)
        return (
            train_step(self.recipe, self.model, config),
            infer_step(self.recipe, self.model, config),
        )


@dataclass(frozen=True)
class Table:
    """A table as it is planned."""

    path: Path  # of its YAML
    spec: TableSpec
    preset: str
    expdir: Path
    resamples: int  # of the bootstrap
    runs: tuple[Run, ...]

    @property
    def name(self) -> str:
        """Name of its folder."""
        own = self.preset == "paper"
        return self.spec.name if own else f"{self.spec.name}_{self.preset}"

    @property
    def output(self) -> Path:
        """Where the table goes."""
        return self.expdir / "tables" / self.name

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
        steps = unique(step for recipe in self.recipes for step in build_plan(recipe))
        shared = [step for step in steps if step.stage < SCORING]
        return sorted(shared, key=lambda step: step.stage)


def plan_table(
    path: Path,
    base: Recipe,
    places: Mapping[str, Place],
    preset: str = "paper",
    seeds: int | None = None,
    features: Path | None = None,
) -> Table:
    """Read a table's YAML and lay out its runs.

    Args:
        path: The YAML.
        base: What its recipes have in common: folders, overlay, resources, resamples.
            The table itself says the corpora, folds, models, labels and seeds.
        places: Of each corpus.
        preset: One of the YAML's presets.
        seeds: Number of seeds; None: as the YAML says.
        features: Feature config in place of the preset's.

    Raises:
        UserError: The YAML is wrong, a corpus' place is not known, or two rows would
            be trained in one folder.
    """
    spec = load_table(path)
    if preset not in spec.presets:
        raise UserError(
            f"{path}: no preset {preset!r}; there are {', '.join(spec.presets)}"
        )
    if spec.any_corpora:
        spec = _with_places(path, spec, places)
    chosen = spec.presets[preset]
    base = replace(
        base,
        features=features or Path("conf", "features", f"{chosen.features}.yaml"),
        labels=_labels_path(path, spec.labels),
        corpus_overlay=None if chosen.overlay is None else Path(chosen.overlay),
        seconds=chosen.seconds,
        models={},
    )
    sources = find_sources(path, spec, base, places)
    scales = {source.scale for source in sources.values()} - {None}
    differ = spec.attribute_scale is None and len(scales) > 1
    base = replace(base, unit_attributes=differ or spec.attribute_scale == "unit")
    _check_targets(path, spec, chosen.configs, sources)
    runs = tuple(
        _run(spec, preset, base, sources, row, fold, seed)
        for seed in range(spec.seeds if seeds is None else seeds)
        for fold in spec.folds
        for row in spec.rows
    )
    folders: dict[Path, Run] = {}
    for run in runs:
        other = folders.setdefault(run.folder, run)
        if other is not run:
            raise UserError(
                f"{path}: rows {other.row} and {run.row} would both be trained "
                f"in {run.folder}; give their YAMLs different names"
            )
    return Table(path, spec, preset, base.expdir, base.resamples, runs)


def _with_places(path: Path, spec: TableSpec, places: Mapping[str, Place]) -> TableSpec:
    """Leave out the corpora of which no place is known, where the table allows it."""
    there = [c for c, own in spec.corpora.items() if own.manifest or c in places]
    if len(there) < 2:
        one = f", and there is only {there[0]}" if there else ""
        raise UserError(
            f"{path} needs two of its corpora ({', '.join(spec.corpora)}){one}: give "
            "--root CORPUS=DIR CORPUS=DIR, or set their places in db.sh"
        )
    return load_table(path, there)


def _labels_path(path: Path, labels: str) -> Path:
    """Find a class map by its name, or by its path from the table's folder."""
    if is_config_file(labels):
        return path.parent / labels
    return config_path("labels", labels)


def _check_targets(
    path: Path, spec: TableSpec, configs: str, sources: Mapping[str, Source]
) -> None:
    """Refuse a row whose model predicts only what its corpora have no labels of."""
    for key, row in spec.rows.items():
        shown = spec.trained_on(key)
        labelled = {
            kind: any(has[c] for c in shown if shown[c] in (kind, "both"))
            for kind, has in (
                ("discrete", {c: s.classes for c, s in sources.items()}),
                ("continuous", {c: s.scale is not None for c, s in sources.items()}),
            )
        }
        if kind := missing_target(Path(configs, row.config), labelled):
            raise UserError(
                f"{path}: rows: {key}: {row.config} predicts what none of its training "
                f"corpora has or shows: {kind}"
            )


def _run(
    spec: TableSpec,
    preset: str,
    base: Recipe,
    sources: Mapping[str, Source],
    row: str,
    fold: int,
    seed: int,
) -> Run:
    config = Path(spec.presets[preset].configs, spec.rows[row].config)
    model = config.stem.removeprefix("train_")
    if preset != "paper":  # beside the paper preset's, not in their place
        model = f"{preset}_{model}"
    base = replace(base, seed=seed)
    first, *others = [  # each as the corpus' own recipe would have it
        sources[corpus].recipe(base, corpus, fold if described.folds else None)
        for corpus, described in spec.corpora.items()
    ]
    labels = spec.trained_on(row)
    likes = [c.subset_like for c in spec.corpora.values() if c.subset_like]
    recipe = replace(
        first,
        models={model: config},
        partners=tuple(others),
        train_labels=labels if {*labels.values()} != {"both"} else {},
        subset_like=likes[0] if likes else None,
        setsdir=base.dumpdir if others else None,
    )
    return Run(row, fold, seed, recipe, model)


def table_step(table: Table) -> Step:
    """Score the runs that are finished when it starts, and write the table."""
    runs_file = table.output.parent / "runs" / f"{table.name}.json"
    runs = {f"{run.row} {run.fold} {run.seed}": run.steps() for run in table.runs}
    settings = {label: [s.settings for s in steps] for label, steps in runs.items()}
    return Step(
        name=f"make {table.name}",
        stage=SCORING,
        module="espnet_ext.bin.ser_score",
        args=command_line(
            table=table.path,
            corpora=list(table.spec.corpora) if table.spec.any_corpora else None,
            runs=runs_file,
            output=table.output,
            resamples=table.resamples,
        ),
        output=table.output,
        products=("RESULTS.md", "table.csv", "table.json", "table.tex", "report.html"),
        inputs=(Input(table.path), Input(runs_file, Evidence.RUNS)),
        settings={
            "resamples": table.resamples,
            "runs": {label: hash_json(own)[:16] for label, own in settings.items()},
        },
        files=((runs_file, format_runs(runs)),),
    )


def list_runs(runs: Mapping[str, Sequence[Step]]) -> str:
    """List runs for ``ser_score``; paths are blank of those that are not finished.

    Args:
        runs: The steps of each, by ``row fold seed``; the last one predicts.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(RUNS_HEADER)
    for label, steps in runs.items():
        train, infer = steps[0], steps[-1]
        there = all(map(is_done, steps))
        # The classical baseline has no training, and is another program anyway.
        trained = there and len(steps) > 1
        code = " ".join(recorded_code(step.output) for step in steps)
        writer.writerow(
            [
                *label.rsplit(maxsplit=2),
                infer.output / infer.products[0] if there else "",
                train.log if trained else "",
                train.files[0][0],
                recorded_fingerprint(train.output) if there else "",
                code if trained else "",
                train.inputs[0].path if train.inputs else "",
            ]
        )
    return text.getvalue()


def print_standing(table: Table) -> None:
    """Print what is finished and what is to do."""
    spec = table.spec
    steps = [step for step in table.steps() if step.stage < 5]
    finished = {
        (run.row, run.fold, run.seed): is_done(run.steps()[-1]) for run in table.runs
    }
    seeds = sorted({run.seed for run in table.runs})
    count = f"{len(seeds)} seed{'' if len(seeds) == 1 else 's'}"
    print(f"{spec.title} (preset {table.preset}, {count})")
    done = sum(map(is_done, steps))
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
            word = "done" if there == len(seeds) else f"{there} of {len(seeds)}"
            line += (word if there else "to do").ljust(10)
        print(line.rstrip(), flush=True)
