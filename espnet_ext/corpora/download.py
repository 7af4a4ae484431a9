"""Fetch the corpora that may be fetched: resumed, checked, unpacked.

A file grows beside its place as ``NAME.part``; what was fetched before a connection
broke, or the program was killed, is kept, and the same command goes on from there.
"""

import csv
import hashlib
import http.client
import re
import shutil
import sys
import tarfile
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from espnet_ext.errors import UserError
from espnet_ext.utils.atomic import atomic_dir

_BLOCK = 2**20
_TIMEOUT = 60
_SPOILED = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError)


@dataclass(frozen=True, slots=True)
class Remote:
    """A file to fetch.

    Attributes:
        url: Where it is.
        name: What it is called here.
        checksum: ``md5:...`` or ``sha256:...``; empty where its makers publish none.
        size: In bytes; None where only the server knows.
    """

    url: str
    name: str
    checksum: str = ""
    size: int | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """Where a corpus is, and on which terms.

    Attributes:
        license: Its license, and what that asks for.
        page: Where people find it.
        archives: zip or tar files that are unpacked into the corpus' folder.
        git_lfs: Address of the files of a GitHub repository, ``OWNER/NAME/BRANCH``,
            where the corpus is in git-lfs.
        inner: The folder in the archives that is the corpus' own, if there is one.
    """

    license: str
    page: str
    archives: tuple[Remote, ...] = ()
    git_lfs: str = ""
    inner: str = ""


SOURCES = {
    "emodb": Source(
        license="EmoDB, free for research (newer releases: CC BY 4.0); cite F. "
        "Burkhardt et al., Interspeech 2005",
        page="http://emodb.bilderbar.info",
        archives=(
            Remote("http://emodb.bilderbar.info/download/download.zip", "emodb.zip"),
        ),
    ),
    "ravdess": Source(
        license="RAVDESS, CC BY-NC-SA 4.0: not for commercial use; cite S. R. "
        "Livingstone and F. A. Russo, PLoS ONE 13(5), 2018",
        page="https://zenodo.org/records/1188976",
        archives=(
            Remote(
                "https://zenodo.org/records/1188976/files/Audio_Speech_Actors_01-24.zip",
                "Audio_Speech_Actors_01-24.zip",
                "md5:bc696df654c87fed845eb13823edef8a",
            ),
        ),
    ),
    "meld": Source(
        license="MELD, GPL-3.0, made of the series Friends, for research; cite S. "
        "Poria et al., ACL 2019. 11 GB",
        page="https://affective-meld.github.io",
        archives=(
            Remote(
                "https://huggingface.co/datasets/declare-lab/MELD/resolve/main/"
                "MELD.Raw.tar.gz",
                "MELD.Raw.tar.gz",
            ),
        ),
        inner="MELD.Raw",
    ),
    "crema_d": Source(
        license="CREMA-D, ODbL 1.0 (its contents DbCL 1.0); cite H. Cao et al., IEEE "
        "Transactions on Affective Computing 5(4), 2014",
        page="https://github.com/CheyneyComputerScience/CREMA-D",
        git_lfs="CheyneyComputerScience/CREMA-D/master",
    ),
}
"""The corpora that can be fetched; of the others nobody but their makers may give."""

_ELSEWHERE = {
    "iemocap": "https://sail.usc.edu/iemocap/iemocap_release.htm",
    "msp_podcast": "https://lab-msp.com/MSP/MSP-Podcast.html",
}

# Hosts of a GitHub repository's text files and of its git-lfs files.
_TEXTS = "https://raw.githubusercontent.com"
_MEDIA = "https://media.githubusercontent.com/media"


def source_of(corpus: str) -> Source:
    """Return where a corpus is.

    Raises:
        UserError: It cannot be fetched; says where to get it.
    """
    if corpus in SOURCES:
        return SOURCES[corpus]
    where = _ELSEWHERE.get(corpus)
    hint = f"ask its makers for it: {where}" if where else "nobody knows where it is"
    raise UserError(
        f"--download: {corpus} cannot be fetched; {hint}. There are "
        f"{', '.join(SOURCES)}"
    )


def accept_license(source: Source, accepted: bool) -> None:
    """Make sure that the user agrees to the terms of a corpus.

    Raises:
        UserError: They do not, or nobody can be asked.
    """
    print(f"License: {source.license}\n  {source.page}", flush=True)
    if accepted:
        return
    if not sys.stdin.isatty():
        raise UserError(
            "the license above must be accepted: read it, then add --accept_license "
            "true"
        )
    if input("Do you accept it? [yes/no] ").strip().lower() not in ("y", "yes"):
        raise UserError("without accepting its license, the corpus is not fetched")


def download_corpus(source: Source, root: Path, attempts: int = 8) -> None:
    """Fetch and unpack a corpus; what is there already is kept.

    Args:
        source: Where it is.
        root: Folder to make; archives are kept in ``ROOT.archives`` until all is
            unpacked.
        attempts: How often a broken connection is tried again without progress.

    Raises:
        UserError: Something cannot be fetched or is not what it should be.
    """
    if root.is_dir() and any(root.iterdir()):
        print(f"{root}: is there already")
        return
    kept = root.with_name(f"{root.name}.archives")
    kept.mkdir(parents=True, exist_ok=True)
    if source.git_lfs:
        _fetch_git_lfs(source, kept, attempts)
        if root.is_dir():
            root.rmdir()
        kept.rename(root)
        return
    try:
        for remote in source.archives:
            fetch(remote, kept / remote.name, source.page, attempts)
        with atomic_dir(root) as folder:
            for remote in source.archives:
                unpack(kept / remote.name, folder, remote.url)
            if source.inner and (folder / source.inner).is_dir():
                for path in (folder / source.inner).iterdir():
                    path.rename(folder / path.name)
                (folder / source.inner).rmdir()
    except UserError as error:
        raise UserError(
            f"{error}\nBy hand: {source.page}, unpacked in {root}"
        ) from None
    shutil.rmtree(kept)
    print(f"{root}: fetched and unpacked")


def fetch(
    remote: Remote,
    path: Path,
    page: str = "",
    attempts: int = 8,
    pause: Callable[[int], float] = lambda failures: min(60.0, 2.0**failures),
    quiet: bool = False,
) -> None:
    """Fetch a file, going on where an earlier call or a broken connection ended.

    Args:
        remote: The file.
        path: Where it goes.
        page: Where else it can be had, for messages.
        attempts: How often to try again in a row without a byte of progress.
        pause: Seconds to wait after so many failures in a row.
        quiet: Whether progress is not shown.

    Raises:
        UserError: The server refuses, the connection does not come back, or size or
            checksum are wrong.
    """
    if path.exists():
        return
    partial = path.with_name(f"{path.name}.part")
    failures = 0
    while True:
        before = partial.stat().st_size if partial.exists() else 0
        try:
            total = _fetch_rest(remote, partial, before, quiet)
            break
        except urllib.error.HTTPError as error:
            if error.code < 500:
                hint = f"; get it from {page}" if page else ""
                raise UserError(
                    f"{remote.url}: the server says {error.code} {error.reason}{hint}"
                ) from error
            reason = f"{error.code} {error.reason}"
        except (OSError, http.client.HTTPException) as error:
            reason = str(getattr(error, "reason", error)) or type(error).__name__
        grown = partial.exists() and partial.stat().st_size > before
        failures = 1 if grown else failures + 1
        if failures >= attempts:
            raise UserError(
                f"{remote.url}: the connection broke ({reason}); the same command goes "
                "on where it ended"
            )
        time.sleep(pause(failures))
    _check(remote, partial, total)
    partial.rename(path)


def _fetch_rest(remote: Remote, partial: Path, have: int, quiet: bool) -> int | None:
    """Append what is missing; return the whole size, where the server tells it.

    Raises:
        OSError: The connection broke.
    """
    if remote.size is not None and have == remote.size:
        return have
    headers = {"User-Agent": "espnet_ext", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    request = urllib.request.Request(remote.url, headers=headers)
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not have:
            raise
        # Nothing lies beyond: it is complete, or another file. The checks tell.
        match = re.fullmatch(r"bytes \*/(\d+)", error.headers.get("Content-Range", ""))
        return int(match[1]) if match else None
    with response:
        resumed = response.status == 206
        start = have if resumed else 0  # a server without ranges sends it all again
        length = response.headers.get("Content-Length")
        total = None if length is None else start + int(length)
        got = start
        with (
            open(partial, "ab" if resumed else "wb") as stream,
            tqdm(
                desc=remote.name,
                total=total,
                initial=start,
                unit="B",
                unit_scale=True,
                disable=quiet,
            ) as bar,
        ):
            while block := response.read(_BLOCK):
                stream.write(block)
                got += len(block)
                bar.update(len(block))
    if total is not None and got < total:
        raise OSError(f"it ended after {got} of {total} bytes")
    return total


def _check(remote: Remote, path: Path, total: int | None) -> None:
    """Compare size and checksum; a wrong file is removed."""
    size = path.stat().st_size
    wanted = remote.size if remote.size is not None else total
    fault = ""
    if wanted is not None and size != wanted:
        fault = f"has {size} bytes and not {wanted}"
    elif remote.checksum:
        kind, _, value = remote.checksum.partition(":")
        with open(path, "rb") as stream:
            found = hashlib.file_digest(stream, kind).hexdigest()
        if found != value.lower():
            fault = f"has the {kind} {found} and not {value}"
    if fault:
        path.unlink()
        raise UserError(
            f"{remote.url}: what came {fault}; it was removed. Start again; if that "
            "comes again, the file has changed, or something on the way changes it"
        )


def unpack(archive: Path, folder: Path, url: str = "") -> None:
    """Unpack a zip or tar file, and the tar files in it.

    Raises:
        UserError: It is damaged; it is removed, so that it is fetched again.
    """
    print(f"unpacking {archive.name}", flush=True)
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as opened:
                opened.extractall(folder)  # compares each file's CRC
        else:
            with tarfile.open(archive) as opened:
                opened.extractall(folder, filter="data")
        for inner in sorted(folder.rglob("*.tar.gz")):
            with tarfile.open(inner) as opened:
                opened.extractall(inner.parent, filter="data")
            inner.unlink()
    except _SPOILED as error:
        archive.unlink()
        raise UserError(
            f"{url or archive}: the archive is damaged ({error}); it was removed, "
            "start again"
        ) from error


def _fetch_git_lfs(source: Source, folder: Path, attempts: int) -> None:
    """Fetch CREMA-D's files one by one; their pointers in git hold size and sha256."""
    for name in ("SentenceFilenames.csv", "VideoDemographics.csv"):
        url = f"{_TEXTS}/{source.git_lfs}/{name}"
        fetch(Remote(url, name), folder / name, source.page, attempts)
    names = list(_recordings(folder / "SentenceFilenames.csv"))
    audio = folder / "AudioWAV"
    audio.mkdir(exist_ok=True)

    def fetch_one(name: str) -> None:
        path = audio / name
        if not path.exists():
            remote = _git_lfs_file(source, f"AudioWAV/{name}", audio, attempts)
            fetch(remote, path, source.page, attempts, quiet=True)

    with ThreadPoolExecutor(8) as pool:
        bar = tqdm(pool.map(fetch_one, names), total=len(names), unit="file")
        for _ in bar:
            pass


def _recordings(table: Path) -> Iterator[str]:
    with open(table, newline="", encoding="utf-8-sig") as stream:
        for row in csv.DictReader(stream):
            if name := (row.get("Filename") or "").strip():
                yield f"{name.removesuffix('.wav')}.wav"


def _git_lfs_file(source: Source, name: str, folder: Path, attempts: int) -> Remote:
    """Read the pointer of a file in git-lfs."""
    pointer = folder / f".{Path(name).name}.pointer"
    url = f"{_TEXTS}/{source.git_lfs}/{name}"
    fetch(Remote(url, pointer.name), pointer, source.page, attempts, quiet=True)
    text = pointer.read_text(encoding="utf-8", errors="replace")
    pointer.unlink()
    found = re.search(r"oid sha256:([0-9a-f]{64})\s+size (\d+)", text)
    if found is None:
        raise UserError(f"{url}: is no git-lfs pointer; get it from {source.page}")
    url = f"{_MEDIA}/{source.git_lfs}/{name}"
    return Remote(url, Path(name).name, f"sha256:{found[1]}", int(found[2]))
