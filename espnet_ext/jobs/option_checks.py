"""What options say together: what one fills in for another, and what cannot be."""

import argparse
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from espnet_ext.errors import UserError
from espnet_ext.jobs.manifest import complete_manifest
from espnet_ext.jobs.options import config_path, table_path
from espnet_ext.jobs.recipe import Recipe
from espnet_ext.jobs.stages import PACKING, SKIPPED, STAGES, UPLOAD
from espnet_ext.utils.yaml_files import read_yaml

# Where the generator puts the built-in corpora, beside each other.
MINI_FOLDERS = {"iemocap": "IEMOCAP_full_release", "msp_podcast": "MSP-PODCAST-1.8"}
# Of the built-in corpora: the scheme and the folds of each.
_PARTS = {"iemocap": ("iemocap_5fold", [1]), "msp_podcast": ("msp_podcast", [])}

# What a table says itself; and what belongs to a table alone.
_NOT_OF_TABLES = (
    *("model", "train_config", "corpus_overlay", "seed", "scheme", "fold", "labels"),
    *("min_seconds", "max_seconds", "print_config"),
)
_OF_TABLES = ("preset", "seeds", "root", "home")
# Only how a manifest is read depends on them.
_OF_MANIFESTS = ("columns", "attribute_scale", "shared_speakers", "fold_seed")
# Of these pairs the first would have no effect.
_NOT_TOGETHER = (
    ("model", "train_config", "a YAML is trained in place of a model; leave one out"),
    ("corpus_overlay", "train_config", "it is for the YAMLs of --model; use --overlay"),
    ("scheme", "manifest", "a manifest has its own split; leave --scheme out"),
    ("download", "manifest", "nothing is fetched for it; leave --download out"),
)

_SMALLEST = {
    **dict.fromkeys(("ngpu", "seed", "fold_seed", "mini_seed", "max_restarts"), 0),
    **dict.fromkeys(("nj", "extract_jobs", "runs_per_job"), 1),
    **dict.fromkeys(("seeds", "resamples"), 1),
}


def complete(args: argparse.Namespace, places: Mapping[str, str]) -> None:
    """Fill in what other options and db.sh say (`places`: its variables).

    `args.root` then holds every corpus whose place is known.

    Raises:
        UserError: Options contradict each other.
    """
    real = args.part is None and args.mini_seed is None
    if args.manifest is not None and not real:
        raise UserError(
            f"--manifest {args.manifest}: this recipe generates its corpora; start "
            "egs2/manifest/ser1/run.sh"
        )
    if args.root and args.table is not None and not real:
        corpus, folder = next(iter(args.root.items()))
        raise UserError(
            f"--root {corpus}={folder}: this recipe generates its corpora; leave one "
            "of the two out (--corpus mini here)"
        )
    if args.part is not None:
        _complete_part(args)
    elif args.manifest is not None:
        complete_manifest(args)
    elif real:
        from espnet_ext.corpora.registry import CORPORA, get_corpus  # late, for --help

        manifests = _corpora_of_table(args)
        for corpus, folder in args.root.items():
            if corpus not in manifests:
                get_corpus(corpus)
            if not folder.is_dir():
                raise UserError(f"--root {corpus}={folder}: no such folder")
        known = {c: Path(places[c.upper()]) for c in CORPORA if places.get(c.upper())}
        if args.corpus_root is None:
            args.corpus_root = known.get(args.corpus)
        elif args.corpus is not None:
            known[args.corpus] = args.corpus_root
        if args.download:
            _download(args)
        args.root = known | args.root
    args.fold = args.fold or []


def _corpora_of_table(args: argparse.Namespace) -> Iterable[str]:
    """List the corpora that the table names: manifests have a name there alone."""
    path = table_path(args.table, Path("conf")) if args.table else Path()
    return (read_yaml(path).get("corpora") or ()) if path.is_file() else ()


def _download(args: argparse.Namespace) -> None:
    """Fetch the corpus, unless it is there or the plan is only shown."""
    # Late: --help must not wait for it.
    from espnet_ext.corpora.download import accept_license, download_corpus, source_of

    if args.corpus is None:
        raise UserError("--download: which corpus? Give --corpus")
    source = source_of(args.corpus)
    root = Path(args.corpus_root or Path("downloads", args.corpus))
    args.corpus_root = root
    if not args.dry_run and not root.is_dir():
        accept_license(source, args.accept_license)
        download_corpus(source, root)


def _complete_part(args: argparse.Namespace) -> None:
    if args.corpus not in (None, args.part):
        raise UserError(
            f"--corpus {args.corpus}: this recipe generates its corpora; --part says "
            "which one"
        )
    scheme, folds = _PARTS[args.part]
    args.mini_seed = args.mini_seed or 0
    if args.corpus_root is None:
        seed = f"seed{args.mini_seed}"
        args.corpus_root = Path("downloads", seed, MINI_FOLDERS[args.part])
    args.corpus = args.part
    args.scheme = args.scheme or scheme
    args.fold = folds if args.fold is None else args.fold
    args.upstream = args.upstream or str(args.corpus_root.parent / "hubert_tiny")


def chosen_stages(args: argparse.Namespace) -> list[int]:
    """List the stages that were asked for."""
    parts = [part for name, part in SKIPPED.items() if getattr(args, f"skip_{name}")]
    skips = {PACKING: args.skip_packing, UPLOAD: args.skip_upload_hf}
    return [
        stage
        for stage in STAGES
        if skips.get(stage) is False
        or (
            args.stage <= stage <= args.stop_stage
            and not skips.get(stage)
            and not any(stage in part for part in parts)
        )
    ]


def forced_stages(args: argparse.Namespace) -> set[int]:
    """Stages that are to be made again."""
    return set().union(*args.force) & set(STAGES)


def check_arguments(args: argparse.Namespace) -> None:
    """Refuse options that cannot mean anything.

    Raises:
        UserError: Names the option.
    """
    _check_characters(args)
    bounds = f"--stage {args.stage} --stop_stage {args.stop_stage}"
    if not 1 <= args.stage <= args.stop_stage <= max(STAGES):
        raise UserError(
            f"{bounds}: stages go from 1 to {max(STAGES)}, the first not after the "
            "last (7 if --stop_stage is not given)"
        )
    left_out = forced_stages(args) - set(chosen_stages(args))
    if left_out:
        raise UserError(f"--force {min(left_out)}: {bounds} leave that stage out")
    if not 0 < args.mini_scale < math.inf:
        raise UserError(f"--mini_scale {args.mini_scale}: a factor above 0 is needed")
    shortest, longest = clip_lengths(args) or (0, math.inf)
    if not 0 <= shortest < longest:
        raise UserError(
            f"--min_seconds {args.min_seconds} --max_seconds {args.max_seconds}: no "
            "clip is left"
        )
    if args.cmd_backend not in (None, "local", "slurm"):
        raise UserError(f"cmd_backend={args.cmd_backend}: there are local and slurm")
    for name, bound in _SMALLEST.items():
        value = getattr(args, name)
        if value is not None and value < bound:
            raise UserError(f"--{name} {value}: at least {bound} is needed")
    names: Iterable[str] = _OF_TABLES
    why = "belongs to --table (of a corpus: --corpus_root)"
    if args.table is not None:
        names, why = _NOT_OF_TABLES, "a table's YAML says that itself; leave it out"
    for name in names:
        if name in args.given:
            raise UserError(f"--{name}: {why}")
    for name in _OF_MANIFESTS if args.manifest is None else ():
        if name in args.given:
            raise UserError(
                f"--{name}: belongs to --manifest FILE; known corpora have their own "
                "labels, and splits, of which --scheme chooses one"
            )
    for first, second, why in _NOT_TOGETHER:
        if first in args.given and getattr(args, second):
            raise UserError(f"--{first} and --{second}: {why}")
    if args.table is None:
        _check_names(args)
    if {PACKING, UPLOAD} & {*chosen_stages(args)}:
        _check_packing(args)
    elif args.pack_seeds:
        raise UserError("--pack_seeds: nothing is packed; add --skip_packing false")


def _check_packing(args: argparse.Namespace) -> None:
    """Refuse what stages 8 and 9 would refuse after hours."""
    if args.table is not None:
        raise UserError(
            "--table: stages 8 and 9 are for a recipe; pack a table with ser pack"
        )
    if args.mini_seed is None and not args.licence_ack:
        raise UserError(
            f"stages 8 and 9 hand out models trained on {args.corpus}. Read the "
            "corpus' license terms: may they be, to whom, for what? If so, say "
            "--licence_ack true"
        )
    if UPLOAD not in chosen_stages(args):
        return
    from espnet_ext.inference.upload import check_repo  # late: it brings numpy

    check_repo(args.hf_repo or "")
    packages = len(args.fold or [None]) * len(training_yamls(args))
    if packages > 1:
        raise UserError(
            f"--hf_repo {args.hf_repo}: a repository holds one package, and there "
            f"would be {packages}; choose one with --model and --fold"
        )
    if args.cmd_backend == "slurm":
        raise UserError(
            "--cmd_backend slurm: stage 9 uploads from this machine; say --stage 9 "
            "--stop_stage 9 --cmd_backend local when the others are finished"
        )


def clip_lengths(args: argparse.Namespace) -> tuple[float, float] | None:
    """Return the shortest and longest clip of train and valid, or None for all."""
    if args.min_seconds is None and args.max_seconds is None:
        return None
    longest = math.inf if args.max_seconds is None else args.max_seconds
    return args.min_seconds or 0.0, longest


def _check_names(args: argparse.Namespace) -> None:
    """Make sure that corpus, split, configs and models exist, before anything runs."""
    for name in ("corpus", "scheme"):
        if getattr(args, name) is None:
            raise UserError(f"--{name} is missing (or --table)")
    if args.manifest is None:  # one has been read with its class map
        _check_scheme(args)
        _check_labels(args)
    _check_config("features", config_path("features", args.features))
    for path in training_yamls(args):
        _check_config("model", path)
    if args.print_config is not None:
        _check_config("print_config", Path("conf", f"train_{args.print_config}.yaml"))
        return
    if not args.corpus_root:
        raise UserError(
            f"where is {args.corpus}? Write its folder into db.sh, or give it with "
            "--corpus_root"
        )
    if args.mini_seed is None and not Path(args.corpus_root).is_dir():
        raise UserError(
            f"--corpus_root {args.corpus_root}: no such folder; set the corpus' place "
            "in db.sh or give it here"
        )


def _check_scheme(args: argparse.Namespace) -> None:
    from espnet_ext.corpora.registry import get_corpus  # late: not for --help

    schemes = get_corpus(args.corpus).schemes
    if args.scheme not in schemes:
        raise UserError(
            f"--scheme {args.scheme}: {args.corpus} has none of this name; there are "
            + ", ".join(schemes)
        )
    folds = schemes[args.scheme].folds
    for fold in args.fold:
        if not 1 <= fold <= folds:
            raise UserError(f"--fold {fold}: {args.scheme} has folds 1 to {folds}")


def _check_labels(args: argparse.Namespace) -> None:
    from espnet_ext.corpora.labels import load_class_map  # late: not for --help

    path = config_path("labels", args.labels)
    _check_config("labels", path)
    labels = load_class_map(path)
    if args.corpus not in labels.corpora:
        raise UserError(
            f"--labels {args.labels}: is no class map of {args.corpus}, but of "
            + ", ".join(labels.corpora)
        )


def training_yamls(args: argparse.Namespace) -> list[Path]:
    """List the training YAMLs: the user's own, or those of the models."""
    return args.train_config or [Path("conf", f"train_{m}.yaml") for m in args.model]


def _check_config(option: str, path: Path) -> None:
    if path.is_file():
        return
    names = sorted(p.stem.removeprefix("train_") for p in path.parent.glob("*.yaml"))
    there = f"; {path.parent} has {', '.join(names)}" if names else ""
    raise UserError(f"--{option}: there is no {path}{there}")


def _check_characters(args: argparse.Namespace) -> None:
    """Refuse names that something later on would take apart.

    Blanks, quotes, UTF-8 and any other punctuation do no harm.
    """
    values: dict[str, Iterable[object]] = {"this folder": [Path.cwd()]}
    for name, value in vars(args).items():
        several = value.values() if isinstance(value, dict) else value
        values[f"--{name}"] = several if isinstance(value, list | dict) else [value]
    in_triples = {
        **{"--dumpdir": [args.dumpdir], "--home": args.home.values()},
        "--labels": [Path(args.labels).stem],
        "--features": [Path(args.features).stem],
    }
    for options, pattern, why in (
        (values, "[\n\r]", "holds a line break, at which lists of files part"),
        (values, "[\ud800-\udfff]", "is not UTF-8, which lists of files are"),
        (in_triples, ",", "holds a comma, at which ESPnet parts `path,name,type`"),
    ):
        for option, found in options.items():
            for value in map(str, found):
                if re.search(pattern, value):
                    raise UserError(
                        f"{option} {value!r}: {why}; choose another name, or give it a "
                        "link with one"
                    )


def check_outputs(recipes: Iterable[Recipe]) -> None:
    """See that no step replaces a folder in which a corpus lies.

    Raises:
        UserError: Names both.
    """
    for recipe in recipes:
        for part in recipe.corpora:
            root = (part.manifest or part.corpus_root).resolve()
            for output in (part.data, part.store):
                if root.is_relative_to(output.resolve()):
                    raise UserError(
                        f"{part.corpus} lies in {root}, and {output} there would be "
                        "replaced: choose another --datadir or --dumpdir"
                    )
