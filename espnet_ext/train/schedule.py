"""Whether a learning rate schedule fits the corpus."""

SMALL = "conf/small"
# How the sentence begins; ./run.sh shows it, too.
MISFIT = "the warm-up of "


def describe_misfit(
    warmup_steps: int, steps_per_epoch: int, max_epoch: int
) -> str | None:
    """Say that the warm-up outlasts the training, and what to do; None if it does not.

    Args:
        warmup_steps: Of the scheduler; 0 without a warm-up.
        steps_per_epoch: Batches of an epoch.
        max_epoch: Epochs that the training may take, `max_steps` heeded.
    """
    steps = steps_per_epoch * max_epoch
    if warmup_steps <= steps:
        return None
    return (
        f"{MISFIT}{warmup_steps} steps is longer than the whole training "
        f"({max_epoch} epochs of {steps_per_epoch} steps: {steps}), so the learning "
        "rate never reaches its peak. These settings are for thousands of utterances; "
        f"for some hundred take the preset small: {SMALL}/train_<model>.yaml"
    )
