"""SERTask: speech emotion recognition as an ESPnet task.

Everything that ESPnet's AbsTask offers (options, print_config, TensorBoard, n-best
averaging, resume, mixed precision) is its own. Here are the choices of classes, the
defaults that fit this task, and how a model is put together from a configuration.
"""

import argparse
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from espnet2.asr.encoder.abs_encoder import AbsEncoder
from espnet2.asr.encoder.conformer_encoder import ConformerEncoder
from espnet2.asr.encoder.transformer_encoder import TransformerEncoder
from espnet2.asr.frontend.abs_frontend import AbsFrontend
from espnet2.asr.preencoder.abs_preencoder import AbsPreEncoder
from espnet2.asr.preencoder.linear import LinearProjection
from espnet2.asr.specaug.abs_specaug import AbsSpecAug
from espnet2.asr.specaug.specaug import SpecAug
from espnet2.fileio.read_text import load_num_sequence_text, read_2columns_text
from espnet2.iterators.abs_iter_factory import AbsIterFactory
from espnet2.layers.abs_normalize import AbsNormalize
from espnet2.layers.global_mvn import GlobalMVN
from espnet2.layers.utterance_mvn import UtteranceMVN
from espnet2.tasks.abs_task import AbsTask, IteratorOptions
from espnet2.torch_utils.initialize import INITIALIZATIONS, initialize
from espnet2.train.abs_espnet_model import AbsESPnetModel
from espnet2.train.class_choices import ClassChoices
from espnet2.train.dataset import AbsDataset
from espnet2.utils.types import str2bool, str_or_none
from torch import nn

from espnet_ext.errors import UserError
from espnet_ext.features.frontend import CachedFeatures, OnlineUpstream
from espnet_ext.features.joint_store import open_store
from espnet_ext.features.loader import NAME as FEATURES_TYPE
from espnet_ext.features.resident import ResidentFeatures, Room, hold
from espnet_ext.ser.attention import speed_up_attention
from espnet_ext.ser.decoder import EmotionDecoder
from espnet_ext.ser.linear_probe import LinearEncoder, MeanPoolingDecoder
from espnet_ext.ser.losses import MISSING_CLASS, JointLoss
from espnet_ext.ser.model import ESPnetSERModel
from espnet_ext.ser.norm import replace_batch_norm
from espnet_ext.ser.recompute import recompute_long_batches
from espnet_ext.tasks.config import ADDED_BY_ESPNET
from espnet_ext.train.checkpoint import UNREADABLE
from espnet_ext.train.dataset import SERDataset, collate
from espnet_ext.train.iterator import BatchDrawer, SERIterFactory
from espnet_ext.train.sampler import BatchRule, far_longer
from espnet_ext.train.trainer import SEED_STRIDE, SERTrainer, spread_seed

# ClassChoices keep their classes in a dictionary: these are our own, so that nothing
# of another task changes. Keys are lower-case.
frontend_choices = ClassChoices(
    "frontend",
    classes={"cached": CachedFeatures, "online": OnlineUpstream},
    type_check=AbsFrontend,
    default="cached",
)
specaug_choices = ClassChoices(
    "specaug",
    classes={"specaug": SpecAug},
    type_check=AbsSpecAug,
    default=None,
    optional=True,
)
normalize_choices = ClassChoices(
    "normalize",
    classes={"utterance_mvn": UtteranceMVN, "global_mvn": GlobalMVN},
    type_check=AbsNormalize,
    default=None,
    optional=True,
)
preencoder_choices = ClassChoices(
    "preencoder",
    classes={"linear": LinearProjection},
    type_check=AbsPreEncoder,
    default=None,
    optional=True,
)
encoder_choices = ClassChoices(
    "encoder",
    classes={
        "conformer": ConformerEncoder,
        "transformer": TransformerEncoder,
        "linear": LinearEncoder,
    },
    type_check=AbsEncoder,
    default="conformer",
)
decoder_choices = ClassChoices(
    "decoder",
    classes={"emotion": EmotionDecoder, "mean": MeanPoolingDecoder},
    type_check=nn.Module,
    default="emotion",
)
loss_choices = ClassChoices(
    "loss",
    classes={"joint": JointLoss},
    type_check=nn.Module,
    default="joint",
)
model_choices = ClassChoices(
    "model",
    classes={"espnet": ESPnetSERModel},
    type_check=AbsESPnetModel,
    default="espnet",
)

FRAMES_PER_SECOND = 50  # of every upstream

# Parameters that `build_model` itself gives to a class; not for a configuration file.
FILLED_BY_TASK: dict[str, frozenset[str]] = {
    "encoder": frozenset({"input_size"}),
    "decoder": frozenset({"encoder_output_size", "num_classes"}),
    "model": frozenset(
        {"frontend", "specaug", "normalize", "preencoder", "encoder", "decoder"}
        | {"loss", "class_list"}
    ),
}


class SERTask(AbsTask):
    """Task of `ESPnetSERModel`.

    Data names: ``speech`` (ser_features, or sound with the online frontend),
    ``emotion`` (utt2class, text_int, -1 where missing), ``attributes`` (text_float,
    valence arousal dominance, nan where missing) and ``corpus`` (utt2corpus, text).
    Labels are optional, kind by kind; ``corpus`` gives metrics of each corpus and is
    what ``--corpus_sampling balanced`` balances.
    """

    num_optimizers: int = 1
    class_choices_list = [  # noqa: RUF012  (as in every ESPnet task)
        frontend_choices,
        specaug_choices,
        normalize_choices,
        preencoder_choices,
        encoder_choices,
        decoder_choices,
        loss_choices,
        model_choices,
    ]
    trainer = SERTrainer

    @classmethod
    def add_task_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Add the task's options and the defaults that fit it."""
        parser.get_default("required").append("class_list")
        parser.set_defaults(
            # Batches drawn anew every epoch, see train/sampler.py.
            iterator_type="task",
            batch_type="length",
            batch_bins=3125,
            min_batch_size=16,
            # Cached features are read faster than they travel between processes.
            num_workers=0,
            # ESPnet's attention plots know only its own attention classes.
            num_att_plot=0,
            # A picture of every statistic after every epoch costs seconds each time;
            # the curves are in TensorBoard and in train.log.
            use_matplotlib=False,
            # One process a GPU: a concordance of DataParallel's shares is not exact.
            multiprocessing_distributed=True,
            resume=True,
            best_model_criterion=[("valid", "loss", "min")],
        )
        group = parser.add_argument_group("Task related")
        group.add_argument(
            "--class_list",
            type=str_or_none,
            default=None,
            help="File with the name of each emotion class, one a line",
        )
        group.add_argument(
            "--init",
            type=lambda x: str_or_none(x.lower()),
            default=None,
            choices=[*INITIALIZATIONS, None],
            help="The initialization method; none leaves torch's own",
        )
        group.add_argument(
            "--corpus_sampling",
            choices=["natural", "balanced"],
            default="natural",
            help="natural: every utterance once an epoch. balanced: utterances of "
            "smaller corpora repeat until all corpora are as large as the largest. "
            "With --iterator_type task, which also gives these ESPnet options a "
            "meaning of their own: --batch_type length (--batch_bins bounds rows x "
            "longest row, in feature frames at 50 a second, or in samples for "
            "audio), sorted (--batch_size rows of similar length) or unsorted "
            "(--batch_size rows); --min_batch_size is the floor on the rows of the "
            "batch over all ranks and stronger than --batch_bins",
        )
        group.add_argument(
            "--max_batch_frames",
            type=int,
            default=30_000,
            help="Most rows x longest row of a batch, in frames at 50 a second, of "
            "audio too: it bounds the memory and is stronger than --min_batch_size, so "
            "that batches of long clips have fewer rows. A larger --batch_bins counts "
            "in its place. With --iterator_type task",
        )
        group.add_argument(
            "--resident",
            choices=["auto", "none", "ram", "device"],
            default="auto",
            help="Hold the cached features of each set in memory: on the device that "
            "trains, in RAM, or auto: on the device if they take at most "
            "--resident_gb and leave room (a third of a GPU's memory, on a CPU half of "
            "what is free); the log says which. With --iterator_type task",
        )
        group.add_argument(
            "--resident_gb",
            type=float,
            help="Most that --resident auto takes for a set, in each process "
            "(default: 4 on a CPU, no such bound on a GPU)",
        )
        group.add_argument(
            "--conv_norm",
            choices=["batch", "layer"],
            default="batch",
            help="Norm in the conformer's convolution: ESPnet's BatchNorm, or a norm "
            "of each frame that sees neither padding nor batch mates",
        )
        group.add_argument(
            "--sync_batchnorm",
            type=str2bool,
            default=False,
            help="BatchNorm statistics over all GPUs instead of each one's own",
        )
        for choices in cls.class_choices_list:
            choices.add_arguments(group)
        # So that ESPnet's parser takes the config.yaml of an experiment again.
        for name in ADDED_BY_ESPNET:
            parser.add_argument(f"--{name}", help=argparse.SUPPRESS)

    @classmethod
    def check_required_command_args(cls, args: argparse.Namespace) -> None:
        """Refuse, before anything starts, options that cannot work here.

        Raises:
            UserError: names the option and what to do.
        """
        super().check_required_command_args(args)
        if args.accum_grad != 1:
            raise UserError(
                f"accum_grad is {args.accum_grad}, but the concordance of several "
                "small batches is not that of one large batch; leave it at 1 and "
                "raise batch_bins or min_batch_size"
            )
        if args.ngpu > 1 and not args.multiprocessing_distributed:
            raise UserError(
                f"ngpu is {args.ngpu} without multiprocessing_distributed, but a "
                "concordance must be over the whole batch; set it to true"
            )
        if args.ngpu > torch.cuda.device_count():
            raise UserError(
                f"ngpu is {args.ngpu}, but torch sees {torch.cuda.device_count()} GPUs "
                "here; lower --ngpu, or look at CUDA_VISIBLE_DEVICES"
            )
        if not 0 <= args.seed < SEED_STRIDE:
            raise UserError(f"seed is {args.seed}; choose one from 0 to 9999")
        if args.max_epoch >= SEED_STRIDE:
            raise UserError(f"max_epoch is {args.max_epoch}; 9999 is the most")
        uses_our_iterator = "task" in (args.iterator_type, args.valid_iterator_type)
        if uses_our_iterator and args.num_iters_per_epoch is not None:
            raise UserError(
                "num_iters_per_epoch would drop utterances from an epoch; leave it "
                "out, or give iterator_type: sequence"
            )

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
            args.frontend_conf = {
                **_feature_size(args),
                **(args.frontend_conf or {}),
            }
        frontend = frontend_choices.get_class(args.frontend)(**args.frontend_conf)
        size = frontend.output_size()

        specaug = _build_optional(specaug_choices, args.specaug, args.specaug_conf)
        normalize = _build_optional(
            normalize_choices, args.normalize, args.normalize_conf
        )
        preencoder = None
        if args.preencoder is not None:
            args.preencoder_conf = {"input_size": size, **args.preencoder_conf}
            preencoder = _build_optional(
                preencoder_choices, args.preencoder, args.preencoder_conf
            )
            size = preencoder.output_size()

        encoder_class = encoder_choices.get_class(args.encoder)
        encoder = encoder_class(input_size=size, **args.encoder_conf)
        if args.conv_norm == "layer":
            replace_batch_norm(encoder)
        speed_up_attention(encoder)
        recompute_long_batches(encoder)
        decoder = decoder_choices.get_class(args.decoder)(
            encoder_output_size=encoder.output_size(),
            num_classes=len(args.class_list),
            **args.decoder_conf,
        )
        if args.loss_conf.get("class_weights") == "balanced":
            weights = balanced_class_weights(_training_classes(args), args.class_list)
            args.loss_conf = {**args.loss_conf, "class_weights": weights}
        loss = loss_choices.get_class(args.loss)(**args.loss_conf)
        weights = args.loss_conf.get("class_weights")
        if weights is not None and len(weights) != len(args.class_list):
            raise UserError(
                f"loss_conf: class_weights has {len(weights)} numbers for the "
                f"{len(args.class_list)} classes {args.class_list}"
            )
        model = model_choices.get_class(args.model)(
            frontend=frontend,
            specaug=specaug,
            normalize=normalize,
            preencoder=preencoder,
            encoder=encoder,
            decoder=decoder,
            loss=loss,
            class_list=args.class_list,
            **args.model_conf,
        )
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
        """Build the factory of ``--iterator_type task``.

        Raises:
            UserError: the set has no lengths, or a batch option does not fit.
        """
        rank, world_size = 0, 1
        if iter_options.distributed:
            rank, world_size = dist.get_rank(), dist.get_world_size()
        lengths = read_lengths(iter_options)
        balanced = iter_options.train and args.corpus_sampling == "balanced"
        corpora = _read_corpora(iter_options)
        if balanced and not corpora:
            raise UserError(
                "corpus_sampling: balanced needs to know the corpora; give "
                "SETDIR/utt2corpus,corpus,text as training data"
            )
        dataset = cls.build_dataset(args, iter_options)
        held = _hold_features(args, iter_options, list(lengths), mode)
        if held is not None:
            dataset.hold_speech(held)
        factory = SERIterFactory(
            dataset=dataset,
            drawer=BatchDrawer(
                lengths=lengths,
                rule=_batch_rule(args, iter_options, world_size),
                seed=spread_seed(args.seed),
                shuffle=iter_options.train,
                corpora=corpora,
                balanced=balanced,
            ),
            collate_fn=iter_options.collate_fn,
            rank=rank,
            world_size=world_size,
            num_workers=args.num_workers,
            pin_memory=args.ngpu > 0 and (held is None or held.device.type == "cpu"),
        )
        factory.log_summary(mode)
        _warn_of_long_clips(lengths, iter_options, mode)
        return factory


def read_class_list(class_list: str | Sequence[str] | None) -> list[str]:
    """Return the class names from a file with one a line, or from a list.

    Raises:
        UserError: there is no such file, or it has no names.
    """
    if class_list is None:
        raise UserError("class_list is missing; give --class_list SETDIR/classes")
    if isinstance(class_list, str):
        if not Path(class_list).is_file():
            raise UserError(f"class_list: there is no file {class_list}")
        class_list = Path(class_list).read_text(encoding="utf-8").split()
    if not class_list:
        raise UserError("class_list: there are no classes in it")
    return list(class_list)


def read_lengths(options: IteratorOptions) -> dict[str, int]:
    """Return the length of each utterance, from the shape file or the feature store.

    Raises:
        UserError: there is neither.
    """
    if options.shape_files:
        shapes = load_num_sequence_text(options.shape_files[0], "csv_int")
        return {utt: int(shape[0]) for utt, shape in shapes.items()}
    path, kind = _find_data(options.data_path_and_name_and_type, "speech")
    if kind != FEATURES_TYPE:
        raise UserError(
            f"there is no shape file for {path}; give --train_shape_file and "
            "--valid_shape_file (lines: utterance length)"
        )
    store = open_store(path)
    ids = _labelled_ids(options)
    return {utt: store.num_frames(utt) for utt in (store.ids if ids is None else ids)}


def balanced_class_weights(classes: np.ndarray, class_list: list[str]) -> list[float]:
    """Return n / (K n_k) for each class k, as scikit-learn's "balanced" does.

    Args:
        classes: (N,) class of each training row, -1 where missing.
        class_list: the K names.

    Raises:
        UserError: a class has no training row.
    """
    counts = Counter(classes[classes != MISSING_CLASS].tolist())
    empty = [name for i, name in enumerate(class_list) if not counts[i]]
    if empty:
        raise UserError(
            f"loss_conf: class_weights balanced, but no training utterance is "
            f"{' or '.join(empty)}; give the weights as a list"
        )
    total = sum(counts.values())
    return [total / (len(class_list) * counts[i]) for i in range(len(class_list))]


def load_parameters(model: nn.Module, model_file: Path | str) -> None:
    """Load a checkpoint whose keys and shapes are exactly the model's.

    ESPnet's own ``build_model_from_file`` ignores keys that do not fit.

    Raises:
        UserError: the file cannot be read, or names the keys that do not fit.
    """
    try:
        state = torch.load(model_file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"there is no model file {model_file}") from None
    except UNREADABLE as error:
        raise UserError(f"{model_file} cannot be read: {error}") from error
    own = model.state_dict()
    problems = {
        "missing": sorted(own.keys() - state.keys()),
        "not in the model": sorted(state.keys() - own.keys()),
        "of another shape": sorted(
            key
            for key in own.keys() & state.keys()
            if own[key].shape != state[key].shape
        ),
    }
    if any(problems.values()):
        text = "; ".join(
            f"{kind}: {', '.join(keys)}" for kind, keys in problems.items() if keys
        )
        raise UserError(f"{model_file} does not fit its configuration ({text})")
    model.load_state_dict(state)


def _build_optional(choices: ClassChoices, name: str | None, conf: dict) -> Any:
    """Build the chosen class, or None if none is chosen."""
    return None if name is None else choices.get_class(name)(**conf)


def _find_data(triples: Sequence[Sequence[str]], name: str) -> tuple[str, str]:
    """Return path and type of the data called `name`."""
    for path, other, kind in triples:
        if other == name:
            return path, kind
    raise UserError(f"there is no data named {name}; give PATH,{name},TYPE")


def _feature_size(args: argparse.Namespace) -> dict[str, int]:
    """Return input size and number of layers of the training features' store."""
    if "input_size" in (args.frontend_conf or {}):
        return {}
    path, kind = _find_data(args.train_data_path_and_name_and_type, "speech")
    if kind != FEATURES_TYPE:
        raise UserError(
            f"frontend_conf: input_size is missing and cannot be read from {path} "
            f"(type {kind})"
        )
    store = open_store(path)
    return {"input_size": store.dim, "num_layers": store.num_layers}


def _hold_features(
    args: argparse.Namespace, options: IteratorOptions, ids: list[str], mode: str
) -> ResidentFeatures | None:
    """Hold cached features in memory, if the options and their size say so.

    Raises:
        UserError: they are not cached, or do not fit, and were not left to auto.
    """
    path, kind = _find_data(options.data_path_and_name_and_type, "speech")
    if kind != FEATURES_TYPE:
        if args.resident in ("ram", "device"):
            raise UserError(
                f"resident: {args.resident} is for cached features, but {path} is of "
                f"type {kind}; leave it at auto"
            )
        return None
    room = Room(args.resident, args.resident_gb, args.ngpu, args.num_workers)
    return hold(open_store(path), ids, room, mode)


def _training_classes(args: argparse.Namespace) -> np.ndarray:
    path, _ = _find_data(args.train_data_path_and_name_and_type, "emotion")
    return np.array([v[0] for v in load_num_sequence_text(path, "text_int").values()])


def _labelled_ids(options: IteratorOptions) -> list[str] | None:
    """Return the ids that the label files list; the store may hold many more."""
    for path, name, _ in options.data_path_and_name_and_type:
        if name in ("emotion", "attributes", "corpus"):
            return list(read_2columns_text(path))
    return None


def _read_corpora(options: IteratorOptions) -> dict[str, str]:
    for path, name, _ in options.data_path_and_name_and_type:
        if name == "corpus":
            return read_2columns_text(path)
    return {}


def _batch_rule(
    args: argparse.Namespace, options: IteratorOptions, world_size: int
) -> BatchRule:
    """Translate ESPnet's batch options.

    In validation a batch decides nothing, so only the number of ranks is its floor.
    """
    floor = max(args.min_batch_size, world_size) if options.train else world_size
    limit = args.max_batch_frames * _units_per_frame(options)
    if options.batch_type == "length":
        limit = max(limit, options.batch_bins)
        return BatchRule(options.batch_bins, None, floor, True, limit, world_size)
    if options.batch_type in ("sorted", "unsorted"):
        floor = min(floor, options.batch_size) if options.train else floor
        if options.batch_size < world_size:
            raise UserError(
                f"batch_size is {options.batch_size} for {world_size} ranks; a batch "
                "has at least one row a rank"
            )
        by_length = options.batch_type == "sorted" or not options.train
        return BatchRule(None, options.batch_size, floor, by_length, limit, world_size)
    raise UserError(
        f"batch_type {options.batch_type} does not go with iterator_type task; choose "
        "length, sorted or unsorted, or iterator_type: sequence"
    )


def _units_per_frame(options: IteratorOptions) -> int:
    """Return 1 where lengths are frames, 320 where they are samples of audio."""
    _, kind = _find_data(options.data_path_and_name_and_type, "speech")
    return 1 if kind == FEATURES_TYPE else 320


def _warn_of_long_clips(
    lengths: Mapping[str, int], options: IteratorOptions, mode: str
) -> None:
    """Name clips that are far longer than the rest, and how to leave them out."""
    second = FRAMES_PER_SECOND * _units_per_frame(options)
    clips = far_longer(lengths, at_least=60 * second)
    if clips:
        named = ", ".join(f"{utt} ({lengths[utt] / second:.0f} s)" for utt in clips[:5])
        more = f" and {len(clips) - 5} more" if len(clips) > 5 else ""
        logging.warning(
            f"[{mode}] far longer than the rest: {named}{more}. Their batches have few "
            "rows and take long; --max_seconds (of run.sh, or of ser_make_sets) leaves "
            "long clips out of train and valid"
        )
