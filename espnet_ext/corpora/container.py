"""Audio containers: how much audio a file's header promises, and how much is there.

libsndfile reads a file that a broken copy cut off as if it were whole. So the header is
read here too. Three cases differ:

- The header promises more than the file holds: the recording is cut off.
- The header holds a placeholder (2 GB and the like), as writers leave that cannot go
  back to put the length in: a stream, which is as long as the file.
- The length is 0 and audio follows: a writer that was killed before it put the length
  in. It is read as a stream too, for nothing contradicts what is there.

Formats that are not known here have no `Header`; their decoders tell what they miss.
"""

import os
import re
import struct
from dataclasses import dataclass
from io import BytesIO

PLACEHOLDER = 0x7F000000
"""Lengths from here on are no lengths: sox writes 0x7F000000 and 0x7FFFF000, GStreamer
0x7FFF0000, ALSA 0x80000000, ffmpeg 0xFFFFFFFF; less than 2 GB by a header at most."""

STREAMED = "no length in its header (a stream; read to its end)"
UNFINISHED = "length 0 in its header (writer killed; read to its end)"
NO_END = "no end mark (ogg; the end may be missing)"

_HEAD = 4096
_MAX_PAGE = 65307  # bytes of the longest Ogg page
_SPHERE = re.compile(
    rb"(sample_count|sample_rate|channel_count|sample_n_bytes) -i (\d+)"
)
_PLAIN = (1, 3, 0xFFFE)  # RIFF's codes of PCM, float and "see the sub-format"


@dataclass(frozen=True, slots=True)
class Header:
    """What is known of a file's audio before it is decoded.

    Attributes:
        promised: Bytes of audio that the header tells.
        held: Bytes of audio that are there.
        block: Bytes that make a sample of all channels, or a block of a codec.
        byte_rate: Bytes a second, 0 where the header does not tell.
        start: Where the audio begins.
        format: A RIFF file's ``fmt`` chunk, else empty.
        order: Byte order of a RIFF file, ``<`` or ``>``.
        remark: `STREAMED`, `UNFINISHED`, `NO_END` or empty.
    """

    promised: int
    held: int
    block: int = 1
    byte_rate: float = 0.0
    start: int = 0
    format: bytes = b""
    order: str = "<"
    remark: str = ""

    @property
    def is_cut(self) -> bool:
        """Whether a sample or more is missing."""
        return not self.remark and self.promised - self.held >= self.block

    def promised_seconds(self, held_seconds: float) -> float:
        """Return the duration that the header tells, 0 where it cannot be known."""
        if self.byte_rate:
            return self.promised / self.byte_rate
        return held_seconds * self.promised / self.held if self.held else 0.0


def read_header(file: int) -> Header | None:
    """Read the header of an open file; its position is not moved.

    Returns:
        None for a format that is not known here, or a header that ends too early.
    """
    head = os.pread(file, _HEAD, 0)
    size = os.fstat(file).st_size
    try:
        if head[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64") and head[8:12] == b"WAVE":
            return _riff(file, head, size)
        if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
            return _aiff(file, head, size)
    except struct.error:  # the file ends inside its header
        return None
    if head.startswith(b"OggS"):
        return _ogg(os.pread(file, size, max(0, size - _MAX_PAGE)))
    if head.startswith(b"NIST_1A"):
        return _nist(head, size)
    return None


def _chunk(file: int, head: bytes, place: int, order: str) -> tuple[bytes, int]:
    """Return the name and the length of the chunk at `place`."""
    raw = head[place : place + 8]
    return struct.unpack(
        f"{order}4sI", raw if len(raw) == 8 else os.pread(file, 8, place)
    )


def _is_name(name: bytes) -> bool:
    return name.isascii() and name.decode().isprintable()


def _after(file: int, head: bytes, end: int, order: str) -> int:
    """Return where the chunk after one that ends at `end` begins.

    Odd chunks are padded by a byte, which some writers forget.
    """
    if not end % 2:
        return end
    name = _chunk(file, head, end, order)[0]
    return end if name in (b"data", b"fmt ", b"fact", b"LIST") else end + 1


def _riff(file: int, head: bytes, size: int) -> Header | None:
    order = ">" if head.startswith(b"RIFX") else "<"
    place, format_, long_length = 12, b"", None
    name, length = _chunk(file, head, place, order)
    while name != b"data":
        if not _is_name(name):
            return None
        if name == b"fmt ":
            format_ = os.pread(file, min(length, _HEAD), place + 8)
        elif name == b"ds64":
            (long_length,) = struct.unpack("<Q", os.pread(file, 8, place + 16))
        place = _after(file, head, place + 8 + length, order)
        name, length = _chunk(file, head, place, order)
    start = place + 8
    if long_length is not None and length == 0xFFFFFFFF:
        length = long_length
    code, _, rate, byte_rate, block = struct.unpack(f"{order}HHIIH", format_[:14])
    if code in _PLAIN:
        byte_rate = block * rate
    held = min(length, size - start)
    remark = ""
    if length == 0 and size - start >= max(block, 1):
        if not _only_chunks(file, head, start, size, order):
            held, remark = size - start, UNFINISHED
    elif length > held and length >= PLACEHOLDER:
        remark = STREAMED
    return Header(length, held, max(block, 1), byte_rate, start, format_, order, remark)


def _only_chunks(file: int, head: bytes, place: int, size: int, order: str) -> bool:
    """Whether well-formed chunks, and no audio, fill the rest of a file."""
    while place + 8 <= size:
        name, length = _chunk(file, head, place, order)
        if not _is_name(name):
            return False
        place += 8 + length + length % 2
    return place in (size, size + 1)


def _aiff(file: int, head: bytes, size: int) -> Header | None:
    place, block, byte_rate = 12, 1, 0.0
    name, length = _chunk(file, head, place, ">")
    while name != b"SSND":
        if not _is_name(name):
            return None
        if name == b"COMM":
            common = os.pread(file, min(length, 22), place + 8)
            channels, _, bits, exponent, mantissa = struct.unpack(">HIHHQ", common[:18])
            if common[18:] in (b"", b"NONE", b"sowt"):
                block = max(1, channels * (bits + 7) // 8)
                # The rate is an 80-bit float: 15 bits of exponent, 64 of mantissa.
                byte_rate = block * mantissa * 2.0 ** ((exponent & 0x7FFF) - 16446)
        place = _after(file, head, place + 8 + length, ">")
        name, length = _chunk(file, head, place, ">")
    (offset,) = struct.unpack(">I", os.pread(file, 4, place + 8))
    start = place + 16 + offset
    promised, held = length - 8 - offset, max(0, size - start)
    remark = ""
    if held and (length == 0 or (promised > held and length >= PLACEHOLDER)):
        remark = STREAMED if length else UNFINISHED
    return Header(promised, min(promised, held), block, byte_rate, start, remark=remark)


def _ogg(tail: bytes) -> Header:
    """Look at the last page, whose table lists what is in it; no total is told."""
    place = tail.rfind(b"OggS")
    page = tail[place:]
    if place < 0 or len(page) < 27 or len(page) < 27 + page[26]:
        return Header(1, 0)  # cut off inside a page's header
    if len(page) < 27 + page[26] + sum(page[27 : 27 + page[26]]):
        return Header(1, 0)
    return Header(0, 0, remark="" if page[5] & 4 else NO_END)


def _nist(head: bytes, size: int) -> Header | None:
    """Read a SPHERE header: lines of text in the first 1024 bytes."""
    found = {name: int(number) for name, number in _SPHERE.findall(head[:1024])}
    if len(found) < 4 or b"-s3 pcm" not in head[:1024]:
        return None
    block = found[b"channel_count"] * found[b"sample_n_bytes"]
    start = int(head[8:16])
    rate = found[b"sample_rate"]
    return Header(
        found[b"sample_count"] * block, size - start, max(1, block), block * rate
    )


def rebuilt(file: int, header: Header) -> BytesIO:
    """Return a RIFF file's format and audio under a header with the true length.

    libsndfile takes a length of 0 as it is, and stops at chunks without their padding.
    """
    audio = os.pread(file, header.held, header.start)
    padded = header.format + b"\0" * (len(header.format) % 2)
    order = header.order
    head = b"WAVEfmt " + struct.pack(f"{order}I", len(header.format)) + padded
    head += b"data" + struct.pack(f"{order}I", len(audio))
    name = b"RIFF" if order == "<" else b"RIFX"
    length = struct.pack(f"{order}I", len(head) + len(audio))
    return BytesIO(name + length + head + audio)
