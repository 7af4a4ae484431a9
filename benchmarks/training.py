"""What the trainer and the loader cost beside the computation itself.

Takes the config.yaml of any training (its sets and features must still be there) and
runs a few epochs of it in a temporary folder: first a bare loop of forward, backward,
clipping and optimizer step over batches that lie ready in memory, then the same epochs
through SERTask with loading, reports, TensorBoard and checkpoints, validation excluded.
Prints the ratio of the two (aim: at most 1.15) and where a step's time goes.

    python benchmarks/training.py --train_config exp/run/config.yaml --epochs 5
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import yaml
from espnet2.torch_utils.device_funcs import to_device
from espnet2.torch_utils.set_all_random_seed import set_all_random_seed
from espnet2.train.distributed_utils import DistributedOption

from espnet_ext.tasks.ser import SERTask
from espnet_ext.train.trainer import SERTrainer

PARTS = ("iter_time", "forward_time", "backward_time", "optim_step_time")


class StopWatch:
    """When each epoch began, how long it validated, and the trainer's own times."""

    def __init__(self) -> None:
        self.begins: list[float] = []
        self.validation: list[float] = []
        self.steps: list[dict[str, float]] = []

    def epochs(self) -> list[float]:
        """Seconds of each complete epoch, validation excluded."""
        return [
            end - begin - validation
            for begin, end, validation in zip(
                self.begins, self.begins[1:], self.validation, strict=False
            )
        ]


def timed_task(watch: StopWatch) -> type[SERTask]:
    """SERTask with a stop watch in its trainer."""

    class TimedTrainer(SERTrainer):
        @classmethod
        def train_one_epoch(cls, **kwargs: Any) -> bool:
            watch.begins.append(time.perf_counter())
            invalid = super().train_one_epoch(**kwargs)
            stats = kwargs["reporter"].stats
            means = {
                name: statistics.fmean(value.value for value in stats[name])
                for name in (*PARTS, "train_time")
            }
            watch.steps.append(means)
            return invalid

        @classmethod
        def validate_one_epoch(cls, **kwargs: Any) -> None:
            begin = time.perf_counter()
            super().validate_one_epoch(**kwargs)
            watch.validation.append(time.perf_counter() - begin)

    class TimedTask(SERTask):
        trainer = TimedTrainer

    return TimedTask


def bare_loop(args: argparse.Namespace, epochs: int) -> list[float]:
    """Seconds an epoch of the computation alone, on the trainer's own batches."""
    set_all_random_seed(args.seed)
    device = "cuda" if args.ngpu else "cpu"
    model = SERTask.build_model(args).to(device).train()
    (optimizer,) = SERTask.build_optimizers(args, model=model)
    factory = SERTask.build_iter_factory(args, DistributedOption(), mode="train")
    seconds = []
    for epoch in range(1, epochs + 1):
        batches = [to_device(batch, device) for _, batch in factory.build_iter(epoch)]
        begin = time.perf_counter()
        for batch in batches:
            loss, _, _ = model(**batch)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), args.grad_clip)
            optimizer.step()
            optimizer.zero_grad()
        if args.ngpu:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begin)
    return seconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train_config", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    config = yaml.safe_load(options.train_config.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        args = argparse.Namespace(**config)
        args.output_dir, args.resume, args.patience = folder, False, None
        # One more, which ends the last epoch that counts.
        args.max_epoch = options.epochs + 1
        bare = bare_loop(args, options.epochs)
        watch = StopWatch()
        timed_task(watch).main_worker(args)
    trained = watch.epochs()
    best_bare, best_trained = min(bare), min(trained)
    print(f"bare loop: {best_bare:.2f} s an epoch (of {options.epochs}: best)")
    print(f"SERTask:   {best_trained:.2f} s an epoch, validation excluded")
    print(f"ratio:     {best_trained / best_bare:.3f}")
    means = {
        name: statistics.fmean(step[name] for step in watch.steps)
        for name in watch.steps[0]
    }
    print("a step of SERTask:")
    for name in PARTS:
        print(f"  {name:16} {means[name] / means['train_time']:6.1%}")
    rest = 1 - sum(means[name] for name in PARTS) / means["train_time"]
    print(f"  {'clipping, reports':16} {rest:6.1%}")


if __name__ == "__main__":
    main()
