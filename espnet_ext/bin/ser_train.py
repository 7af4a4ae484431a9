#!/usr/bin/env python3
"""Train a speech emotion recognition model (ESPnet's options, task SERTask)."""

import sys
from collections.abc import Sequence

from espnet_ext.errors import exit_on_user_error

HELP = """usage: ser_train.py --config YAML --output_dir DIR [--KEY VALUE ...]

Train a speech emotion recognition model with ESPnet's trainer.

  --config YAML       what is trained: conf/train_*.yaml, or the config.yaml of an
                      earlier training. Each of its keys is also an option (--max_epoch
                      5, --optim_conf lr=0.001), which is stronger; an unknown key is
                      an error
  --output_dir DIR    where it goes; what is begun there goes on (--resume false: anew)
  --class_list FILE   names of the classes, one a line
  --train_data_path_and_name_and_type PATH,NAME,TYPE, --valid_...
                      once for each of: STORE,speech,ser_features
                      SET/utt2class,emotion,text_int
                      SET/attributes,attributes,text_float
                      SET/utt2corpus,corpus,text
  --ngpu N, --seed N  GPUs [0]; seed of the training [0]
  --print_config      print every key with its value, defaults included
  --help_all          every option of ESPnet and of this package; takes up to a minute

espnet_ext/ser/README.md describes models, losses and batches. ./run.sh --dry_run prints
the whole command of each training of a recipe.
"""


@exit_on_user_error
def main(cmd: Sequence[str] | None = None) -> None:
    """Train, or print the help.

    Example:
        ``ser_train.py --config conf/train_multitask.yaml --output_dir exp/run ...``
    """
    arguments = list(sys.argv[1:] if cmd is None else cmd)
    if {"-h", "--help"} & {*arguments}:
        print(HELP, end="")
        return
    # Late: importing ESPnet's task takes several seconds.
    from espnet_ext.tasks.ser import SERTask

    if "--help_all" in arguments:
        SERTask.get_parser().print_help()
        return
    SERTask.main(cmd=arguments)


if __name__ == "__main__":
    main()
