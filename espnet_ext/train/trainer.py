"""ESPnet's Trainer with changes: validation, early stopping, checkpoints, a record.

- Validation metrics are over the whole set, gathered over ranks (`train.validation`).
- Before each validation, and for averaged models, BatchNorm's statistics are those of
  training data (`train.batch_norm`), if the options want it.
- Patience counts from the end of the learning rate's warm-up.
- A kill at any moment costs at most the running epoch (`train.checkpoint`).
- On what the training ran and how long is kept beside the model (`train.record`).

The training step is ESPnet's own.
"""

import argparse
import dataclasses
import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from espnet2.iterators.abs_iter_factory import AbsIterFactory
from espnet2.train.distributed_utils import DistributedOption
from espnet2.train.reporter import SubReporter
from espnet2.train.trainer import Trainer, TrainerOptions
from espnet2.utils.types import int_or_none, str2bool
from torch import Tensor, nn

from espnet_ext.errors import UserError
from espnet_ext.ser.distributed import gather_objects, is_first_rank
from espnet_ext.ser.model import ESPnetSERModel
from espnet_ext.train.batch_norm import TrainingStatistics, batch_norms
from espnet_ext.train.checkpoint import (
    completed_epochs,
    full_disk_named,
    prepare_resume,
    read_checkpoint,
    save_model,
    set_aside,
)
from espnet_ext.train.record import TrainingRecord, open_record, this_machine
from espnet_ext.train.schedule import describe_misfit
from espnet_ext.train.validation import (
    check_finite,
    concatenate,
    dead_outputs,
    predict_set,
    set_loss,
    summarize,
)

# ESPnet seeds epoch e with seed + e. User seeds lie this far apart, so that no two of
# them ever meet; the seeds below it are left to the initialization of the model.
SEED_STRIDE = 10_000


def spread_seed(seed: int) -> int:
    """Return where the epoch seeds of user seed `seed` start."""
    return (seed + 1) * SEED_STRIDE


@dataclasses.dataclass
class SERTrainerOptions(TrainerOptions):
    """ESPnet's options, those of `SERTrainer.add_arguments`, and what a run adds."""

    patience_after_warmup: bool = True
    max_steps: int | None = None
    batch_norm_statistics: str = "running"
    batch_norm_batches: int = 0
    batch_norm_padding: bool = False
    full_patience: int | None = None  # the user's
    no_stop_until: int = 0  # ESPnet's own `patience` is None up to this epoch
    record: TrainingRecord | None = None  # of the first rank
    statistics: TrainingStatistics | None = None  # None: evaluate with running ones

    def arm_early_stopping(self, epoch: int) -> None:
        """Let ESPnet's check at the end of `epoch` stop the training, or not."""
        self.patience = self.full_patience if epoch > self.no_stop_until else None


class SERTrainer(Trainer):
    """Trainer for `ESPnetSERModel`; see the module's docstring."""

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Add the options that ESPnet's trainer does not have."""
        add = parser.add_argument
        text = "Count --patience from the end of the scheduler's warm-up"
        add("--patience_after_warmup", type=str2bool, default=True, help=text)
        text = (
            "End after the epoch in which this many steps are reached, or after "
            "--max_epoch if that is earlier"
        )
        add("--max_steps", type=int_or_none, help=text)
        text = (
            "What BatchNorm evaluates with: its running mean after the last batches, "
            "or mean and variance over training data, computed before each validation "
            "and for each averaged model"
        )
        choices = ["running", "train"]
        add("--batch_norm_statistics", choices=choices, default="running", help=text)
        text = (
            "Training batches (of epoch 1) that --batch_norm_statistics train takes, "
            "at most"
        )
        add("--batch_norm_batches", type=int, default=50, help=text)
        text = "Whether their padded frames count"
        add("--batch_norm_padding", type=str2bool, default=False, help=text)

    @classmethod
    def build_options(cls, args: argparse.Namespace) -> SERTrainerOptions:
        """Take the options from the command line's, with the seed spread."""
        for name in ("batch_norm_batches", "max_steps"):
            value = getattr(args, name)
            if value is not None and value < 1:
                raise UserError(f"{name} is {value}; give 1 or more")
        names = {field.name for field in dataclasses.fields(SERTrainerOptions)}
        given = {name: value for name, value in vars(args).items() if name in names}
        given |= {"seed": spread_seed(args.seed), "full_patience": args.patience}
        return SERTrainerOptions(**given)

    @staticmethod
    def resume(
        checkpoint: str | Path, model: nn.Module, *args: Any, **kwargs: Any
    ) -> None:
        """Load a checkpoint as ESPnet does, but to the CPU; torch moves what belongs.

        Adam's step counters do not: on a GPU each would be waited for twice a step.
        """
        try:
            Trainer.resume(checkpoint, model, *args, **{**kwargs, "ngpu": 0})
        except (RuntimeError, ValueError) as error:
            raise UserError(
                f"{checkpoint} does not fit this configuration; give another "
                f"--output_dir, or --resume false to begin again ({error})"
            ) from error

    @classmethod
    def run(
        cls,
        *,
        model: ESPnetSERModel,
        schedulers: Sequence[Any],
        train_iter_factory: AbsIterFactory,
        trainer_options: SERTrainerOptions,
        **others: Any,
    ) -> None:
        """Train from the last checkpoint, or from the beginning."""
        options, output_dir = trainer_options, Path(trainer_options.output_dir)
        _bound_epochs(options, train_iter_factory)
        done = 0
        if options.resume:
            if is_first_rank():
                nbest = max(_numbers_averaged(options), default=1)
                prepare_resume(output_dir, options.best_model_criterion, nbest)
            gather_objects(None)  # wait for it
            done = completed_epochs(output_dir)
        _heed_warmup(options, schedulers, train_iter_factory)
        options.arm_early_stopping(done)
        if options.batch_norm_statistics == "train" and batch_norms(model.encoder):
            number, padding = options.batch_norm_batches, options.batch_norm_padding
            options.statistics = TrainingStatistics(train_iter_factory, number, padding)
        machines = gather_objects(this_machine(options.ngpu))
        if is_first_rank():
            options.record = open_record(output_dir, machines, resume=options.resume)
        with _recorded(options.record), full_disk_named(output_dir):
            super().run(
                model=model,
                schedulers=schedulers,
                train_iter_factory=train_iter_factory,
                trainer_options=options,
                **others,
            )
            if options.statistics is not None:
                _finish_averages(model, options, options.statistics)

    @classmethod
    def train_one_epoch(
        cls, *, reporter: SubReporter, options: SERTrainerOptions, **others: Any
    ) -> bool:
        """Train as ESPnet does, and note that the epoch has begun."""
        if options.record is not None:
            options.record.begin_epoch(reporter.get_epoch())
        return super().train_one_epoch(reporter=reporter, options=options, **others)

    @classmethod
    @torch.no_grad()
    def validate_one_epoch(
        cls,
        model: nn.Module,
        iterator: Iterable[tuple[list[str], dict[str, Tensor]]],
        reporter: SubReporter,
        options: SERTrainerOptions,
        distributed_option: DistributedOption,
    ) -> None:
        """Report loss and metrics over the whole validation set, equal on all ranks.

        ESPnet saves the checkpoint right after it, so the last one is set aside.
        """
        epoch = reporter.get_epoch()
        options.arm_early_stopping(epoch)
        # Not through DistributedDataParallel: ranks may have different numbers of
        # batches, and nothing is to be synchronized but the statistics of the norms,
        # of which rank 0's are those that are saved.
        module: Any = getattr(model, "module", model)
        if distributed_option.distributed:
            for buffer in module.buffers():
                dist.broadcast(buffer, src=0)
        if options.statistics is not None:
            options.statistics.set(module)
        parts = gather_objects(predict_set(module, iterator, options))
        predictions = concatenate(parts)
        check_finite(predictions, epoch)
        stats = summarize(predictions, getattr(iterator, "corpora", None))
        stats["loss"] = set_loss(module, predictions)
        _check_criteria(options, stats)
        attributes = predictions.attributes
        output = getattr(module.decoder, "attribute_output", None)  # not every head's
        if attributes is not None and output == "relu":
            for name in dead_outputs(attributes):
                logging.warning(
                    f"the ReLU output of {name} is dead: 0 for all "
                    f"{len(predictions.ids)} validation utterances"
                )
        reporter.register(stats)
        reporter.next()
        if options.record is not None:
            options.record.end_epoch(epoch)
        if is_first_rank():
            set_aside(Path(options.output_dir))


@contextmanager
def _recorded(record: TrainingRecord | None) -> Iterator[None]:
    """Write the record however the training ends."""
    try:
        yield
    finally:
        try:
            if record is not None:
                record.save()
        except OSError as error:  # must not hide why the training ends
            logging.warning(f"where it ran could not be written: {error}")


def _finish_averages(
    model: ESPnetSERModel, options: SERTrainerOptions, statistics: TrainingStatistics
) -> None:
    """Give each averaged model the statistics of its own weights.

    What ESPnet has averaged are the statistics of other weights. The first rank writes,
    all compute.
    """
    folder = Path(options.output_dir)
    # An average of one is a link to it; others may be of an earlier training.
    done = completed_epochs(folder)
    averages = [
        folder / f"{phase}.{key}.ave_{number}best.pth"
        for phase, key, _ in options.best_model_criterion
        for number in _numbers_averaged(options)
        if 1 < number <= done
    ]
    for path in gather_objects([path for path in averages if path.is_file()])[0]:
        if is_first_rank():
            model.load_state_dict(read_checkpoint(path) or {})
        if dist.is_initialized():
            for tensor in model.state_dict().values():
                dist.broadcast(tensor, src=0)
        statistics.set(model)
        if is_first_rank():
            save_model(model.state_dict(), path)


def _numbers_averaged(options: TrainerOptions) -> Sequence[int]:
    """Return of how many best epochs each average is."""
    nbest = options.keep_nbest_models
    return [nbest] if isinstance(nbest, int) else nbest


def _check_criteria(options: TrainerOptions, stats: dict[str, float]) -> None:
    criteria = [("best_model_criterion", c) for c in options.best_model_criterion]
    if options.patience is not None:
        criteria.append(("early_stopping_criterion", options.early_stopping_criterion))
    for option, (phase, key, *_) in criteria:
        if phase == "valid" and key not in stats:
            raise UserError(
                f"{option}: there is no valid {key} with this model and these labels; "
                f"choose from {', '.join(sorted(stats))}"
            )


def _bound_epochs(options: SERTrainerOptions, factory: AbsIterFactory) -> None:
    """Let the training end after the epoch in which `max_steps` are reached."""
    if options.max_steps is None:
        return
    steps = epoch = 0
    while steps < options.max_steps and epoch < options.max_epoch:
        epoch += 1
        steps += len(factory.build_iter(epoch))  # type: ignore[arg-type]
    options.max_epoch = epoch
    logging.info(f"the training ends after {epoch} epochs, {steps} steps")


def _heed_warmup(
    options: SERTrainerOptions, schedulers: Sequence[Any], factory: AbsIterFactory
) -> None:
    """Count patience from the end of the warm-up; warn of one beyond the training.

    ESPnet stops after an epoch that is more than `patience` epochs later than the best
    one. Forbidding that up to (end of warm-up + patience) is to count from the end of
    the warm-up at the earliest.
    """
    warmup = max((getattr(s, "warmup_steps", 0) for s in schedulers), default=0)
    if not warmup:
        return
    steps_per_epoch = len(factory.build_iter(1))  # type: ignore[arg-type]
    if options.full_patience is not None and options.patience_after_warmup:
        epochs = math.ceil(warmup / steps_per_epoch)
        options.no_stop_until = epochs + options.full_patience
        logging.info(
            f"warm-up: {warmup} steps, about {epochs} epochs; patience counts from "
            "there"
        )
    misfit = describe_misfit(warmup, steps_per_epoch, options.max_epoch)
    if misfit is not None:
        logging.warning(misfit)
