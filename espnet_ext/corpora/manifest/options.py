"""From the options of a program to those of a manifest."""

import argparse

from espnet_ext.corpora.manifest.corpus import classes_of
from espnet_ext.corpora.manifest.rows import parse_columns
from espnet_ext.corpora.manifest.table import ManifestOptions


def manifest_options(args: argparse.Namespace) -> ManifestOptions:
    """Read the options that `ser_prepare` has for a manifest.

    Raises:
        UserError: Names the option that cannot be.
    """
    class_of = None
    if args.labels is not None:
        class_of = classes_of(args.labels, args.corpus)
    return ManifestOptions(
        columns=parse_columns(args.columns),
        root=args.root,
        attribute_scale=args.attribute_scale and tuple(args.attribute_scale),
        seed=args.seed,
        shared_speakers=args.shared_speakers,
        test_only=args.test_only,
        class_of=class_of,
    )
