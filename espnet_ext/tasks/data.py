"""What the task reads of its data beside the batches: sizes, lengths, corpora, classes.

ESPnet names data by triples ``PATH,NAME,TYPE``; ``speech`` is a feature store
(ser_features) or audio (sound).
"""

import argparse
import logging
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from espnet2.fileio.read_text import load_num_sequence_text, read_2columns_text
from espnet2.tasks.abs_task import IteratorOptions
from torch import Tensor

from espnet_ext.corpora.audio import RATE
from espnet_ext.errors import UserError
from espnet_ext.features.frontend import read_feature_config
from espnet_ext.features.joint_store import open_store
from espnet_ext.features.loader import NAME as FEATURES_TYPE
from espnet_ext.features.resident import ResidentFeatures, Room, hold
from espnet_ext.ser.losses import MISSING_CLASS
from espnet_ext.train.sampler import BatchRule, far_longer
from espnet_ext.utils.tensors import as_tensor


def find_data(triples: Sequence[Sequence[str]], name: str) -> tuple[str, str]:
    """Return path and type of the data called `name`; without it a UserError."""
    for path, other, kind in triples:
        if other == name:
            return path, kind
    raise UserError(f"there is no data named {name}; give PATH,{name},TYPE")


def feature_size(args: argparse.Namespace) -> dict[str, int]:
    """Return the frontend's sizes as the training features' store has them."""
    if "input_size" in (args.frontend_conf or {}):
        return {}
    path, kind = find_data(args.train_data_path_and_name_and_type, "speech")
    if kind != FEATURES_TYPE:
        raise UserError(
            f"frontend_conf: input_size is missing and cannot be read from {path} "
            f"(type {kind})"
        )
    store = open_store(path)
    return {"input_size": store.dim, "num_layers": store.num_layers}


def read_lengths(options: IteratorOptions) -> dict[str, int]:
    """Return the length of each utterance, from the shape file or the feature store."""
    if options.shape_files:
        shapes = load_num_sequence_text(options.shape_files[0], "csv_int")
        return {utt: int(shape[0]) for utt, shape in shapes.items()}
    path, kind = find_data(options.data_path_and_name_and_type, "speech")
    if kind != FEATURES_TYPE:
        raise UserError(
            f"there is no shape file for {path}; give --train_shape_file and "
            "--valid_shape_file (lines: utterance length)"
        )
    store = open_store(path)
    # The store may hold many more utterances than the label files list.
    labels = ("emotion", "attributes", "corpus")
    files = [f for f, name, _ in options.data_path_and_name_and_type if name in labels]
    ids = read_2columns_text(files[0]) if files else store.ids
    return {utt: store.num_frames(utt) for utt in ids}


def read_corpora(options: IteratorOptions) -> dict[str, str]:
    """Return the corpus of each utterance; nothing if the data does not say it."""
    triples = options.data_path_and_name_and_type
    files = [path for path, name, _ in triples if name == "corpus"]
    return read_2columns_text(files[0]) if files else {}


def balanced_class_weights(args: argparse.Namespace) -> list[float]:
    """Return n / (K n_k) for each class k, as scikit-learn's "balanced" does."""
    path, _ = find_data(args.train_data_path_and_name_and_type, "emotion")
    rows = load_num_sequence_text(path, "text_int").values()
    classes = np.array([row[0] for row in rows])  # (N,)
    classes = classes[classes != MISSING_CLASS]
    num_classes = len(args.class_list)
    counts = np.bincount(classes, minlength=num_classes)[:num_classes]  # (K,)
    empty = [name for name, n in zip(args.class_list, counts, strict=True) if n == 0]
    if empty:
        raise UserError(
            f"loss_conf: class_weights balanced, but no training utterance is "
            f"{' or '.join(empty)}; give the weights as a list"
        )
    return (len(classes) / (num_classes * counts)).tolist()


def training_features(args: argparse.Namespace) -> Iterator[Tensor]:
    """Yield the cached features (T, D) of each training utterance.

    Raises:
        UserError: They are not cached, or have several hidden states.
    """
    triples = args.train_data_path_and_name_and_type
    path, kind = find_data(triples, "speech")
    if kind != FEATURES_TYPE or (args.frontend_conf or {}).get("num_layers", 1) > 1:
        raise UserError(
            "normalize: training_mvn is for cached features of one hidden state; take "
            "utterance_mvn here"
        )
    store = open_store(path)
    label_files = [f for f, name, _ in triples if name in ("emotion", "attributes")]
    ids = read_2columns_text(label_files[0]) if label_files else store.ids
    for utt in ids:
        yield as_tensor(store[utt])


def hold_features(
    args: argparse.Namespace, options: IteratorOptions, ids: list[str], mode: str
) -> ResidentFeatures | None:
    """Hold cached features in memory, if the options and their size allow it."""
    path, kind = find_data(options.data_path_and_name_and_type, "speech")
    if kind == FEATURES_TYPE:
        room = Room(args.resident, args.resident_gb, args.ngpu, args.num_workers)
        return hold(open_store(path), ids, room, mode)
    if args.resident in ("ram", "device"):
        raise UserError(
            f"resident: {args.resident} is for cached features, but {path} is of "
            f"type {kind}; leave it at auto"
        )
    return None


def samples_per_frame(args: argparse.Namespace) -> int:
    """Return what counts as a frame of audio: the least that its upstream may take."""
    if args.frontend != "online":
        raise UserError(f"frontend {args.frontend}: audio needs the frontend online")
    conf = args.frontend_conf
    config = read_feature_config(conf["config"], conf.get("upstream"))
    return config.upstream.least_frame_shift


def batch_rule(
    args: argparse.Namespace, options: IteratorOptions, world_size: int
) -> BatchRule:
    """Translate ESPnet's batch options.

    In validation a batch decides nothing, so only the number of ranks is its floor.
    """
    floor = max(args.min_batch_size, world_size) if options.train else world_size
    _, kind = find_data(options.data_path_and_name_and_type, "speech")
    unit = 1 if kind == FEATURES_TYPE else samples_per_frame(args)
    limit = args.max_batch_frames * unit
    if options.batch_type == "length":
        limit = max(limit, options.batch_bins)
        return BatchRule(options.batch_bins, None, floor, True, limit, world_size)
    if options.batch_type not in ("sorted", "unsorted"):
        raise UserError(
            f"batch_type {options.batch_type} does not go with iterator_type task; "
            "choose length, sorted or unsorted, or iterator_type: sequence"
        )
    if options.batch_size < world_size:
        raise UserError(
            f"batch_size is {options.batch_size} for {world_size} ranks; a batch "
            "has at least one row a rank"
        )
    floor = min(floor, options.batch_size) if options.train else floor
    by_length = options.batch_type == "sorted" or not options.train
    return BatchRule(None, options.batch_size, floor, by_length, limit, world_size)


def warn_of_long_clips(
    lengths: Mapping[str, int], options: IteratorOptions, mode: str
) -> None:
    """Name clips that are far longer than the rest, and how to leave them out."""
    path, kind = find_data(options.data_path_and_name_and_type, "speech")
    second = RATE / open_store(path).frame_shift if kind == FEATURES_TYPE else RATE
    clips = far_longer(lengths, at_least=60 * second)
    if clips:
        named = ", ".join(f"{utt} ({lengths[utt] / second:.0f} s)" for utt in clips[:5])
        more = f" and {len(clips) - 5} more" if len(clips) > 5 else ""
        logging.warning(
            f"[{mode}] far longer than the rest: {named}{more}. Their batches have few "
            "rows and take long; --max_seconds (of run.sh, or of ser_make_sets) leaves "
            "long clips out of train and valid"
        )
