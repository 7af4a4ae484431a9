"""Read a feature store from end to end and compare everything with its checksums.

With --recompute, some utterances are computed again instead, in fp32, and compared: are
the features those of these recordings and weights, and what does the precision cost?
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from espnet_ext.errors import UserError, exit_on_user_error

if TYPE_CHECKING:
    from espnet_ext.features.store import FeatureStore


def get_parser() -> argparse.ArgumentParser:
    """Make the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--store", type=Path, required=True, help="folder of the store")
    add(
        "--recompute",
        type=int,
        default=0,
        metavar="N",
        help="compute N utterances again, evenly spaced, and read no others",
    )
    add("--data", type=Path, help="data directory, for --recompute")
    add("--upstream", help="where the weights are now, if they have moved")
    add("--ngpu", type=int, choices=(0, 1), default=0, help="compute on a GPU")
    return parser


@exit_on_user_error
def main(cmd: Sequence[str] | None = None) -> None:
    """Run the command."""
    args = get_parser().parse_args(cmd)
    if args.recompute < 0:
        raise UserError(f"--recompute {args.recompute}: at least one is needed")
    if args.recompute and args.data is None:
        raise UserError("--recompute needs --data, the data directory of the store")
    from espnet_ext.features.store import FeatureStore

    store = FeatureStore(args.store)
    if args.recompute:
        _recompute(store, args)
    else:
        _verify(store, args.store)


def _verify(store: "FeatureStore", path: Path) -> None:
    """Compare everything with its checksums.

    Raises:
        UserError: Something is damaged.
    """
    from tqdm import tqdm

    from espnet_ext.features.format import read_shard

    damaged: dict[Path, str] = {}
    for utterance in tqdm(store.ids, desc=f"verify {path}", unit="utt"):
        try:
            store.check(utterance)
        except UserError as error:
            damaged.setdefault(store.shard_path(utterance), str(error))
    for shard in {store.shard_path(utterance) for utterance in store} - damaged.keys():
        try:
            read_shard(shard)
        except UserError as error:
            damaged[shard] = str(error)
    if damaged:
        lines = "\n".join(f"  {message}" for message in damaged.values())
        remove = "\n".join(f"  rm {shard}" for shard in damaged)
        raise UserError(
            f"{path}: {len(damaged)} damaged shards:\n{lines}\nRemove them and "
            f"run ser_extract again, which makes these only:\n{remove}"
        )
    print(f"{path}: {len(store)} utterances, all of them sound")


def _recompute(store: "FeatureStore", args: argparse.Namespace) -> None:
    """Compute some utterances again and print how far the store is from them."""
    from tqdm import tqdm

    from espnet_ext.corpora.datadir import read_data_dir
    from espnet_ext.features.compare import (
        config_of,
        errors_by_utterance,
        spread,
        summarize,
    )
    from espnet_ext.utils.device import device_of

    utterances = read_data_dir(args.data).utterances
    chosen = spread([u for u in store.ids if u in utterances], args.recompute)
    if not chosen:
        raise UserError(f"{args.data}: none of its utterances is in {args.store}")
    paths = {u: utterances[u].wav for u in chosen}
    config = config_of(store, args.upstream)
    found = errors_by_utterance(store, paths, config, device_of(args.ngpu))
    bar = tqdm(found, desc="compute again", total=len(paths), unit="utt")
    errors = [error for _, error in bar]
    print(
        f"{args.store}: {len(errors)} utterances against fp32, relative L2 distance "
        f"of a frame ({store.description['compute']}, stored in "
        f"{store.description['dtype']})"
    )
    print("state      mean     worst")
    for error in summarize(errors, store.layers):
        print(f"{error.state:5} {error.mean:9.1e} {error.worst:9.1e}")


if __name__ == "__main__":
    main()
