"""Upload a package to the Hugging Face Hub, where ``OWNER/NAME`` then names it."""

import re
import tempfile
from pathlib import Path

from espnet_ext.errors import UserError
from espnet_ext.inference.card import model_card
from espnet_ext.inference.info import read_info
from espnet_ext.inference.pack import CARD, MODEL, MODELS, UPSTREAM, require_licence
from espnet_ext.inference.package import read_meta, unpack

# What an earlier package of the same repository may have had; all else is replaced.
_OLD = (MODEL, f"{MODELS}/*", f"{UPSTREAM}/*")


def check_repo(repo: str) -> None:
    """Raise a `UserError` if `repo` is not ``OWNER/NAME``."""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo, re.ASCII):
        raise UserError(f"--hf_repo {repo}: a repository is OWNER/NAME")


def upload_package(package: Path, repo: str, *, licence_ack: bool = False) -> str:
    """Upload the content of a package as one commit; make the repository if need be.

    Files that the hub holds, from an upload that was cut too, are not sent again. The
    token is that of ``HF_TOKEN`` or ``hf auth login``.

    Args:
        package: The zip.
        repo: ``OWNER/NAME``.
        licence_ack: As in `pack.pack_experiment`.

    Returns:
        Address of the commit.

    Raises:
        UserError: It is no package, the licenses are not confirmed, or the hub
            refuses.
    """
    from huggingface_hub import HfApi

    check_repo(repo)
    if not package.is_file():
        raise UserError(f"{package}: no such package; make it with ser pack")
    with tempfile.TemporaryDirectory(prefix="ser-") as name:
        folder = Path(name)
        unpack(package, folder)
        info = read_info(read_meta(folder)["ser_info"])
        require_licence(info, licence_ack=licence_ack)
        card = model_card(info, info.labels(), repo)  # its examples name the repository
        (folder / CARD).write_text(card, encoding="utf-8")
        api = HfApi()
        try:
            api.create_repo(repo, exist_ok=True)
            made = api.upload_folder(
                repo_id=repo,
                folder_path=folder,
                commit_message=f"Upload {info.name}",
                delete_patterns=list(_OLD),
            )
        except Exception as error:  # its errors share no base class
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UserError(
                f"{repo}: the upload failed ({reason}). Is there a network, and a "
                "token that may write (hf auth login, or HF_TOKEN)? The same command "
                "goes on from here"
            ) from error
    return str(made.commit_url)
