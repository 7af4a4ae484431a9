#!/usr/bin/env python3
"""Make the train, valid and test sets of one split."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from espnet_ext.corpora import registry
from espnet_ext.errors import UserError, exit_on_user_error
from espnet_ext.utils.arguments import boolean, make_parser


def get_parser() -> argparse.ArgumentParser:
    """Build the parser of the options of the sets."""
    schemes = "; ".join(
        f"{name}: {scheme.description}"
        + (f" ({scheme.folds} folds)" if scheme.folds > 1 else "")
        for corpus in registry.CORPORA.values()
        for name, scheme in corpus.schemes.items()
    )
    parser = make_parser(
        "Apply a class map and a split scheme. Writes OUTPUT/{train,valid,test}, a "
        "manifest of each (id, speaker, label) and split.json.",
        prog="ser_make_sets",
    )
    parser.epilog = f"schemes: {schemes}"
    add = parser.add_argument
    text = "data directory; of several, ids get the corpus as prefix (iemocap-...)"
    add("--data", type=Path, nargs="+", required=True, help=text)
    add("--labels", type=Path, required=True, help="class map, conf/labels/NAME.yaml")
    add("--scheme", nargs="+", required=True, help="split scheme of each corpus")
    add("--output", type=Path, required=True, help="folder to write; replaced as one")
    text = "counted from 1; of several --data one for all, or one for each"
    add("--fold", type=int, nargs="+", default=[1], help=text)
    add("--seed", type=int, default=0, help="of the schemes that draw at random")
    add(
        "--train_labels",
        nargs="*",
        default=[],
        metavar="CORPUS=LABELS",
        help="labels that train and valid show: none (the corpus is only tested), "
        "continuous, discrete or both [both]",
    )
    for part, size in (("train", 3161), ("valid", 389)):
        text = f"{part} utterances of a subset scheme"
        add(f"--subset_{part}", type=int, default=size, help=text)
    for limit, clips in (("min", "shorter"), ("max", "longer")):
        text = f"leave {clips} clips out of train and valid"
        add(f"--{limit}_seconds", type=float, help=text)
    text = "whether to bring attributes into their scale"
    add("--clip_attributes", type=boolean, default=False, help=text)
    text = "unit maps each corpus' scale to [0, 1]"
    add("--attribute_scale", choices=("raw", "unit"), default="raw", help=text)
    text = (
        "whether to exchange valence and arousal where the paper's released "
        "preparation did"
    )
    add("--legacy_va_order", type=boolean, default=False, help=text)
    text = (
        "a subset scheme draws as many utterances for train and valid as this corpus' "
        "own train and valid sets have, or all where there are fewer"
    )
    add("--subset_like", metavar="CORPUS", help=text)
    text = (
        "feature store of each --data; writes speech_shape and features.digest into "
        "each set and, of several, the list OUTPUT/stores"
    )
    add("--store", type=Path, nargs="+", default=[], help=text)
    return parser


@exit_on_user_error
def main(cmd: Sequence[str] | None = None) -> None:
    """Make the sets of one split."""
    args = get_parser().parse_args(cmd)
    if len(args.store) not in (0, len(args.data)):
        raise UserError(
            f"--store: {len(args.store)} stores for {len(args.data)} data directories"
        )
    # Late: --help must not wait for yaml and numpy.
    from espnet_ext.corpora import datadir, labels, sets
    from espnet_ext.corpora.splits import SplitOptions

    options = sets.SetOptions(
        schemes=args.scheme,
        split=SplitOptions(
            args.fold[0], args.seed, args.subset_train, args.subset_valid
        ),
        folds=args.fold if len(args.fold) > 1 else (),
        subset_like=args.subset_like,
        train_labels=sets.parse_train_labels(args.train_labels),
        min_seconds=args.min_seconds,
        max_seconds=args.max_seconds,
        clip_attributes=args.clip_attributes,
        unit_attributes=args.attribute_scale == "unit",
        legacy_va_order=args.legacy_va_order,
    )
    class_map = labels.load_class_map(args.labels)
    corpora = [datadir.read_data_dir(path) for path in args.data]
    unusable: dict[str, str] = {}
    if args.store:
        from espnet_ext.features.sets import describe_features, leave_out_unusable

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
            describe_features(stores, made, folder, args.output)
    print(sets.sets_text(description, class_map), end="")
    if args.legacy_va_order:
        print(sets.LEGACY_WARNING)
    print(f"written to {args.output}")


if __name__ == "__main__":
    main()
