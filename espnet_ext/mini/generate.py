"""Writes the built-in corpora and the tiny checkpoint, each in one step."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from espnet_ext.errors import UserError
from espnet_ext.mini import iemocap, msp_podcast, upstream
from espnet_ext.mini.speech import require_synthesizer
from espnet_ext.mini.tree import LICENSE, MiniSize
from espnet_ext.utils.atomic import atomic_dir

_CORPORA = {"iemocap": iemocap, "msp_podcast": msp_podcast}


def generate(
    output: Path,
    *,
    seed: int,
    corpora: Sequence[str],
    with_upstream: bool,
    size: MiniSize,
) -> Iterator[Path]:
    """Write corpora and checkpoint below `output`.

    Each folder appears (or replaces an older one) only when it is whole.

    Args:
        output: Parent of ``IEMOCAP_full_release``, ``MSP-PODCAST-1.8`` and
            ``hubert_tiny``.
        seed: The same seed gives the same bytes.
        corpora: Of ``iemocap`` and ``msp_podcast``.
        with_upstream: Whether to write the checkpoint.
        size: How large the corpora are.

    Yields:
        The path of each finished folder.

    Raises:
        UserError: The synthesizer is missing or fails, or something lies there that
            was not generated.
    """
    if corpora:
        require_synthesizer()
    if with_upstream:
        upstream.write_tiny_hubert(output / upstream.FOLDER, seed)
        yield output / upstream.FOLDER
    for name in corpora:
        corpus = _CORPORA[name]
        path = output / corpus.FOLDER
        _check_replaceable(path)
        total = corpus.number_of_utterances(size)
        with (
            atomic_dir(path) as new,
            tqdm(total=total, desc=f"{path}", unit="utt") as progress,
        ):
            corpus.write_corpus(new, seed, size, progress.update)
        yield path


def _check_replaceable(path: Path) -> None:
    """See that nobody's real corpus is replaced: it has the same name.

    Raises:
        UserError: The folder holds something that was not generated here.
    """
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
