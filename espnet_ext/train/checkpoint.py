"""Checkpoints that survive a kill at any moment, also inside a save.

ESPnet's trainer writes, at the end of epoch n and in this order: ``checkpoint.pth``
(everything needed to go on), ``{n}epoch.pth`` (the model alone), links to the latest
and the best ones; then it removes models outside the n best, and after the last epoch
it averages those. All in place. Here

- every save goes to a temporary file that is flushed and renamed (`atomic_saves`), and
  the last but one ``checkpoint.pth`` stays as ``checkpoint.previous.pth``;
- before a resumed run, what a kill between two of those steps left behind is put right
  from the checkpoint (`prepare_resume`).

So a kill costs at most the epoch that was running.
"""

import logging
import os
import pickle
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from espnet2.train.reporter import Reporter

from espnet_ext.errors import UserError
from espnet_ext.utils.atomic import atomic_file

CHECKPOINT = "checkpoint.pth"
PREVIOUS = "checkpoint.previous.pth"

# What torch.load raises on a truncated or foreign file; its unpickler, fed with noise,
# may stumble in many ways.
UNREADABLE = (
    RuntimeError,
    pickle.UnpicklingError,
    EOFError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
)


@contextmanager
def atomic_saves() -> Iterator[None]:
    """Within the block, `torch.save` to a path writes aside and renames.

    ESPnet's trainer calls ``torch.save`` in the middle of one long method, so the
    function itself is exchanged for the time of the block; it comes back afterwards
    whatever happens. Saves to open streams are left alone.
    """
    original = torch.save

    def save(obj: object, f: Any, *args: Any, **kwargs: Any) -> None:
        if not isinstance(f, str | os.PathLike):
            original(obj, f, *args, **kwargs)
            return
        path = Path(f)
        with atomic_file(path) as temporary:
            try:
                original(obj, temporary, *args, **kwargs)
            except RuntimeError as error:
                # torch's writer tells a full disk by "unexpected pos".
                free = shutil.disk_usage(path.parent).free / 2**20
                raise UserError(
                    f"{path} could not be written; {free:.0f} MiB are free there. Make "
                    "room and start again: the epochs before this one are kept"
                ) from error
            if path.name == CHECKPOINT and path.exists():
                _keep_aside(path)

    torch.save = save
    try:
        yield
    finally:
        torch.save = original


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """Return a checkpoint's contents on the CPU, or None if it cannot be read."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        return None
    except UNREADABLE as error:
        logging.warning(f"{path} cannot be read: {error}")
        return None


def completed_epochs(output_dir: Path) -> int:
    """Return how many epochs the checkpoint in `output_dir` has behind it."""
    states = load_checkpoint(output_dir / CHECKPOINT)
    return 0 if states is None else states["reporter"]["epoch"]


def prepare_resume(
    output_dir: Path, best_model_criterion: Sequence[Sequence[str]], nbest: int
) -> None:
    """Put right what a kill left behind, so that ESPnet's own resume is exact.

    Removes unfinished temporary files, falls back to the previous checkpoint if the
    last one cannot be read, writes the last epoch's model if the kill came before it,
    points the links where they belong and removes models that are not among the
    `nbest` of any criterion. Does nothing where nothing was trained.

    Raises:
        UserError: neither the checkpoint nor the previous one can be read.
    """
    for leftover in output_dir.glob(".tmp-*.pth-*"):
        leftover.unlink()
    states = _last_readable(output_dir)
    if states is None:
        return
    reporter = Reporter()
    reporter.load_state_dict(states["reporter"])
    epoch = reporter.get_epoch()
    model_file = output_dir / f"{epoch}epoch.pth"
    if load_checkpoint(model_file) is None:
        logging.info(f"writing {model_file} from {CHECKPOINT}")
        with atomic_saves():
            torch.save(states["model"], model_file)
    _link(output_dir / "latest.pth", model_file.name)
    wanted = {epoch}
    for phase, key, mode in best_model_criterion:
        if reporter.has(phase, key):
            best = reporter.sort_epochs(phase, key, mode)[:nbest]
            wanted.update(best)
            _link(output_dir / f"{phase}.{key}.best.pth", f"{best[0]}epoch.pth")
    for unwanted in set(range(1, epoch)) - wanted:
        (output_dir / f"{unwanted}epoch.pth").unlink(missing_ok=True)


def _last_readable(output_dir: Path) -> dict[str, Any] | None:
    current, previous = output_dir / CHECKPOINT, output_dir / PREVIOUS
    states = load_checkpoint(current)
    if states is not None or not (current.exists() or previous.exists()):
        return states
    states = load_checkpoint(previous)
    if states is None:
        raise UserError(
            f"{current} cannot be read, and there is no earlier one to fall back to; "
            "remove it to train from the beginning"
        )
    logging.warning(f"going on from {previous}: one more epoch is repeated")
    with atomic_file(current) as temporary:
        shutil.copyfile(previous, temporary)
    return states


def _keep_aside(path: Path) -> None:
    """Make ``checkpoint.previous.pth`` another name of the file at `path`."""
    temporary = path.with_name(f".tmp-{PREVIOUS}-{os.getpid()}")
    temporary.unlink(missing_ok=True)
    try:
        os.link(path, temporary)
    except OSError:  # a file system without hard links
        shutil.copyfile(path, temporary)
    os.replace(temporary, path.with_name(PREVIOUS))
    # Renaming a file onto another name of itself leaves both names there.
    temporary.unlink(missing_ok=True)


def _link(link: Path, target: str) -> None:
    link.unlink(missing_ok=True)
    link.symlink_to(target)
