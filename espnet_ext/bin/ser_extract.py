"""Extract the frozen features of a data directory into a store.

One extraction serves every fold, model and table. Run it again after an interruption,
or in several processes at once: nothing that is finished is computed twice.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from espnet_ext.errors import UserError, exit_on_user_error


def get_parser() -> argparse.ArgumentParser:
    """Make the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--data", type=Path, required=True, help="data directory")
    add("--config", type=Path, required=True, help="conf/features/NAME.yaml")
    add("--output", type=Path, required=True, help="folder of the store")
    add(
        "--labels",
        type=Path,
        help="class map (conf/labels/NAME.yaml): only utterances that have a class in "
        "it; all without it",
    )
    add("--upstream", help="replaces upstream.name of the config: a name or a folder")
    add("--ngpu", type=int, choices=(0, 1), default=0, help="compute on a GPU")
    add(
        "--batch_seconds",
        type=float,
        help="speech computed at once; bounds the memory (default: 60, on a GPU 240)",
    )
    add(
        "--shard_mb",
        type=float,
        default=512.0,
        help="largest shard: what a kill can cost",
    )
    add(
        "--shard_seconds",
        type=float,
        default=1800.0,
        help="most speech that a process takes to itself, in one shard or several",
    )
    add("--num_threads", type=int, default=0, help="CPU threads; 0: torch's choice")
    add(
        "--on_bad_audio",
        choices=("error", "skip"),
        default="error",
        help="recordings that cannot be used: do all others and fail, or leave out",
    )
    return parser


@exit_on_user_error
def main(cmd: Sequence[str] | None = None) -> None:
    """Run the command."""
    args = get_parser().parse_args(cmd)
    from espnet_ext.features.config import load_feature_config
    from espnet_ext.features.extract import Resources, extract, is_finished

    config = load_feature_config(args.config, args.upstream)
    recordings = _read_recordings(args.data, args.labels)
    if is_finished(args.output, config, recordings, args.on_bad_audio):
        print(f"{args.output}: finished already")
        return
    resources = Resources(
        device=_device(args.ngpu, args.num_threads),
        batch_seconds=args.batch_seconds,
        shard_mb=args.shard_mb,
        shard_seconds=args.shard_seconds,
    )
    store = extract(recordings, config, args.output, resources, args.on_bad_audio)
    held = [u for u in recordings if u in store]
    hours = sum(recordings[u].seconds for u in held) / 3600
    print(
        f"{args.output}: features of {len(held)} utterances ({hours:.2f} h), "
        f"{store.num_layers} hidden states of width {store.dim} in "
        f"{store.description['dtype']}"
    )


def _read_recordings(data_dir: Path, labels: Path | None) -> dict:
    from espnet_ext.corpora.datadir import read_data_dir
    from espnet_ext.corpora.labels import load_class_map
    from espnet_ext.features.extract import Recording, measure_durations

    data = read_data_dir(data_dir)
    chosen = data.utterances
    if labels is not None:
        class_map = load_class_map(labels)
        chosen = {u: x for u, x in chosen.items() if class_map.class_of(x) is not None}
        if not chosen:
            raise UserError(f"{labels}: keeps no utterance of {data_dir}")
    seconds = data.durations
    if not seconds:
        seconds = measure_durations({u: x.wav for u, x in chosen.items()})
    return {u: Recording(x.wav, seconds[u]) for u, x in chosen.items()}


def _device(ngpu: int, num_threads: int) -> str:
    import torch

    from espnet_ext.utils.device import device_of

    if num_threads > 0:
        torch.set_num_threads(num_threads)
    return device_of(ngpu)


if __name__ == "__main__":
    main()
