"""ESPnet's Trainer with changes: validation, early stopping, checkpoints, a record.

- Validation metrics are over the whole set, gathered over ranks.
- Before each validation, and for averaged models, BatchNorm's statistics are those of
  training data (see `train.batch_norm`), if the options say so.
- Patience counts from the end of the learning rate's warm-up.
- A kill at any moment costs at most the running epoch (see `train.checkpoint`).
- On what the training ran and how long is kept beside the model (`train.record`).

The training step is ESPnet's own.
"""

import argparse
import dataclasses
import logging
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from espnet2.iterators.abs_iter_factory import AbsIterFactory
from espnet2.torch_utils.device_funcs import to_device
from espnet2.train import trainer as espnet_trainer
from espnet2.train.distributed_utils import DistributedOption
from espnet2.train.reporter import SubReporter
from espnet2.train.trainer import Trainer, TrainerOptions
from espnet2.utils.types import int_or_none, str2bool
from torch import Tensor, nn

from espnet_ext.errors import UserError
from espnet_ext.ser.model import ESPnetSERModel
from espnet_ext.train.batch_norm import TrainingStatistics, batch_norms
from espnet_ext.train.checkpoint import (
    atomic_saves,
    completed_epochs,
    load_checkpoint,
    prepare_resume,
)
from espnet_ext.train.record import TrainingRecord, all_machines, open_record
from espnet_ext.train.validation import (
    SetPredictions,
    concatenate,
    dead_outputs,
    summarise,
)

# ESPnet seeds epoch e with seed + e. User seeds lie this far apart, so that no two of
# them ever meet; the seeds below it are left to the initialisation of the model.
SEED_STRIDE = 10_000


def spread_seed(seed: int) -> int:
    """Return where the epoch seeds of user seed `seed` start."""
    return (seed + 1) * SEED_STRIDE


@dataclasses.dataclass
class SERTrainerOptions(TrainerOptions):
    """ESPnet's options and when early stopping may begin.

    Attributes:
        patience_after_warmup: count patience from the end of the warm-up.
        full_patience: what the user gave; ESPnet's own field ``patience`` is None in
            the epochs where training must not stop yet.
        no_stop_until: last epoch at which training must not stop.
        record: of where it runs and how long; of the first rank only.
        batch_norm_statistics: "running" or "train".
        batch_norm_batches: of the latter.
        batch_norm_padding: of the latter.
        statistics: the latter, once there is a training set.
        max_steps: optimizer steps after which the training ends; None for no bound.
    """

    patience_after_warmup: bool = True
    full_patience: int | None = None
    no_stop_until: int = 0
    record: TrainingRecord | None = None
    batch_norm_statistics: str = "running"
    batch_norm_batches: int = 0
    batch_norm_padding: bool = False
    statistics: TrainingStatistics | None = None
    max_steps: int | None = None

    def arm_early_stopping(self, epoch: int) -> None:
        """Let ESPnet's check at the end of `epoch` stop the training, or not."""
        self.patience = self.full_patience if epoch > self.no_stop_until else None


class SERTrainer(Trainer):
    """Trainer for `ESPnetSERModel`; see the module's docstring."""

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Add the option that ESPnet's trainer does not have."""
        parser.add_argument(
            "--patience_after_warmup",
            type=str2bool,
            default=True,
            help="Count --patience from the end of the scheduler's warm-up",
        )
        parser.add_argument(
            "--max_steps",
            type=int_or_none,
            default=None,
            help="End after the epoch in which this many steps are reached, or after "
            "--max_epoch if that is earlier",
        )
        parser.add_argument(
            "--batch_norm_statistics",
            choices=["running", "train"],
            default="running",
            help="What BatchNorm evaluates with. running: what its running mean is "
            "after the last batches. train: mean and variance over training data, "
            "computed before each validation and for each averaged model; the training "
            "itself stays the same",
        )
        parser.add_argument(
            "--batch_norm_batches",
            type=int,
            default=50,
            help="Training batches (of epoch 1) that --batch_norm_statistics train "
            "takes, at most",
        )
        parser.add_argument(
            "--batch_norm_padding",
            type=str2bool,
            default=False,
            help="Whether their padded frames count",
        )

    @classmethod
    def build_options(cls, args: argparse.Namespace) -> SERTrainerOptions:
        """Take the options from the command line's, with the seed spread."""
        names = [field.name for field in dataclasses.fields(TrainerOptions)]
        options = SERTrainerOptions(**{name: getattr(args, name) for name in names})
        options.seed = spread_seed(args.seed)
        options.patience_after_warmup = args.patience_after_warmup
        options.full_patience = args.patience
        options.max_steps = args.max_steps
        options.batch_norm_statistics = args.batch_norm_statistics
        options.batch_norm_batches = args.batch_norm_batches
        options.batch_norm_padding = args.batch_norm_padding
        for name in ("batch_norm_batches", "max_steps"):
            value = getattr(args, name)
            if value is not None and value < 1:
                raise UserError(f"{name} is {value}; give 1 or more")
        return options

    @staticmethod
    def resume(
        checkpoint: str | Path, model: nn.Module, *args: Any, **kwargs: Any
    ) -> None:
        """Load a checkpoint as ESPnet does, but to the CPU; torch moves what belongs.

        Adam's step counters do not: on a GPU each would be waited for twice a step.

        Raises:
            UserError: it belongs to another configuration.
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
        model: ESPnetSERModel,
        optimizers: Sequence[torch.optim.Optimizer],
        schedulers: Sequence[Any],
        train_iter_factory: AbsIterFactory,
        valid_iter_factory: AbsIterFactory,
        plot_attention_iter_factory: AbsIterFactory | None,
        trainer_options: SERTrainerOptions,
        distributed_option: DistributedOption,
    ) -> None:
        """Train from the last checkpoint, or from the beginning."""
        output_dir = Path(trainer_options.output_dir)
        _bound_epochs(trainer_options, train_iter_factory)
        done = 0
        if trainer_options.resume:
            if _is_first(distributed_option):
                prepare_resume(
                    output_dir,
                    trainer_options.best_model_criterion,
                    _largest_nbest(trainer_options.keep_nbest_models),
                )
            if distributed_option.distributed:
                dist.barrier()
            done = completed_epochs(output_dir)
        trainer_options.no_stop_until = _no_stop_until(
            trainer_options, schedulers, train_iter_factory
        )
        trainer_options.arm_early_stopping(done)
        exact = trainer_options.batch_norm_statistics == "train"
        if exact and batch_norms(model.encoder):
            trainer_options.statistics = TrainingStatistics(
                train_iter_factory,
                trainer_options.batch_norm_batches,
                trainer_options.batch_norm_padding,
            )
        machines = all_machines(
            trainer_options.ngpu, distributed=distributed_option.distributed
        )
        if _is_first(distributed_option):
            trainer_options.record = open_record(
                output_dir, machines, resume=trainer_options.resume
            )
        try:
            with atomic_saves():
                super().run(
                    model=model,
                    optimizers=optimizers,
                    schedulers=schedulers,
                    train_iter_factory=train_iter_factory,
                    valid_iter_factory=valid_iter_factory,
                    plot_attention_iter_factory=plot_attention_iter_factory,
                    trainer_options=trainer_options,
                    distributed_option=distributed_option,
                )
                _finish_averages(model, trainer_options, distributed_option)
        finally:
            if trainer_options.record is not None:
                try:
                    trainer_options.record.save()
                except OSError as error:  # must not hide why the training ends
                    logging.warning(f"where it ran could not be written: {error}")

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

        Raises:
            UserError: a criterion names a metric that this model and these labels do
                not give; or predictions are not finite.
        """
        options.arm_early_stopping(reporter.get_epoch())
        # Not through DistributedDataParallel: ranks may have different numbers of
        # batches, and nothing is to be synchronised but the statistics of the norms,
        # of which rank 0's are those that are saved.
        module = _unwrap(model)
        if distributed_option.distributed:
            for buffer in module.buffers():
                dist.broadcast(buffer, src=0)
        if options.statistics is not None:
            options.statistics.set(module)
        predictions = _predict_set(module, iterator, options)
        if distributed_option.distributed:
            gathered: list[Any] = [None] * dist.get_world_size()
            dist.all_gather_object(gathered, predictions)
            predictions = concatenate(gathered)

        _check_finite(predictions, reporter.get_epoch())
        stats = summarise(predictions, getattr(iterator, "corpora", None))
        stats["loss"] = _set_loss(module, predictions)
        _check_criteria(options, stats)
        if (
            predictions.attributes is not None
            and module.decoder.attribute_output == "relu"
        ):
            for name in dead_outputs(predictions.attributes):
                logging.warning(
                    f"the ReLU output of {name} is dead: 0 for all "
                    f"{len(predictions.ids)} validation utterances"
                )
        reporter.register(stats)
        reporter.next()
        if options.record is not None:
            options.record.end_epoch(reporter.get_epoch())


def _finish_averages(
    model: ESPnetSERModel,
    options: SERTrainerOptions,
    distributed_option: DistributedOption,
) -> None:
    """Give each averaged model the statistics of its own weights.

    What ESPnet has averaged are the statistics of other weights. The first rank writes,
    all compute.
    """
    if options.statistics is None:
        return
    first = _is_first(distributed_option)
    averages = [_averaged_models(options) if first else []]
    if distributed_option.distributed:
        dist.broadcast_object_list(averages, src=0)
    for path in averages[0]:
        if first:
            model.load_state_dict(load_checkpoint(path) or {})
        if distributed_option.distributed:
            for tensor in model.state_dict().values():
                dist.broadcast(tensor, src=0)
        options.statistics.set(model)
        if first:
            torch.save(model.state_dict(), path)


def _averaged_models(options: SERTrainerOptions) -> list[Path]:
    """Return the averages that this training has written."""
    output_dir = Path(options.output_dir)
    nbest = options.keep_nbest_models
    paths = [
        output_dir / f"{phase}.{key}.ave_{number}best.pth"
        for phase, key, _ in options.best_model_criterion
        for number in ([nbest] if isinstance(nbest, int) else nbest)
        # An average of one is a link to it; others may be of an earlier training.
        if 1 < number <= completed_epochs(output_dir)
    ]
    return [path for path in paths if path.is_file()]


def _predict_set(
    module: ESPnetSERModel,
    iterator: Iterable[tuple[list[str], dict[str, Tensor]]],
    options: TrainerOptions,
) -> SetPredictions:
    """Predict this rank's part of the validation set."""
    module.eval()
    device = "cuda" if options.ngpu > 0 else "cpu"
    parts = []
    for ids, cpu_batch in iterator:
        batch = to_device(cpu_batch, device)
        with torch.autocast(
            "cuda", enabled=options.use_amp, **espnet_trainer.autocast_args
        ):
            output = module.predict(**batch)
        classes, targets = module.fill_labels(
            len(ids), batch.get("emotion"), batch.get("attributes")
        )
        parts.append(
            SetPredictions(
                list(ids),
                _to_numpy(output.logits),
                _to_numpy(output.attributes),
                classes.cpu().numpy(),
                _to_numpy(targets),
            )
        )
    return concatenate(parts)


def _to_numpy(values: Tensor | None) -> Any:
    return None if values is None else values.double().cpu().numpy()


def _set_loss(module: ESPnetSERModel, predictions: SetPredictions) -> float:
    """Return the training loss over the whole set as if it were one batch."""
    device = next(module.parameters()).device

    def tensor(array: Any) -> Any:
        # Half-way widened: float64 statistics of a large set, but no float64 on MPS.
        return None if array is None else torch.from_numpy(array).float().to(device)

    parts = module.loss(
        tensor(predictions.logits),
        tensor(predictions.attributes),
        torch.from_numpy(predictions.classes).to(device),
        tensor(predictions.targets),
    )
    return float(parts.total)


def _check_finite(predictions: SetPredictions, epoch: int) -> None:
    for name in ("logits", "attributes"):
        values = getattr(predictions, name)
        if values is not None and not np.isfinite(values).all():
            bad = int((~np.isfinite(values)).any(axis=1).argmax())
            raise UserError(
                f"epoch {epoch}: {name} are not finite, e.g. of "
                f"{predictions.ids[bad]}; look for features that are not, or lower "
                "the learning rate"
            )


def _check_criteria(options: TrainerOptions, stats: dict[str, float]) -> None:
    criteria = {
        "best_model_criterion": options.best_model_criterion,
        "early_stopping_criterion": [options.early_stopping_criterion],
    }
    if options.patience is None:
        del criteria["early_stopping_criterion"]
    for option, chosen in criteria.items():
        for phase, key, *_ in chosen:
            if phase == "valid" and key not in stats:
                raise UserError(
                    f"{option}: there is no valid {key} with this model and these "
                    f"labels; choose from {', '.join(sorted(stats))}"
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


def _no_stop_until(
    options: SERTrainerOptions, schedulers: Sequence[Any], factory: AbsIterFactory
) -> int:
    """Return the last epoch in which patience cannot have run out yet.

    ESPnet stops after an epoch that is more than `patience` epochs later than the best
    one. Forbidding that up to (end of warm-up + patience) is to count from the end of
    the warm-up at the earliest.
    """
    if options.full_patience is None or not options.patience_after_warmup:
        return 0
    warmup_steps = max((getattr(s, "warmup_steps", 0) for s in schedulers), default=0)
    if not warmup_steps:
        return 0
    steps_per_epoch = len(factory.build_iter(1))  # type: ignore[arg-type]
    warmup_epochs = math.ceil(warmup_steps / steps_per_epoch)
    logging.info(
        f"warm-up: {warmup_steps} steps, about {warmup_epochs} epochs; patience "
        "counts from there"
    )
    return warmup_epochs + options.full_patience


def _largest_nbest(keep_nbest_models: int | Sequence[int]) -> int:
    """Return of how many best epochs the models are kept."""
    if isinstance(keep_nbest_models, int):
        return keep_nbest_models
    return max(keep_nbest_models, default=1)


def _unwrap(model: nn.Module) -> ESPnetSERModel:
    """Return the model inside of DistributedDataParallel."""
    return getattr(model, "module", model)  # type: ignore[arg-type]


def _is_first(distributed_option: DistributedOption) -> bool:
    return not distributed_option.distributed or distributed_option.dist_rank == 0
