"""Writes the built-in corpora and the tiny checkpoint, each in one step."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from espnet_ext.errors import UserError
from espnet_ext.mini import iemocap, msp_podcast, upstream
from espnet_ext.mini.speech import require_synthesizer
from espnet_ext.mini.tree import LICENSE
from espnet_ext.utils.atomic import atomic_dir

_CORPORA = {"iemocap": iemocap, "msp_podcast": msp_podcast}
_SMALLEST = 0.1


def generate(
    output: Path, *, seed: int, corpora: Sequence[str], upstream_too: bool, scale: float
) -> Iterator[Path]:
    """Write corpora and checkpoint below `output`, and yield each finished folder.

    A folder appears (or replaces an older one) only when it is whole.

    Args:
        output: Parent of the folders.
        seed: The same seed gives the same bytes.
        corpora: Of ``iemocap`` and ``msp_podcast``.
        upstream_too: Whether to write the checkpoint.
        scale: Factor on the number of utterances of each label, one at least.

    Raises:
        UserError: The scale is out of range, the synthesizer is missing or fails, or
            something lies there that was not generated.
    """
    if not _SMALLEST <= scale <= 100:
        raise UserError(
            f"scale {scale} is not between {_SMALLEST} and 100: below, the dialogs of "
            "a session could not all be filled"
        )
    if corpora:
        require_synthesizer()
    if upstream_too:
        upstream.write_tiny_hubert(output / upstream.FOLDER, seed)
        yield output / upstream.FOLDER
    for name in corpora:
        path = output / _CORPORA[name].FOLDER
        _check_replaceable(path)
        with atomic_dir(path) as new:
            _CORPORA[name].write_corpus(new, seed, scale)
        yield path


def _check_replaceable(path: Path) -> None:
    """Raise UserError for what was not generated: a real corpus has the same name."""
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    license_file = path / "LICENSE.txt"
    own = LICENSE.splitlines()[0].encode()
    if not license_file.is_file() or not license_file.read_bytes().startswith(own):
        raise UserError(
            f"{path} holds something that was not generated here, and is left alone. "
            "Is it a corpus of yours? Then name it with --corpus (run.sh), or choose "
            "another folder"
        )
