"""Fetch an upstream's weights on a machine that has a network.

Writes a Hugging Face folder, whatever the source. Copy it to where there is no network
and pass it to ser_extract with --upstream FOLDER: features and stores are the same.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from espnet_ext.errors import UserError, exit_on_user_error
from espnet_ext.utils.arguments import make_parser


def get_parser() -> argparse.ArgumentParser:
    """Make the command line."""
    parser = make_parser(__doc__)
    add = parser.add_argument
    add("--config", type=Path, required=True, help="conf/features/NAME.yaml")
    add("--output", type=Path, required=True, help="folder to write")
    return parser


@exit_on_user_error
def main(cmd: Sequence[str] | None = None) -> None:
    """Run the command."""
    args = get_parser().parse_args(cmd)
    if args.output.exists() and any(args.output.iterdir()):
        raise UserError(f"{args.output}: is there already; choose another --output")
    from espnet_ext.features.canonical_weights import Checkpoint
    from espnet_ext.features.config import load_feature_config
    from espnet_ext.features.huggingface import save_folder
    from espnet_ext.features.upstream import load_checkpoint

    config = load_feature_config(args.config)
    checkpoint = load_checkpoint(config.upstream)
    if not isinstance(checkpoint, Checkpoint):
        raise UserError(
            f"{config.upstream.name} runs through {config.upstream.source} and cannot "
            "be written as a Hugging Face folder. Weights that it has are in s3prl's "
            "cache now (~/.cache/s3prl): copy that to the other machine"
        )
    save_folder(checkpoint, args.output)
    print(f"{args.output}: weights of {config.upstream.name}; use --upstream with it")


if __name__ == "__main__":
    main()
