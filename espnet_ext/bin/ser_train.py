#!/usr/bin/env python3
"""Train a speech emotion recognition model (ESPnet's options, task SERTask)."""

import argparse
import sys
from collections.abc import Sequence

from espnet_ext.errors import exit_on_user_error


def get_parser() -> argparse.ArgumentParser:
    """Return the task's parser; importing it takes several seconds."""
    from espnet_ext.tasks.ser import SERTask

    return SERTask.get_parser()


@exit_on_user_error
def main(cmd: Sequence[str] | None = None) -> None:
    """Check the configuration file, then train.

    Example:
        ``ser_train.py --config conf/train_multitask.yaml --output_dir exp/run ...``
    """
    # Late: importing ESPnet's task takes several seconds.
    from espnet_ext.tasks.config import check_config, read_config
    from espnet_ext.tasks.ser import SERTask

    arguments = list(sys.argv[1:] if cmd is None else cmd)
    finder = argparse.ArgumentParser(add_help=False)
    finder.add_argument("--config")
    config_file = finder.parse_known_args(arguments)[0].config
    if config_file is not None:
        check_config(read_config(config_file), [config_file])
    SERTask.main(cmd=arguments)


if __name__ == "__main__":
    main()
