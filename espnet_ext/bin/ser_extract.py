"""Extract the frozen features of a data directory into a store, or verify a store.

One extraction serves every fold, model and table. Run it again after an interruption,
or in several processes at once: nothing that is finished is computed twice.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from espnet_ext.errors import UserError, exit_on_user_error
from espnet_ext.utils.arguments import boolean, make_parser


def get_parser() -> argparse.ArgumentParser:
    """Make the command line."""
    parser = make_parser(__doc__)
    add = parser.add_argument
    add("--data", type=Path, help="data directory")
    add("--config", type=Path, help="conf/features/NAME.yaml")
    add("--output", type=Path, required=True, help="folder of the store")
    text = (
        "class map (conf/labels/NAME.yaml): only utterances that have a class in it; "
    )
    add("--labels", type=Path, help=text + "all without it")
    add("--upstream", help="replaces upstream.name of the config: a name or a folder")
    add("--ngpu", type=int, choices=(0, 1), default=0, help="compute on a GPU")
    text = "speech computed at once; bounds the memory; None: 60, on a GPU 240"
    add("--batch_seconds", type=float, help=text)
    add("--shard_mb", type=float, default=512.0, help="largest shard")
    text = "most speech that a process takes to itself, in one shard or several"
    add("--shard_seconds", type=float, default=1800.0, help=text)
    add("--num_threads", type=int, default=0, help="CPU threads; 0: torch's choice")
    text = "recordings that cannot be used: do all others and fail, or leave out"
    add("--on_bad_audio", choices=("error", "skip"), default="error", help=text)
    text = "extract nothing: compare all of the store --output with its checksums"
    add("--verify", type=boolean, default=False, metavar="true|false", help=text)
    add(
        "--recompute",
        type=int,
        default=0,
        metavar="N",
        help="with --verify true: compute N utterances of --data again in fp32 "
        "instead, and print how far the store is from them",
    )
    return parser


@exit_on_user_error
def main(cmd: Sequence[str] | None = None) -> None:
    """Run the command."""
    args = get_parser().parse_args(cmd)
    if args.verify:
        _verify(args)
        return
    if args.recompute:
        raise UserError("--recompute goes with --verify true")
    if args.data is None or args.config is None:
        raise UserError("--data and --config are needed to extract")
    from espnet_ext.features import extract
    from espnet_ext.features.config import load_feature_config

    config = load_feature_config(args.config, args.upstream)
    recordings = extract.find_recordings(args.data, args.labels)
    if extract.is_finished(args.output, config, recordings, args.on_bad_audio):
        print(f"{args.output}: finished already")
        return
    from espnet_ext.utils.device import device_of

    if args.num_threads > 0:
        import torch

        torch.set_num_threads(args.num_threads)
    device = device_of(args.ngpu)
    resources = extract.Resources(
        device, args.batch_seconds, args.shard_mb, args.shard_seconds
    )
    store = extract.extract(
        recordings, config, args.output, resources, args.on_bad_audio
    )
    held = [u for u in recordings if u in store]
    hours = sum(recordings[u].seconds for u in held) / 3600
    print(
        f"{args.output}: features of {len(held)} utterances ({hours:.2f} h), "
        f"{store.num_layers} hidden states of width {store.dim} in "
        f"{store.description['dtype']}"
    )


def _verify(args: argparse.Namespace) -> None:
    if args.recompute < 0:
        raise UserError(f"--recompute {args.recompute}: at least one is needed")
    if args.recompute and args.data is None:
        raise UserError("--recompute needs --data, the data directory of the store")
    from espnet_ext.corpora.datadir import read_data_dir
    from espnet_ext.features.store import FeatureStore
    from espnet_ext.features.verification import recompute, verify_checksums
    from espnet_ext.utils.device import device_of

    store = FeatureStore(args.output)
    if not args.recompute:
        verify_checksums(store)
        print(f"{args.output}: {len(store)} utterances, all of them sound")
        return
    device = device_of(args.ngpu)
    paths = {u: x.wav for u, x in read_data_dir(args.data).utterances.items()}
    count, errors = recompute(store, paths, args.recompute, args.upstream, device)
    compute, dtype = store.description["compute"], store.description["dtype"]
    print(
        f"{args.output}: {count} utterances against fp32, relative L2 distance of a "
        f"frame ({compute}, stored in {dtype})"
    )
    print("state      mean     worst")
    for state, mean, worst in errors:
        print(f"{state:5} {mean:9.1e} {worst:9.1e}")


if __name__ == "__main__":
    main()
