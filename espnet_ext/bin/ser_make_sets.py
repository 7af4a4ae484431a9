#!/usr/bin/env python3
"""Make the train, valid and test sets of one split."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from espnet2.utils.types import str2bool

from espnet_ext.corpora import registry
from espnet_ext.errors import UserError, exit_on_user_error

if TYPE_CHECKING:
    from espnet_ext.corpora.datadir import DataDir


def get_parser() -> argparse.ArgumentParser:
    """Build the parser of the options of the sets."""
    schemes = "\n".join(
        f"  {name}: {scheme.description}"
        + (f" ({scheme.folds} folds)" if scheme.folds > 1 else "")
        for corpus in registry.CORPORA.values()
        for name, scheme in corpus.schemes.items()
    )
    parser = argparse.ArgumentParser(
        prog="ser_make_sets",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Apply a class map and a split scheme. Writes OUTPUT/{train,valid,"
        "test}, a manifest\nof each (id, speaker, label) and split.json.",
        epilog=f"schemes:\n{schemes}",
    )
    parser.add_argument(
        "--data",
        type=Path,
        nargs="+",
        required=True,
        help="data directory; of several, ids get the corpus as prefix (iemocap-...)",
    )
    parser.add_argument(
        "--labels", type=Path, required=True, help="class map, conf/labels/NAME.yaml"
    )
    parser.add_argument(
        "--scheme", nargs="+", required=True, help="split scheme of each corpus"
    )
    parser.add_argument(
        "--output", type=Path, required=True, help="folder to write; replaced as one"
    )
    parser.add_argument("--fold", type=int, default=1, help="counted from 1 [1]")
    parser.add_argument(
        "--seed", type=int, default=0, help="of the schemes that draw at random [0]"
    )
    parser.add_argument(
        "--train_labels",
        nargs="*",
        default=[],
        metavar="CORPUS=LABELS",
        help="labels that train and valid show: none (the corpus is only tested), "
        "continuous, discrete or both [both]",
    )
    parser.add_argument(
        "--subset_train",
        type=int,
        default=3161,
        help="training utterances of a subset scheme [3161]",
    )
    parser.add_argument(
        "--subset_valid",
        type=int,
        default=389,
        help="validation utterances of a subset scheme [389]",
    )
    parser.add_argument(
        "--min_seconds",
        type=float,
        help="leave shorter clips out of train and valid [none]",
    )
    parser.add_argument(
        "--max_seconds",
        type=float,
        help="leave longer clips out of train and valid [none]",
    )
    parser.add_argument(
        "--clip_attributes",
        type=str2bool,
        default=False,
        help="whether to bring attributes into their scale [false]",
    )
    parser.add_argument(
        "--attribute_scale",
        choices=("raw", "unit"),
        default="raw",
        help="unit maps each corpus' scale to [0, 1] [raw]",
    )
    parser.add_argument(
        "--legacy_va_order",
        type=str2bool,
        default=False,
        help="whether to exchange valence and arousal of msp_podcast, as the paper's "
        "released preparation did [false]",
    )
    parser.add_argument(
        "--subset_like",
        metavar="CORPUS",
        help="a subset scheme draws as many utterances for train and valid as this "
        "corpus' own train and valid sets have, or all where there are fewer",
    )
    parser.add_argument(
        "--store",
        type=Path,
        nargs="+",
        default=[],
        help="feature store of each --data; writes speech_shape and features.digest "
        "into each set and, of several, the list OUTPUT/stores",
    )
    return parser


@exit_on_user_error
def main(cmd: Sequence[str] | None = None) -> None:
    """Make the sets of one split."""
    args = get_parser().parse_args(cmd)
    if len(args.store) not in (0, len(args.data)):
        raise UserError(
            f"--store: {len(args.store)} stores for {len(args.data)} data directories"
        )
    # Late: --help must not wait for yaml.
    from espnet_ext.corpora import datadir, labels, sets
    from espnet_ext.corpora.splits import SplitOptions

    options = sets.SetOptions(
        schemes=args.scheme,
        split=SplitOptions(args.fold, args.seed, args.subset_train, args.subset_valid),
        subset_like=args.subset_like,
        train_labels=parse_train_labels(args.train_labels),
        min_seconds=args.min_seconds,
        max_seconds=args.max_seconds,
        clip_attributes=args.clip_attributes,
        unit_attributes=args.attribute_scale == "unit",
        legacy_va_order=args.legacy_va_order,
    )
    class_map = labels.load_class_map(args.labels)
    corpora = [datadir.read_data_dir(path) for path in args.data]
    unusable: dict[str, str] = {}
    for place, store in enumerate(args.store):
        usable, reasons = leave_out_unusable(corpora[place], store)
        kept = sets.keep_classes(corpora[place].select(reasons), class_map)
        unusable |= {i: reasons[i] for i in kept.utterances}
        corpora[place] = usable
    made = sets.make_sets(corpora, class_map, options)
    with datadir.replaced_dir(args.output, marker="split.json") as folder:
        description = sets.write_sets(made, class_map, folder, options, unusable)
        if args.store:
            names = [next(iter(data.utterances.values())).corpus for data in corpora]
            stores = dict(zip(names, args.store, strict=True))
            describe_features(stores, made.parts(), folder, args.output)
    print(sets.sets_text(description, class_map), end="")
    if args.legacy_va_order:
        print(LEGACY_WARNING)
    print(f"written to {args.output}")


LEGACY_WARNING = (
    "!!! WARNING: --legacy_va_order is on: valence and arousal of msp_podcast are "
    "EXCHANGED in these sets, as in the paper's released preparation. What is called "
    "valence there is arousal."
)


def parse_train_labels(items: Sequence[str]) -> dict[str, str]:
    """Turn ``CORPUS=LABELS`` items into a mapping.

    Raises:
        UserError: An item is not of that form, or names no kind of labels.
    """
    from espnet_ext.corpora.sets import TRAIN_LABELS

    found = {}
    for item in items:
        corpus, _, labels = item.partition("=")
        if labels not in TRAIN_LABELS:
            raise UserError(
                f"--train_labels {item}: write CORPUS=LABELS, LABELS "
                f"{', '.join(TRAIN_LABELS)}"
            )
        found[corpus] = labels
    return found


def leave_out_unusable(data: "DataDir", path: Path) -> "tuple[DataDir, dict[str, str]]":
    """Take out what a store has no features of because its audio cannot be used.

    Returns:
        The rest of the data, and the reason for each utterance that is left out.

    Raises:
        UserError: Nothing is left.
    """
    from espnet_ext.features.store import FeatureStore

    store = FeatureStore(path)
    reasons = {
        id_: reason
        for id_, reason in store.unusable.items()
        if id_ in data.utterances and id_ not in store
    }
    rest = data.select(data.utterances.keys() - reasons.keys())
    if not rest.utterances:
        raise UserError(f"{path}: lists the audio of every utterance as unusable")
    return rest, reasons


def describe_features(
    stores: Mapping[str, Path],
    parts: Mapping[str, "DataDir"],
    folder: Path,
    output: Path,
) -> None:
    """Write what the features of each set are, and the list of several stores.

    ``speech_shape`` is for ESPnet. ``features.digest`` is of the set's own utterances
    alone: a store that has grown by others leaves it as it is.

    Args:
        stores: Feature store of each corpus.
        parts: The sets by name.
        folder: Where they lie now.
        output: Where they will lie.
    """
    # Late: only recipes with cached features need it.
    from espnet_ext.features.joint import AnyStore, JointStore, write_store_list
    from espnet_ext.features.store import FeatureStore, write_shape_file

    opened = {corpus: FeatureStore(path) for corpus, path in stores.items()}
    features: AnyStore = next(iter(opened.values()))
    if len(stores) > 1:
        write_store_list(stores, folder / "stores", output)
        features = JointStore(opened)
    for name, data in parts.items():
        write_shape_file(features, data.utterances, folder / name / "speech_shape")
        digest = features.digest(data.utterances)
        (folder / name / "features.digest").write_text(f"{digest}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
