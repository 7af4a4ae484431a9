"""Recordings that are not what their header says, in files of real writers."""

import struct

import numpy as np
import pytest
import soundfile as sf

from corpora.iemocap_tree import wav_bytes
from espnet_ext.corpora import audio
from espnet_ext.corpora.audio_check import check_file
from espnet_ext.errors import UserError

NOISE = 0.3 * np.random.default_rng(0).standard_normal(16000).clip(-1, 1)
SECOND = wav_bytes(16000)
FORMATS = [
    ("WAV", "PCM_16"), ("WAV", "PCM_24"), ("WAV", "FLOAT"), ("WAVEX", "PCM_16"),
    ("RF64", "PCM_16"), ("WAV", "GSM610"), ("WAV", "IMA_ADPCM"), ("WAV", "G721_32"),
    ("AIFF", "PCM_16"), ("AIFF", "DWVW_16"), ("AU", "G723_24"), ("AU", "PCM_16"),
    ("W64", "PCM_16"), ("NIST", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"),
    ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III"),
]  # fmt: skip


def write(path, format_: str, subtype: str) -> bytes:
    sf.write(path, NOISE, 16000, format=format_, subtype=subtype)
    return path.read_bytes()


def chunk(name: bytes, data: bytes, pad: bytes = b"\0") -> bytes:
    return name + struct.pack("<I", len(data)) + data + pad * (len(data) % 2)


def riff(*chunks: bytes) -> bytes:
    body = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.mark.parametrize(("format_", "subtype"), FORMATS)
def test_whole_and_cut_off(tmp_path, format_, subtype):
    path = tmp_path / "a.wav"
    content = write(path, format_, subtype)
    report = check_file("a", str(path))
    assert (report.fault, report.remarks[:1] == ("float samples",)) == (
        "",
        subtype == "FLOAT",
    )
    assert report.seconds == pytest.approx(1, abs=0.03)  # codecs fill up a block
    assert len(audio.load_waveform(path)) == round(report.seconds * 16000)
    assert audio.measure_seconds(path) == report.seconds
    path.write_bytes(content[: len(content) * 3 // 5])
    report = check_file("a", str(path))
    assert "cut off" in report.fault
    assert report.seconds < 0.7
    with pytest.raises(UserError, match="cut off") as error:
        audio.load_waveform(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("lost", [2, 1000, 16000, 31000, 32000])
def test_both_lengths_are_named(tmp_path, lost):
    path = tmp_path / "a.wav"
    path.write_bytes(SECOND[:-lost])
    real = f"{(32000 - lost) / 32000:.3f}"
    with pytest.raises(UserError, match=f"tells 1.000 s, {real} s can be read"):
        audio.load_waveform(path)


@pytest.mark.parametrize("flac_frames", [3, 2, 1])
def test_flac_cut_between_frames(tmp_path, flac_frames):
    # Each frame begins with this code; nothing is left to fail on in the middle.
    content = write(tmp_path / "a.flac", "FLAC", "PCM_16")
    starts = [i for i in range(len(content)) if content[i : i + 2] == b"\xff\xf8"]
    (tmp_path / "a.flac").write_bytes(content[: starts[flac_frames]])
    report = check_file("a", str(tmp_path / "a.flac"))
    assert (report.fault, report.detail[:25]) == (
        "cut off or damaged",
        "its header tells 1.000 s,",
    )


@pytest.mark.parametrize(
    "length",
    [0xFFFFFFFF, 0xFFFFFFFF - 36, 0x7FFFFFFF, 0x7FFFFFFF - 36, 0x7FFFF000, 0x80000000],
)
def test_streams_are_read_to_their_end(tmp_path, length):
    path = tmp_path / "a.wav"
    path.write_bytes(SECOND[:40] + struct.pack("<I", length) + SECOND[44:-100])
    report = check_file("a", str(path))
    assert (report.fault, report.seconds) == ("", 15950 / 16000)
    assert "no length in its header" in report.remarks[0]
    assert audio.measure_seconds(path) == report.seconds


@pytest.mark.parametrize("riff_length", [0, 36, 0xFFFFFFFF])
def test_a_killed_writer_left_length_0(tmp_path, riff_length):
    path = tmp_path / "a.wav"
    head = b"RIFF" + struct.pack("<I", riff_length) + SECOND[8:40] + bytes(4)
    path.write_bytes(head + SECOND[44:])
    report = check_file("a", str(path))
    assert (report.fault, report.seconds) == ("", 1.0)
    assert "length 0 in its header" in report.remarks[0]
    found = audio.load_waveform(path)
    raw = np.frombuffer(SECOND[44:], "<i2")
    np.testing.assert_array_equal(found, raw.astype(np.float32) / 32768)
    assert audio.measure_seconds(path) == 1.0


def test_empty_with_chunks_behind_is_empty(tmp_path):
    path = tmp_path / "a.wav"
    info = chunk(b"LIST", b"INFO" + chunk(b"ICMT", b"nothing"))
    path.write_bytes(riff(SECOND[12:36], chunk(b"data", b""), info))
    assert check_file("a", str(path)).fault == "empty"


@pytest.mark.parametrize("pad", [b"\0", b""])
@pytest.mark.parametrize("cut", [0, 1000])
def test_chunks_before_and_behind(tmp_path, pad, cut):
    # An odd LIST, padded or not, and one longer than libsndfile's own log.
    odd = chunk(b"LIST", b"INFOabc", pad)
    long = chunk(b"LIST", b"INFO" + chunk(b"ICMT", b"x" * 60) * 200)
    path = tmp_path / "a.wav"
    content = riff(SECOND[12:36], odd, long, chunk(b"data", SECOND[44:]))
    path.write_bytes(content[: len(content) - cut])
    report = check_file("a", str(path))
    assert report.fault == ("cut off or damaged" if cut else "")
    assert report.seconds == (32000 - cut) / 32000
    # A chunk behind the audio that is cut takes nothing from it.
    path.write_bytes(riff(SECOND[12:36], chunk(b"data", SECOND[44:]), long)[:-100])
    assert check_file("a", str(path)).fault == ""


def test_rf64_and_flac_streams(tmp_path):
    content = bytearray(write(tmp_path / "a.wav", "RF64", "PCM_16"))
    place = content.find(b"ds64") + 16
    for length in (0, 2**64 - 1):
        content[place : place + 8] = struct.pack("<Q", length)
        (tmp_path / "a.wav").write_bytes(content)
        report = check_file("a", str(tmp_path / "a.wav"))
        assert (report.fault, report.seconds) == ("", 1.0)
        assert len(report.remarks) == 1
    content = bytearray(write(tmp_path / "a.flac", "FLAC", "PCM_16"))
    content[21] &= 0xF0  # 36 bits of the number of samples
    content[22:26] = bytes(4)
    (tmp_path / "a.flac").write_bytes(content)
    report = check_file("a", str(tmp_path / "a.flac"))
    assert (report.fault, report.seconds) == ("", 1.0)
    assert len(audio.load_waveform(tmp_path / "a.flac")) == 16000
    assert audio.measure_seconds(tmp_path / "a.flac") == 1.0


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers(tmp_path, subtype, value):
    wave = NOISE.copy()
    wave[777] = value
    path = tmp_path / "a.wav"
    sf.write(path, wave, 16000, subtype=subtype)
    assert "no numbers" in check_file("a", str(path)).fault
    with pytest.raises(UserError, match="no numbers"):
        audio.load_waveform(path)
