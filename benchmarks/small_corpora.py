"""Variants of preset `small` and of the classical row: labels x folds x seeds.

Each variant is a feature config and what it changes in conf/small/train_baseline_d.yaml
(`VARIANTS`; the preset is the one without changes). Trainings run in this process, as
the recipe does them, with the features in memory; OUTPUT grows by a row a training, and
what it has is not trained again.

Printed, for each class map and variant: mean over folds, then mean and standard
deviation over seeds, of the averaged model's UAR on the validation sets. Choose by
that. `--test true` prints the test sets, too: for the end.

    ./run.sh --corpus emodb --corpus_root DIR --features mfcc --fold 1 2 3 4 5 \
        --stop_stage 4     # and with --features functionals, and --labels emodb7
    nice python benchmarks/small_corpora.py --dump egs2/emodb/ser1/dump/emodb \
        --labels paper5 emodb7 --variants classical small --output small.csv
"""

import argparse
import csv
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from espnet2.torch_utils.set_all_random_seed import set_all_random_seed
from sklearn.metrics import recall_score
from training_study import ROOT, score_set, training_arguments

from espnet_ext.classical.model import ClassicalConfig, fit_classes
from espnet_ext.corpora.datadir import read_data_dir
from espnet_ext.features.joint_store import open_store
from espnet_ext.scoring.reference import read_reference
from espnet_ext.tasks.config import merge_configs
from espnet_ext.tasks.ser import SERTask
from espnet_ext.train.trainer import SERTrainer
from espnet_ext.utils.arguments import boolean
from espnet_ext.utils.yaml_files import build, read_yaml

CLASSICAL = "classical"
FUNCTIONALS = "functionals"  # folder in DUMP
# name -> features in DUMP, what is changed in the preset
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "small": (FUNCTIONALS, {}),
    "frames": ("mfcc", {}),  # pooled mean and deviation, with attention
    "no_norm": ("mfcc", {"decoder_conf": {"pooled_norm": False}}),
    "smoothing": (FUNCTIONALS, {"loss_conf": {"label_smoothing": 0.1}}),
    "dropout_0.6": (FUNCTIONALS, {"decoder_conf": {"dropout_rate": 0.6}}),
    "rate_0.0005": (FUNCTIONALS, {"optim_conf": {"lr": 0.0005}}),
    "weights": (FUNCTIONALS, {"loss_conf": {"class_weights": "balanced"}}),
    "80_epochs": (FUNCTIONALS, {"max_epoch": 80}),
}


def fit(sets: Path, store: Path) -> dict[str, Any]:
    """Fit the classical row of conf/train_classical.yaml, score both other sets."""
    path = ROOT / "conf/train_classical.yaml"
    config = build(ClassicalConfig, read_yaml(path), str(path))
    features = open_store(store)  # what `functionals: mfcc` computes, (1, D)
    labels = {n: read_reference(sets / n).emotion for n in ("train", "valid", "test")}
    vectors = {n: np.stack([features[u][0] for u in labels[n]]) for n in labels}
    names = {n: np.array(list(labels[n].values())) for n in labels}
    records = read_data_dir(sets / "train").utterances
    fitted = fit_classes(
        config,
        (vectors["train"], names["train"]),
        (vectors["valid"], names["valid"]),
        [records[u].speaker for u in labels["train"]],
    )
    scores = {
        n: recall_score(
            names[n],
            fitted.machine.predict(vectors[n]),
            labels=sorted(set(names[n])),
            average="macro",
        )
        for n in ("valid", "test")
    }
    return {n: round(uar, 4) for n, uar in scores.items()} | {"curve": ""}


def train(sets: Path, store: Path, changes: dict[str, Any], seed: int) -> dict:
    """Train once; score the averaged model, with the curve of validation UAR."""
    models, curve = [], []

    class Trainer(SERTrainer):
        @classmethod
        def validate_one_epoch(cls, *, model: Any, reporter: Any, **more: Any) -> None:
            super().validate_one_epoch(model=model, reporter=reporter, **more)
            curve.append(score_set(model, Task.args, "valid")["uar"])
            models[:] = [model]

    class Task(SERTask):
        trainer = Trainer
        args: argparse.Namespace

        @classmethod
        def main_worker(cls, args: argparse.Namespace) -> None:
            cls.args = args
            super().main_worker(args)

    preset = merge_configs([ROOT / "conf/small/train_baseline_d.yaml"], changes)
    set_all_random_seed(seed)
    with tempfile.TemporaryDirectory() as folder:
        Task.main(cmd=training_arguments(sets, store, preset, seed, folder))
        (average,) = Path(folder).glob(f"*.ave_{Task.args.keep_nbest_models}best.pth")
        models[0].load_state_dict(torch.load(average, weights_only=True))
    scores = {
        part: round(score_set(models[0], Task.args, part)["uar"], 4)
        for part in ("valid", "test")
    }
    return scores | {"curve": " ".join(f"{uar:.3f}" for uar in curve)}


def report(rows: list[dict[str, Any]], parts: list[str]) -> None:
    """Print a line for each class map and variant: mean and deviation over seeds."""
    print("| classes | variant | seeds, folds | " + " | ".join(parts) + " |")
    print("|-" * (3 + len(parts)) + "|")
    for labels, variant in dict.fromkeys((r["labels"], r["variant"]) for r in rows):
        found = [r for r in rows if (r["labels"], r["variant"]) == (labels, variant)]
        seeds = sorted({row["seed"] for row in found})
        folds = len({row["fold"] for row in found})
        cells = []
        for part in parts:
            means = [
                statistics.fmean(float(r[part]) for r in found if r["seed"] == seed)
                for seed in seeds
            ]
            deviation = statistics.stdev(means) if len(means) > 1 else 0.0
            cells.append(f"{statistics.fmean(means):.3f} ± {deviation:.3f}")
        print(f"| {labels} | {variant} | {len(seeds)}, {folds} | {' | '.join(cells)} |")


def main() -> None:
    """Train what is missing in OUTPUT, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dump", type=Path, required=True, help="dump/CORPUS")
    parser.add_argument("--scheme", default="emodb_5fold", help="[emodb_5fold]")
    parser.add_argument("--labels", nargs="+", default=["paper5"], help="[paper5]")
    names = [CLASSICAL, *VARIANTS]
    parser.add_argument("--variants", nargs="+", choices=names, default=names)
    parser.add_argument("--folds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--test", type=boolean, default=False, help="[false]")
    parser.add_argument("--output", type=Path, required=True, help="a csv file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    if options.output.is_file():
        with options.output.open(newline="") as stream:
            rows = list(csv.DictReader(stream))
    keys = [
        {"labels": labels, "variant": variant, "fold": str(fold), "seed": str(seed)}
        for seed in options.seeds
        for variant in options.variants
        for labels in options.labels
        for fold in options.folds
        if variant != CLASSICAL or seed == options.seeds[0]  # it draws nothing
    ]
    for key in keys:
        if any(key.items() <= row.items() for row in rows):
            continue
        scheme = f"{options.scheme}_{key['fold']}"
        sets = options.dump / "sets" / key["labels"] / scheme
        start = time.process_time()
        if key["variant"] == CLASSICAL:
            scores = fit(sets, options.dump / FUNCTIONALS)
        else:
            features, changes = VARIANTS[key["variant"]]
            scores = train(sets, options.dump / features, changes, int(key["seed"]))
        seconds = round(time.process_time() - start, 1)
        rows.append(key | scores | {"cpu_seconds": seconds})
        with options.output.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    wanted = [row for row in rows if any(key.items() <= row.items() for key in keys)]
    report(wanted, ["valid", "test"] if options.test else ["valid"])


if __name__ == "__main__":
    main()
