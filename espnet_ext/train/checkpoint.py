"""Checkpoints that survive a kill at any moment, also inside a save.

ESPnet's trainer writes, at the end of epoch n and in this order: ``checkpoint.pth``
(everything needed to go on), ``{n}epoch.pth`` (the model alone), links to the latest
and the best ones; then it removes models outside the n best, and after the last epoch
it averages those. All in place. Here

- before it writes ``checkpoint.pth``, that of the epoch before becomes
  ``checkpoint.previous.pth`` (`set_aside`), so that one of the two can be read always;
- before a resumed run, what a kill between or inside those steps left behind is put
  right from the checkpoint (`prepare_resume`).

So a kill costs at most the epoch that was running or being saved.
"""

import errno
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from espnet2.train.reporter import Reporter

from espnet_ext.errors import UserError
from espnet_ext.utils.atomic import atomic_file
from espnet_ext.utils.tensors import UNREADABLE

CHECKPOINT = "checkpoint.pth"
PREVIOUS = "checkpoint.previous.pth"


@contextmanager
def full_disk_named(folder: Path) -> Iterator[None]:
    """Name the disk where a save into `folder` fails; torch does not."""
    try:
        yield
    except RuntimeError as error:
        if not any(sign in str(error) for sign in ("StreamWriter", "unexpected pos")):
            raise
        free = shutil.disk_usage(folder).free / 2**20
        raise UserError(
            f"{folder}: a model could not be written; {free:.0f} MiB are free there. "
            "Make room and start again: the epochs before this one are kept"
        ) from error


def set_aside(folder: Path) -> None:
    """Keep the checkpoint as the previous one: the next is written in its place."""
    current = folder / CHECKPOINT
    if current.exists():
        with open(current, "rb") as stream:
            os.fsync(stream.fileno())  # it must outlive a power cut
        current.replace(folder / PREVIOUS)


def save_model(states: dict[str, Any], path: Path) -> None:
    """Write a model's parameters in one step."""
    with atomic_file(path) as temporary:
        torch.save(states, temporary)


def read_checkpoint(path: Path) -> dict[str, Any] | None:
    """Return a checkpoint's contents on the CPU, or None if it cannot be read."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        return None
    except (OSError, *UNREADABLE) as error:
        # torch's word for a zip that ends early; a disk that fails is another thing.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        logging.warning(f"{path} cannot be read: {error}")
        return None


def completed_epochs(folder: Path) -> int:
    """Return how many epochs the checkpoint in `folder` has behind it."""
    states = read_checkpoint(folder / CHECKPOINT)
    return 0 if states is None else states["reporter"]["epoch"]


def prepare_resume(
    folder: Path, best_model_criterion: Sequence[Sequence[str]], nbest: int
) -> None:
    """Put right what a kill left behind, so that ESPnet's own resume is exact.

    Falls back to the previous checkpoint if the last one cannot be read, writes the
    last epoch's model if the kill came before it, points the links where they belong
    and removes models that are not among the `nbest` of any criterion.

    Raises:
        UserError: neither of the two can be read.
    """
    for leftover in folder.glob(".tmp-*.pth-*"):
        leftover.unlink()
    states = _last_readable(folder)
    if states is None:
        return
    reporter = Reporter()
    reporter.load_state_dict(states["reporter"])
    epoch = reporter.get_epoch()
    model_file = folder / f"{epoch}epoch.pth"
    if read_checkpoint(model_file) is None:
        logging.info(f"writing {model_file} from {CHECKPOINT}")
        save_model(states["model"], model_file)
    links, wanted = {"latest.pth": epoch}, {epoch}
    for phase, key, mode in best_model_criterion:
        if reporter.has(phase, key):
            best = reporter.sort_epochs(phase, key, mode)[:nbest]
            wanted.update(best)
            links[f"{phase}.{key}.best.pth"] = best[0]
    for link, number in links.items():
        (folder / link).unlink(missing_ok=True)
        (folder / link).symlink_to(f"{number}epoch.pth")
    for unwanted in set(range(1, epoch)) - wanted:
        (folder / f"{unwanted}epoch.pth").unlink(missing_ok=True)


def _last_readable(folder: Path) -> dict[str, Any] | None:
    current, previous = folder / CHECKPOINT, folder / PREVIOUS
    states = read_checkpoint(current)
    if states is not None or not (current.exists() or previous.exists()):
        return states
    if not previous.exists() and not any(folder.glob("*epoch.pth")):
        logging.warning(f"{current} is removed: no epoch was saved before it")
        current.unlink()
        return None
    states = read_checkpoint(previous)
    if states is None:
        raise UserError(
            f"{current} cannot be read, and there is no earlier one to fall back to; "
            "remove it to train from the beginning"
        )
    logging.warning(f"going on from {previous}: one more epoch is repeated")
    previous.replace(current)
    return states
