"""The front door: choose a recipe and hand it the options, for the top ``run.sh``."""

import argparse
import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from espnet_ext.errors import UserError, exit_on_user_error
from espnet_ext.jobs.options import get_parser, table_path

ROOT = Path(__file__).parents[2]
DEFAULT = "mini"


@exit_on_user_error
def main(cmd: Sequence[str] | None = None) -> None:
    """Read the options, then become the recipe's run.sh."""
    words = list(sys.argv[1:] if cmd is None else cmd)
    args = get_parser().parse_args(words)
    script = str(find_recipe(choose_recipe(args)) / "run.sh")
    if args.manifest is None:  # a recipe's name here is a corpus' name there
        parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        parser.add_argument("--corpus")
        words = parser.parse_known_args(words)[1]
    os.execv(script, [script, *words])


def choose_recipe(args: argparse.Namespace) -> str:
    """Say which recipe is meant: --corpus, the table's own, or the built-in corpora.

    Raises:
        UserError: There is no such table, or it does not name its recipe.
    """
    if args.manifest is not None:
        return "manifest"
    if args.corpus is not None or args.table is None:
        return args.corpus or DEFAULT
    path = table_path(args.table, ROOT / "conf")
    if not path.is_file():
        raise UserError(f"--table {args.table}: there is no {path}")
    # Late: only a table needs them.
    from espnet_ext.scoring.spec import ANY_RECIPE
    from espnet_ext.utils.yaml_files import read_yaml

    table = read_yaml(path)
    own, corpora = table.get("recipe", ANY_RECIPE), table.get("corpora")
    if not (isinstance(own, str) and isinstance(corpora, dict)):
        raise UserError(f"{path}: corpora is missing, or recipe is no name")
    manifests = [c for c in corpora.values() if "manifest" in (c or ())]
    if args.root or manifests:  # which no built-in corpus is
        return own
    print(
        f"On the built-in corpora. On yours, where db.sh says: --corpus {own}",
        file=sys.stderr,
    )
    return DEFAULT


def find_recipe(corpus: str) -> Path:
    """Return the folder of a recipe.

    Raises:
        UserError: There is none of this name.
    """
    recipes = {path.parts[-3]: path.parent for path in ROOT.glob("egs2/*/ser1/run.sh")}
    if corpus not in recipes:
        near = get_close_matches(corpus.lower(), recipes, 1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise UserError(
            f"--corpus {corpus}: there is no such recipe{hint}; choose one of: "
            f"{' '.join(sorted(recipes))}; a corpus of your own needs --manifest FILE"
        )
    return recipes[corpus]


if __name__ == "__main__":
    main()
