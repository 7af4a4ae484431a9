"""A recipe on a corpus that is a manifest: what follows from what the file holds."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from espnet_ext.errors import UserError
from espnet_ext.jobs.options import config_path


def complete_manifest(args: argparse.Namespace) -> None:
    """Fill in folds, class map and models; the manifest is read, and checked, for it.

    Without ``--labels`` a class map of the emotions that occur is written beside the
    data directory, if anything runs.

    Raises:
        UserError: The manifest is malformed, or options contradict it.
    """
    # Late: --help must not wait for them.
    from espnet_ext.corpora.manifest.corpus import classes_of, write_class_map
    from espnet_ext.corpora.manifest.reader import read_manifest
    from espnet_ext.corpora.manifest.rows import parse_columns
    from espnet_ext.corpora.manifest.table import ManifestOptions

    if args.table is not None:
        raise UserError(f"--manifest {args.manifest}: a table names its corpora itself")
    if not args.manifest.exists():
        raise UserError(f"--manifest {args.manifest}: there is no such file")
    name = args.corpus = args.corpus or args.manifest.stem
    default = "labels" not in args.given
    labels = args.datadir / f"{name}.yaml"
    labels = labels if default else config_path("labels", args.labels)
    found = read_manifest(
        args.manifest,
        name,
        ManifestOptions(
            columns=parse_columns(args.columns),
            root=args.corpus_root and Path(args.corpus_root),
            attribute_scale=args.attribute_scale and tuple(args.attribute_scale),
            seed=args.fold_seed,
            shared_speakers=args.shared_speakers,
            check_files=False,  # stage 1 looks for them
            class_of=None if default else classes_of(labels, name),
        ),
    )
    for note in found.reading.notes:
        print(note)
    if default and not (args.dry_run or args.status or args.print_config):
        write_class_map(found, name, labels)
    args.labels = str(labels)
    args.scheme = name
    args.corpus_root = args.corpus_root or args.manifest.parent
    if args.fold is None:
        args.fold = list(range(1, found.folds + 1))
    for fold in args.fold:
        if not 1 <= fold <= max(1, found.folds):
            raise UserError(f"--fold {fold}: the manifest has {found.folds} folds")
    if "model" not in args.given and not args.train_config:
        if not found.labels:
            args.model = ["baseline_c"]
        elif found.attribute_scale is None:
            args.model = ["baseline_d"]
    labelled = {
        "discrete": bool(found.labels),
        "continuous": found.attribute_scale is not None,
    }
    for path in args.train_config or [Path(f"conf/train_{m}.yaml") for m in args.model]:
        if kind := missing_target(path, labelled):
            raise UserError(f"{path}: the manifest has no {kind}, its target")


def missing_target(path: Path, labelled: Mapping[str, bool]) -> str:
    """Name what a model predicts, if none of it has labels; else nothing."""
    from espnet_ext.tasks.config import read_config

    # Missing files are named later, with those that there are.
    config = read_config(path) if path.is_file() else {}
    branches = (config.get("decoder_conf") or {}).get("branches") or list(labelled)
    if any(labelled.get(branch, True) for branch in branches):
        return ""
    return "emotion" if "discrete" in branches else "valence, arousal or dominance"


def manifest_options(args: argparse.Namespace) -> dict[str, Any]:
    """Return the options of ``ser_prepare`` that say how a manifest is read."""
    names = ("columns", "attribute_scale", "shared_speakers")
    found = {name: getattr(args, name) for name in names if getattr(args, name)}
    return found | ({"seed": args.fold_seed} if args.fold_seed else {})
