"""ser_train with a pause at each epoch, until its job has been started again.

The numbers are the same, and a test can see it in the middle without haste.
"""

import os
import time

PAUSE = 1.0  # seconds


def main(cmd=None):
    from espnet_ext.bin import ser_train
    from espnet_ext.train.trainer import SERTrainer

    original = SERTrainer.train_one_epoch.__func__

    def train_one_epoch(cls, *args, **kwargs):
        time.sleep(PAUSE)
        return original(cls, *args, **kwargs)

    if "SLURM_RESTART_COUNT" not in os.environ:
        SERTrainer.train_one_epoch = classmethod(train_one_epoch)
    ser_train.main(cmd)
