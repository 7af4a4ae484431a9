#!/usr/bin/env python3
"""Fit the classical baseline (utterance functionals, SVM) and write predictions.csv."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from espnet_ext.errors import exit_on_user_error
from espnet_ext.utils.arguments import make_parser


def get_parser() -> argparse.ArgumentParser:
    """Return the parser; cheap."""
    parser = make_parser(__doc__)
    parser.add_argument(
        "--config",
        type=Path,
        default=Path("conf/train_classical.yaml"),
        help="functionals, kernel, class_weight",
    )
    for part, use in (
        ("train", "fit"),
        ("valid", "choose hyperparameters, nothing else"),
        ("test", "predict"),
    ):
        parser.add_argument(
            f"--{part}", type=Path, required=True, help=f"Set directory: {use}"
        )
    parser.add_argument(
        "--store",
        type=Path,
        help="Feature store (or file that lists several) for functionals: store",
    )
    parser.add_argument(
        "--output", type=Path, required=True, help="Folder for predictions.csv"
    )
    return parser


@exit_on_user_error
def main(cmd: Sequence[str] | None = None) -> None:
    """Read functionals, fit, predict, write.

    Example:
        ``ser_classical.py --train sets/train --valid sets/valid --test sets/test
        --output exp/classical``
    """
    args = get_parser().parse_args(cmd)

    # Late: they take seconds.
    from espnet_ext.classical.model import ClassicalConfig
    from espnet_ext.classical.table import predict_sets
    from espnet_ext.scoring.predictions import FILE, write_predictions
    from espnet_ext.utils.yaml_files import build, read_yaml

    config = build(ClassicalConfig, read_yaml(args.config), str(args.config))
    classes, rows, chosen = predict_sets(
        config, (args.train, args.valid, args.test), args.store
    )
    for line in chosen:
        print(line)
    args.output.mkdir(parents=True, exist_ok=True)
    write_predictions(args.output / FILE, classes, rows)
    print(f"{len(rows)} predictions in {args.output / FILE}")


if __name__ == "__main__":
    main()
