"""Copy a feature store, or what some sets need of it, to a node's scratch disk."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from espnet_ext.errors import exit_on_user_error


def get_parser() -> argparse.ArgumentParser:
    """Make the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--store", type=Path, required=True, help="folder of the store")
    add("--output", type=Path, required=True, help="folder of the copy")
    add(
        "--set",
        type=Path,
        nargs="+",
        default=[],
        help="set directories: only the shards that hold their utterances",
    )
    return parser


@exit_on_user_error
def main(cmd: Sequence[str] | None = None) -> None:
    """Run the command."""
    args = get_parser().parse_args(cmd)
    from espnet_ext.corpora.datadir import read_data_dir
    from espnet_ext.features.staging import stage_store

    ids = [u for folder in args.set for u in read_data_dir(folder).utterances]
    stage_store(args.store, args.output, ids or None)
    print(f"{args.output}: staged")


if __name__ == "__main__":
    main()
