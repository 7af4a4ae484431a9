"""Audio containers: how much audio a file's header promises, and how much is there.

libsndfile reads a file that a broken copy cut off as if it were whole. So the headers
of wav files are read here too. Three cases differ:

- The header promises more than the file holds: the recording is cut off.
- The header holds a placeholder (2 GB and the like), as writers leave that cannot go
  back to put the length in: a stream, which is as long as the file.
- The length is 0 and audio follows: a writer that was killed before it put the length
  in. It is read as a stream too, for nothing contradicts what is there.
"""

import math
import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

PLACEHOLDER = 0x7F000000
"""Lengths from here on are no lengths: sox writes 0x7F000000 and 0x7FFFF000, GStreamer
0x7FFF0000, ALSA 0x80000000, ffmpeg 0xFFFFFFFF; less than 2 GB by a header at most."""

STREAMED = "no length in its header (a stream; read to its end)"
UNFINISHED = "length 0 in its header (writer killed; read to its end)"

_ORDERS = {b"RIFF": "<", b"RF64": "<", b"BW64": "<", b"RIFX": ">"}
_MAX_PAGE = 65307  # bytes of the longest Ogg page
_SPHERE = re.compile(rb"(?:sample_count|channel_count|sample_n_bytes) -i (\d+)")
_PLAIN = (1, 3, 0xFFFE)  # codes of PCM, float and "see the sub-format"


@dataclass(frozen=True, slots=True)
class Header:
    """What a wav file tells of its audio."""

    format: bytes  # the fmt chunk
    order: str  # of bytes, < or >
    start: int  # where the audio begins
    promised: int  # bytes of audio that the header tells
    held: int  # bytes of audio that are there
    remark: str  # STREAMED, UNFINISHED or empty

    @property
    def is_cut(self) -> bool:
        """Whether a sample (of all channels; of a codec a block) or more is missing."""
        block = max(1, self._numbers()[4])
        return not self.remark and self.promised - self.held >= block

    @property
    def promised_seconds(self) -> float:
        """The duration that the header tells."""
        code, _, rate, byte_rate, block = self._numbers()
        return self.promised / max(1, block * rate if code in _PLAIN else byte_rate)

    def _numbers(self) -> tuple[int, ...]:
        """Return the format's code, channels, rate, bytes a second, block's bytes."""
        return struct.unpack(f"{self.order}HHIIH", self.format[:14])


def read_header(file: int) -> Header | None:
    """Read the header of an open file; its position is not moved.

    Returns:
        None for another format, or a header that ends too early.
    """
    head = os.pread(file, 12, 0)
    order = _ORDERS.get(head[:4])
    if order is None or head[8:] != b"WAVE":
        return None
    size = os.fstat(file).st_size
    format_, long_length = b"", None
    for name, start, length in _chunks(file, 12, order):
        if name == b"fmt ":
            format_ = os.pread(file, length, start)
        elif name == b"ds64":  # of RF64: lengths of more than 4 GB
            (long_length,) = struct.unpack("<Q", os.pread(file, 16, start)[8:])
        elif name == b"data":
            break
    else:
        return None
    if len(format_) < 14:
        return None
    if long_length is not None and length == 0xFFFFFFFF:
        length = long_length
    rest, remark = size - start, ""
    if length == 0 and rest and not _ends_with_chunks(file, start, size, order):
        remark = UNFINISHED
    elif length > rest and length >= PLACEHOLDER:
        remark = STREAMED
    held = rest if remark else min(length, rest)
    return Header(format_, order, start, length, held, remark)


def _chunks(file: int, place: int, order: str) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, start and length of each chunk, until what follows is none."""
    while len(head := os.pread(file, 8, place)) == 8:
        name, length = struct.unpack(f"{order}4sI", head)
        if not (name.isascii() and name.decode().isprintable()):
            return
        yield name, place + 8, length
        place += 8 + length
        # Odd chunks are padded by a zero, which some writers forget.
        place += length % 2 and os.pread(file, 1, place) == b"\0"


def _ends_with_chunks(file: int, place: int, size: int, order: str) -> bool:
    """Whether chunks, and no audio, fill the rest of a file."""
    ends = [start + length for _, start, length in _chunks(file, place, order)]
    return bool(ends) and ends[-1] in (size, size - 1)


def rebuilt(file: int, header: Header) -> BytesIO:
    """Return a file's format and audio under a header with the true length.

    libsndfile takes a length of 0 as it is, and stops at chunks without their padding.
    """
    audio = os.pread(file, header.held, header.start)
    body = b"WAVE"
    for name, content in ((b"fmt ", header.format), (b"data", audio)):
        length = struct.pack(f"{header.order}I", len(content))
        body += name + length + content + b"\0" * (len(content) % 2)
    name = b"RIFF" if header.order == "<" else b"RIFX"
    return BytesIO(name + struct.pack(f"{header.order}I", len(body)) + body)


def lacks_end(path: Path | str) -> bool:
    """Whether an Ogg or SPHERE file is cut off, of which libsndfile says nothing."""
    with open(path, "rb") as stream:
        head = stream.read(1024)
        size = os.fstat(stream.fileno()).st_size
        stream.seek(max(0, size - _MAX_PAGE))
        tail = stream.read()
    if head.startswith(b"NIST_1A") and b"-s3 pcm" in head:
        return size < int(head[8:16]) + math.prod(map(int, _SPHERE.findall(head)))
    if head.startswith(b"OggS"):
        page = tail[tail.rfind(b"OggS") :]  # its table has the lengths of its parts
        return len(page) < 27 or len(page) < 27 + page[26] + sum(page[27:][: page[26]])
    return False
