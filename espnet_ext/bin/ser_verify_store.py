"""Read a feature store from end to end and compare everything with its checksums."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from espnet_ext.errors import UserError, exit_on_user_error


def get_parser() -> argparse.ArgumentParser:
    """Make the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, required=True, help="folder of the store")
    return parser


@exit_on_user_error
def main(cmd: Sequence[str] | None = None) -> None:
    """Run the command."""
    args = get_parser().parse_args(cmd)
    from tqdm import tqdm

    from espnet_ext.features.store import FeatureStore

    store = FeatureStore(args.store)
    damaged: dict[Path, str] = {}
    for utterance in tqdm(store.ids, desc=f"verify {args.store}", unit="utt"):
        try:
            store.check(utterance)
        except UserError as error:
            damaged.setdefault(store.shard_path(utterance), str(error))
    if damaged:
        lines = "\n".join(f"  {message}" for message in damaged.values())
        remove = "\n".join(f"  rm {path}" for path in damaged)
        raise UserError(
            f"{args.store}: {len(damaged)} damaged shards:\n{lines}\nRemove them and "
            f"run ser_extract again, which makes these only:\n{remove}"
        )
    print(f"{args.store}: {len(store)} utterances, all of them sound")


if __name__ == "__main__":
    main()
