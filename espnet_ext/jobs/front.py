"""The front door: choose a recipe and hand it the options, for the top ``run.sh``."""

import argparse
import os
import re
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from espnet_ext.errors import UserError, exit_on_user_error
from espnet_ext.jobs.options import get_parser, table_path

ROOT = Path(__file__).parents[2]
DEFAULT = "mini"
# What a recipe's folder holds as links.
LINKS = ("ser.sh", "path.sh", "cmd.sh", "db.sh", "conf", "local")


@exit_on_user_error
def main(cmd: Sequence[str] | None = None) -> None:
    """Read the options, then become the recipe's run.sh."""
    words = list(sys.argv[1:] if cmd is None else cmd)
    args = get_parser().parse_args(words)
    script = str(find_recipe(choose_recipe(args)) / "run.sh")
    if args.manifest is None:
        words = without_corpus(words)
    os.execv(script, [script, *words])


def choose_recipe(args: argparse.Namespace) -> str:
    """Say which recipe is meant: --corpus, the table's own, or the built-in corpora.

    Raises:
        UserError: There is no such table.
    """
    if args.manifest is not None:
        return "manifest"
    if args.corpus is not None or args.table is None:
        return args.corpus or DEFAULT
    path = table_path(args.table, ROOT / "conf")
    if not path.is_file():
        raise UserError(f"--table {args.table}: there is no {path}")
    own = table_recipe(path)
    if args.root:
        return own
    print(
        f"On the built-in corpora. On yours, where db.sh says: --corpus {own}",
        file=sys.stderr,
    )
    return DEFAULT


def table_recipe(path: Path) -> str:
    """Read which recipe a table belongs to.

    Raises:
        UserError: The YAML does not say it.
    """
    from espnet_ext.utils.yaml_files import read_yaml  # late: only a table needs it

    recipe = read_yaml(path).get("recipe")
    if not isinstance(recipe, str):
        raise UserError(f"{path}: `recipe: NAME` is missing")
    return recipe


def find_recipe(corpus: str) -> Path:
    """Return the folder of a recipe.

    Raises:
        UserError: There is none of this name, or git could not make its links.
    """
    recipes = {
        path.parent.parent.name: path.parent for path in ROOT.glob("egs2/*/ser1/run.sh")
    }
    if corpus not in recipes:
        near = get_close_matches(corpus.lower(), recipes, 1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise UserError(
            f"--corpus {corpus}: there is no such recipe{hint}; choose one of: "
            f"{' '.join(sorted(recipes))}; a corpus of your own needs --manifest FILE"
        )
    for name in LINKS:
        check_link(recipes[corpus] / name)
    return recipes[corpus]


def check_link(path: Path) -> None:
    """See that git has made a link, and not a text file that says where it leads.

    Raises:
        UserError: It is such a file.
    """
    if path.is_symlink() or not path.is_file() or path.stat().st_size > 200:
        return
    text = path.read_text(encoding="utf-8", errors="replace").strip()
    if re.fullmatch(r"(\.\./)+[\w./]+", text):
        raise UserError(
            f"{path} is a text file that holds {text!r} where a link belongs: git was "
            "told to make no links (core.symlinks=false, as on Windows and some file "
            "shares). Clone again on a file system that has links, with "
            "`git clone -c core.symlinks=true`"
        )


def without_corpus(words: Sequence[str]) -> list[str]:
    """Take --corpus out: what was a recipe's name here is a corpus' name there."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--corpus")
    return parser.parse_known_args(words)[1]


if __name__ == "__main__":
    main()
