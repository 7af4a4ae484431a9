"""What options say together: what one fills in for another, and what cannot be."""

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path

from espnet_ext.errors import UserError
from espnet_ext.jobs.recipe import Recipe
from espnet_ext.jobs.table import MINI_FOLDERS

# Of the built-in corpora: the scheme and the folds of each.
_PARTS = {"iemocap": ("iemocap_5fold", [1]), "msp_podcast": ("msp_podcast", [])}


def complete(args: argparse.Namespace, places: Mapping[str, str]) -> None:
    """Fill in what other options and db.sh say.

    Args:
        args: The options; changed.
        places: The variables of db.sh, ``IEMOCAP`` and so on.

    Raises:
        UserError: Options contradict each other.
    """
    for corpus in ("iemocap", "msp_podcast"):
        folder = getattr(args, corpus)
        if folder is not None and args.table is None:
            raise UserError(
                f"--{corpus} {folder} belongs to --table; without one it is "
                f"--corpus {corpus} --corpus_root {folder}"
            )
        if folder is not None and not _is_real(args):
            raise UserError(
                f"--{corpus} {folder}: this recipe generates its corpora; leave one "
                "of the two out (--corpus mini here)"
            )
    if args.part is not None:
        _complete_part(args)
    elif _is_real(args):
        if args.corpus is not None and args.corpus_root is None:
            args.corpus_root = places.get(args.corpus.upper()) or None
        for corpus in ("iemocap", "msp_podcast"):
            own = args.corpus_root if args.corpus == corpus else None
            place = getattr(args, corpus) or own or places.get(corpus.upper())
            setattr(args, corpus, place or None)
    args.fold = args.fold or []


def check_characters(args: argparse.Namespace) -> None:
    """Refuse names that something later on would take apart.

    Blanks, quotes, UTF-8 and any other punctuation do no harm.

    Raises:
        UserError: Names the option and the character.
    """
    words = {"this folder": [Path.cwd()]}
    for name, value in vars(args).items():
        words[f"--{name}"] = value if isinstance(value, list) else [value]
    for option, values in words.items():
        for value in map(str, values):
            if "\n" in value or "\r" in value:
                raise UserError(
                    f"{option} {value!r}: holds a line break, at which lists of files "
                    "part; choose another name"
                )
            if any("\ud800" <= character <= "\udfff" for character in value):
                raise UserError(
                    f"{option} {value!a}: is not UTF-8, which lists of files are; "
                    "rename it, or give it a link with another name"
                )
    names = {
        "--dumpdir": [str(args.dumpdir)],
        "--home": args.home,
        "--labels": [Path(args.labels).stem],
        "--features": [Path(args.features).stem],
    }
    for option, values in names.items():
        for value in values:
            if "," in value:
                raise UserError(
                    f"{option} {value}: holds a comma, at which ESPnet parts `path,"
                    "name,type`; choose another name, or give it a link with one"
                )


def _is_real(args: argparse.Namespace) -> bool:
    return args.part is None and args.mini_seed is None


def _complete_part(args: argparse.Namespace) -> None:
    if args.corpus not in (None, args.part):
        raise UserError(
            f"--corpus {args.corpus}: this recipe generates its corpora; --part says "
            "which one"
        )
    scheme, folds = _PARTS[args.part]
    folder = MINI_FOLDERS[args.part]
    args.mini_seed = args.mini_seed or 0
    if args.corpus_root is None:
        args.corpus_root = Path("downloads", f"seed{args.mini_seed}", folder)
    args.corpus = args.part
    args.scheme = args.scheme or scheme
    args.fold = folds if args.fold is None else args.fold
    args.upstream = args.upstream or str(args.corpus_root.parent / "hubert_tiny")


def check_outputs(recipes: Iterable[Recipe]) -> None:
    """See that no step replaces a folder in which a corpus lies.

    Raises:
        UserError: Names both.
    """
    for recipe in recipes:
        for part in recipe.corpora:
            root = part.corpus_root.resolve()
            for output in (part.datadir / "local" / part.corpus, part.data, part.store):
                if root.is_relative_to(output.resolve()):
                    raise UserError(
                        f"{part.corpus} lies in {root}, and {output} there would be "
                        "replaced: choose another --datadir or --dumpdir"
                    )
