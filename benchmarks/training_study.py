"""What BatchNorm's statistics do to trainings: seeds x folds of one model, three ways.

Trains as the recipe does. After each epoch the same training is validated
  running  with the statistics that the last batches leave,
  train    with statistics over training data (espnet_ext/train/batch_norm.py),
  ema      with the same, of weights averaged exponentially over the steps (--decay a
           step; 0.98 is about an epoch of the built-in corpora).
No way changes the training, so one training serves all. Each way then selects and
averages its own best epochs: "running" with averaged statistics, the others with new
ones. `--norm masked` trains with a BatchNorm that leaves padding out; another norm is
an overlay (conf/tuning/layer_norm.yaml).

Printed, for each fold and way: mean and standard deviation over seeds of the averaged
model's scores on the test set, and of the falls: by how much the validation score that
selects falls from one epoch to the next, the mean over the second half of a training
(0 if it never falls). The last lines are over all folds: the mean, and the deviation
over seeds pooled over folds. Trainings that OUTPUT has already are not repeated.

    ./run.sh --fold 1 2 3 4 5 --stop_stage 4
    nice python benchmarks/training_study.py --dump egs2/mini/ser1/dump/iemocap \
        --folds 1 2 --seeds 0 1 2 --output study.csv
"""

import argparse
import csv
import statistics
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import yaml
from espnet2.torch_utils.set_all_random_seed import set_all_random_seed
from espnet2.train.distributed_utils import DistributedOption
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from espnet_ext.ser.model import ESPnetSERModel
from espnet_ext.tasks.config import merge_configs
from espnet_ext.tasks.ser import SERTask
from espnet_ext.train.batch_norm import TrainingStatistics, batch_norms
from espnet_ext.train.trainer import SERTrainer
from espnet_ext.train.validation import predict_set, summarize

ROOT = Path(__file__).resolve().parents[1]
WAYS = ("running", "train", "ema")
SCORES = ("ccc", "uar", "acc")
State = dict[str, torch.Tensor]


class Study:
    """Validates and keeps the weights of each epoch in all ways.

    Args:
        args: the options of the training.
        model: what is trained.
    """

    def __init__(
        self, args: argparse.Namespace, model: ESPnetSERModel, decay: float
    ) -> None:
        self.args, self.model = args, model
        self.average = AveragedModel(
            model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=False
        )
        factory = SERTask.build_iter_factory(args, DistributedOption(), mode="train")
        self.train = TrainingStatistics(
            factory, args.batch_norm_batches, args.batch_norm_padding
        )
        self.criterion = args.best_model_criterion[0][1]
        self.scores: dict[str, list[float]] = {way: [] for way in WAYS}
        self.states: dict[str, list[State]] = {way: [] for way in WAYS}

    def validate(self) -> None:
        """Score the present weights in all ways; the model stays as it was."""
        model, before = self.model, _copy(self.model)
        for way in WAYS:
            if way == "ema":
                model.load_state_dict(self.average.module.state_dict())
            if way != "running":
                self.train.set(model)
            valid = score_set(model, self.args, "valid")
            self.scores[way].append(valid[self.criterion])
            self.states[way].append(_copy(model))
        model.load_state_dict(before)

    def test(self, way: str) -> dict[str, float]:
        """Score the average of the best epochs on the test set."""
        model = self.model
        scores, states = self.scores[way], self.states[way]
        order = sorted(range(len(scores)), key=lambda i: -scores[i])
        best = [states[i] for i in order[: self.args.keep_nbest_models]]
        average = {name: _mean([state[name] for state in best]) for name in best[0]}
        model.load_state_dict(average)
        if way != "running":
            self.train.set(model)
        return score_set(model, self.args, "test")


@torch.no_grad()
def score_set(
    model: ESPnetSERModel, args: argparse.Namespace, part: str
) -> dict[str, float]:
    """Score a model on the set PART beside the validation set of `args`."""
    args = argparse.Namespace(**vars(args))
    args.valid_data_path_and_name_and_type = [
        [path.replace("/valid/", f"/{part}/"), *rest]
        for path, *rest in args.valid_data_path_and_name_and_type
    ]
    args.valid_shape_file = [
        path.replace("/valid/", f"/{part}/") for path in args.valid_shape_file
    ]
    factory = SERTask.build_iter_factory(args, DistributedOption(), mode="valid")
    return summarize(predict_set(model, factory.build_iter(1), args))


def _copy(model: ESPnetSERModel) -> State:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def _mean(tensors: list[torch.Tensor]) -> torch.Tensor:
    stacked = torch.stack(tensors)
    return stacked.mean(0) if stacked.is_floating_point() else stacked[0]


class MaskedBatchNorm(nn.BatchNorm1d):
    """BatchNorm over the real frames of (B, C, T); `lengths` (B,) are set before."""

    lengths: torch.Tensor

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Normalize (B, C, T); padded frames become 0."""
        frames = values.transpose(1, 2)  # (B, T, C)
        steps = torch.arange(frames.size(1), device=values.device)
        real = steps < self.lengths[:, None]  # (B, T)
        out = torch.zeros_like(frames)
        out[real] = super().forward(frames[real])
        return out.transpose(1, 2)


def mask_norms(model: ESPnetSERModel) -> None:
    """Let every BatchNorm of the encoder leave out padding, in training too."""
    norms = batch_norms(model.encoder)
    for norm in norms:
        norm.__class__ = MaskedBatchNorm

    def tell_lengths(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        for norm in norms:
            norm.lengths = inputs[1]

    model.encoder.register_forward_pre_hook(tell_lengths)


def train(arguments: list[str], norm: str, decay: float) -> Iterator[dict[str, Any]]:
    """Train once; give the scores of each way."""
    studies: list[Study] = []

    class StudyTrainer(SERTrainer):
        @classmethod
        def run(cls, *, model: Any, optimizers: Any, **others: Any) -> None:
            study = Study(StudyTask.args, model, decay)
            studies.append(study)
            optimizers[0].register_step_post_hook(
                lambda *_: study.average.update_parameters(model)
            )
            super().run(model=model, optimizers=optimizers, **others)

        @classmethod
        def validate_one_epoch(cls, **others: Any) -> None:
            super().validate_one_epoch(**others)
            studies[0].validate()

    class StudyTask(SERTask):
        trainer = StudyTrainer
        args: argparse.Namespace

        @classmethod
        def main_worker(cls, args: argparse.Namespace) -> None:
            cls.args = args
            super().main_worker(args)

        @classmethod
        def build_model(cls, args: argparse.Namespace) -> ESPnetSERModel:
            model = super().build_model(args)
            if norm == "masked":
                mask_norms(model)
            return model

    StudyTask.main(cmd=arguments)
    study = studies[0]
    for way in WAYS:
        tested = study.test(way)
        yield {
            "statistics": way,
            **{name: round(tested[name], 4) for name in SCORES if name in tested},
            "valid": " ".join(f"{score:.3f}" for score in study.scores[way]),
        }


def training_arguments(
    sets: Path, store: Path, config: dict[str, Any], seed: int, folder: str
) -> list[str]:
    """Return the arguments of a training, as the recipe's plan gives them."""
    path = Path(folder) / "merged.yaml"
    path.write_text(yaml.safe_dump(config | {"use_tensorboard": False}))
    args = ["--config", str(path), "--output_dir", folder, "--seed", str(seed)]
    args += ["--class_list", str(sets / "train" / "classes")]
    for part in ("train", "valid"):
        for triple in (
            f"{store},speech,ser_features",
            f"{sets / part / 'utt2class'},emotion,text_int",
            f"{sets / part / 'attributes'},attributes,text_float",
        ):
            args += [f"--{part}_data_path_and_name_and_type", triple]
        args += [f"--{part}_shape_file", str(sets / part / "speech_shape")]
    return args


def falls(row: dict[str, Any]) -> float:
    """Return the mean fall from one epoch to the next in the second half."""
    curve = [float(score) for score in row["valid"].split()]
    later = curve[len(curve) // 2 :]
    return statistics.fmean(max(0.0, a - b) for a, b in pairwise(later))


def report(rows: list[dict[str, Any]]) -> None:
    """Print mean and deviation over seeds, a line a fold and way."""
    names = [name for name in SCORES if rows[0].get(name)]
    print("| fold | statistics | seeds | " + " | ".join([*names, "falls"]) + " |")
    print("|-" * (4 + len(names)) + "|")
    for fold in sorted({row["fold"] for row in rows}):
        for way in WAYS:
            found = [r for r in rows if (r["fold"], r["statistics"]) == (fold, way)]
            if not found:  # a csv of an earlier state of this program
                continue
            columns = [[float(row[name]) for row in found] for name in names]
            cells = [
                f"{statistics.fmean(values):.3f} ± "
                f"{statistics.stdev(values) if len(values) > 1 else 0.0:.3f}"
                for values in [*columns, [falls(row) for row in found]]
            ]
            print(f"| {fold} | {way} | {len(found)} | " + " | ".join(cells) + " |")
    for way in WAYS:
        found = [
            row | {"falls": falls(row)} for row in rows if row["statistics"] == way
        ]
        if not found:
            continue
        cells = [" ± ".join(spread(found, name)) for name in [*names, "falls"]]
        print(f"| all | {way} | {len(found)} | " + " | ".join(cells) + " |")


def spread(rows: list[dict[str, Any]], name: str) -> tuple[str, str]:
    """Return the mean, and the deviation over seeds pooled over folds."""
    folds = {row["fold"] for row in rows}
    groups = [[float(r[name]) for r in rows if r["fold"] == fold] for fold in folds]
    squares = sum(sum((x - statistics.fmean(g)) ** 2 for x in g) for g in groups)
    freedom = sum(len(group) - 1 for group in groups)
    mean = statistics.fmean(value for group in groups for value in group)
    return f"{mean:.3f}", f"{(squares / max(freedom, 1)) ** 0.5:.3f}"


def main() -> None:
    """Train what is missing in OUTPUT, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dump", type=Path, required=True, help="dump/CORPUS")
    parser.add_argument("--features", default="mini", help="folder in DUMP [mini]")
    parser.add_argument("--labels", default="paper5", help="[paper5]")
    parser.add_argument("--scheme", default="iemocap_5fold", help="[iemocap_5fold]")
    parser.add_argument("--model", default="hierarchical_cd", help="[hierarchical_cd]")
    parser.add_argument(
        "--overlay", type=Path, nargs="*", default=[ROOT / "conf" / "mini.yaml"]
    )
    parser.add_argument("--norm", choices=("batch", "masked"), default="batch")
    parser.add_argument("--decay", type=float, default=0.98, help="of ema [0.98]")
    parser.add_argument("--folds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--output", type=Path, required=True, help="a csv file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    paths = [ROOT / "conf" / f"train_{options.model}.yaml", *options.overlay]
    config = merge_configs(paths, {"batch_norm_statistics": "running"})
    rows: list[dict[str, Any]] = []
    if options.output.is_file():
        with options.output.open(newline="") as stream:
            rows = list(csv.DictReader(stream))
    for seed in options.seeds:
        for fold in options.folds:
            key = {"model": options.model, "fold": str(fold), "seed": str(seed)}
            if any(key.items() <= row.items() for row in rows):
                continue
            set_all_random_seed(seed)
            sets = options.dump / "sets" / options.labels / f"{options.scheme}_{fold}"
            store = options.dump / options.features
            with tempfile.TemporaryDirectory() as folder:
                arguments = training_arguments(sets, store, config, seed, folder)
                rows += [
                    key | row for row in train(arguments, options.norm, options.decay)
                ]
            with options.output.open("w", newline="") as stream:
                writer = csv.DictWriter(stream, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
    report([row for row in rows if row["model"] == options.model])


if __name__ == "__main__":
    main()
