"""SERTask: speech emotion recognition as an ESPnet task.

Everything that ESPnet's AbsTask offers (options, print_config, TensorBoard, n-best
averaging, resume, mixed precision) is its own. Here are the choices of classes, the
defaults that fit this task, and how a model is put together from a configuration.
"""

import argparse
from collections.abc import Callable, Sequence
from pkgutil import resolve_name
from typing import Any

import torch.distributed as dist
from espnet2.iterators.abs_iter_factory import AbsIterFactory
from espnet2.tasks.abs_task import AbsTask, IteratorOptions
from espnet2.torch_utils.initialize import initialize
from espnet2.train.class_choices import ClassChoices
from espnet2.train.dataset import AbsDataset
from espnet2.utils import config_argparse
from torch import nn

from espnet_ext.errors import UserError
from espnet_ext.ser.model import ESPnetSERModel
from espnet_ext.tasks.config import check_config, read_config
from espnet_ext.tasks.data import (
    balanced_class_weights,
    batch_rule,
    feature_size,
    hold_features,
    read_corpora,
    read_lengths,
    training_features,
    warn_of_long_clips,
)
from espnet_ext.tasks.model import PARTS, assemble, find_class, read_class_list
from espnet_ext.tasks.options import add_options, check_options
from espnet_ext.train.dataset import SERDataset, collate
from espnet_ext.train.iterator import BatchDrawer, SERIterFactory
from espnet_ext.train.trainer import SERTrainer, spread_seed
from espnet_ext.train.training_mvn import TrainingMVN

CHOICES = {
    name: ClassChoices(
        name,
        {choice: find_class(name, choice) for choice in part.classes},
        resolve_name(part.kind),
        part.default,
        optional=part.default is None,
    )
    for name, part in PARTS.items()
}


class ConfigParser(config_argparse.ArgumentParser):
    """ESPnet's parser, whose ``--config`` may have a base and is checked in depth."""

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse; an option is stronger than the file."""
        parse = super(config_argparse.ArgumentParser, self).parse_known_args
        path = parse(args, namespace)[0].config
        if path is not None:
            config = read_config(path)
            check_config(config, [path])
            self.set_defaults(**config)
        return parse(args, namespace)


class SERTask(AbsTask):
    """Task of `ESPnetSERModel`.

    Data names: ``speech`` (ser_features, or sound with the online frontend),
    ``emotion`` (utt2class, text_int, -1 where missing), ``attributes`` (text_float,
    valence arousal dominance, nan where missing) and ``corpus`` (utt2corpus, text).
    Labels are optional, kind by kind; ``corpus`` gives metrics of each corpus and is
    what ``--corpus_sampling balanced`` balances.
    """

    num_optimizers: int = 1
    class_choices_list = [*CHOICES.values()]  # noqa: RUF012  (as in ESPnet's tasks)
    trainer = SERTrainer

    @classmethod
    def get_parser(cls) -> config_argparse.ArgumentParser:
        """Return ESPnet's parser as a `ConfigParser`."""
        parser = super().get_parser()
        parser.__class__ = ConfigParser
        return parser

    @classmethod
    def add_task_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Add the task's options and the defaults that fit it."""
        group = add_options(parser)
        for choices in cls.class_choices_list:
            choices.add_arguments(group)

    @classmethod
    def check_required_command_args(cls, args: argparse.Namespace) -> None:
        """Refuse, before anything starts, options that cannot work here."""
        super().check_required_command_args(args)
        check_options(args)

    @classmethod
    def build_collate_fn(
        cls, args: argparse.Namespace, train: bool
    ) -> Callable[[Sequence[Any]], Any]:
        """Pad speech with zeros; labels have one fixed length."""
        return collate

    @classmethod
    def build_preprocess_fn(cls, args: argparse.Namespace, train: bool) -> None:
        """There is nothing to preprocess."""
        return None

    @classmethod
    def required_data_names(
        cls, train: bool = True, inference: bool = False
    ) -> tuple[str, ...]:
        """Only speech is needed; a kind of label may be missing altogether."""
        return ("speech",)

    @classmethod
    def optional_data_names(
        cls, train: bool = True, inference: bool = False
    ) -> tuple[str, ...]:
        """Both kinds of labels, and the corpus of each utterance."""
        return ("emotion", "attributes", "corpus")

    @classmethod
    def build_model(cls, args: argparse.Namespace) -> ESPnetSERModel:
        """Put the model together, filling sizes that follow from the data into `args`.

        What is filled in (class names, feature size, class weights) goes to the
        experiment's config.yaml, so that inference needs no training data.
        """
        args.class_list = read_class_list(args.class_list)
        if args.frontend == "cached":
            args.frontend_conf = {**feature_size(args), **(args.frontend_conf or {})}
        if args.loss_conf.get("class_weights") == "balanced":
            weights = balanced_class_weights(args)
            args.loss_conf = {**args.loss_conf, "class_weights": weights}
        fresh = "size" not in (args.normalize_conf or {})
        model = assemble(args)
        if isinstance(model.normalize, TrainingMVN) and fresh:
            model.normalize.set_moments(training_features(args))
        if args.init is not None:
            initialize(model, args.init)
        if args.sync_batchnorm and dist.is_initialized() and args.ngpu > 0:
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        return model

    @classmethod
    def build_dataset(
        cls,
        args: argparse.Namespace,
        iter_options: IteratorOptions,
        keys_to_load: set[int | str] | None = None,
    ) -> AbsDataset:
        """Build the dataset that keeps half precision (any iterator type)."""
        triples = iter_options.data_path_and_name_and_type
        dataset = SERDataset(
            [triple for triple in triples if triple[1] != "corpus"],
            preprocess=iter_options.preprocess_fn,
            keys_to_load=keys_to_load,
        )
        cls.check_task_requirements(
            dataset, args.allow_variable_data_keys, train=iter_options.train
        )
        return dataset

    @classmethod
    def build_task_iter_factory(
        cls, args: argparse.Namespace, iter_options: IteratorOptions, mode: str
    ) -> AbsIterFactory:
        """Build the factory of ``--iterator_type task``."""
        rank, world_size = 0, 1
        if iter_options.distributed:
            rank, world_size = dist.get_rank(), dist.get_world_size()
        lengths = read_lengths(iter_options)
        balanced = iter_options.train and args.corpus_sampling == "balanced"
        corpora = read_corpora(iter_options)
        if balanced and not corpora:
            raise UserError(
                "corpus_sampling: balanced needs to know the corpora; give "
                "SETDIR/utt2corpus,corpus,text as training data"
            )
        dataset = cls.build_dataset(args, iter_options)
        held = hold_features(args, iter_options, list(lengths), mode)
        if held is not None:
            dataset.hold_speech(held)
        drawer = BatchDrawer(
            lengths,
            rule=batch_rule(args, iter_options, world_size),
            seed=spread_seed(args.seed),
            shuffle=iter_options.train,
            corpora=corpora,
            balanced=balanced,
        )
        factory = SERIterFactory(
            dataset,
            drawer,
            iter_options.collate_fn,
            rank=rank,
            world_size=world_size,
            num_workers=args.num_workers,
            pin_memory=args.ngpu > 0 and (held is None or held.device.type == "cpu"),
        )
        factory.log_summary(mode)
        warn_of_long_clips(lengths, iter_options, mode)
        return factory
