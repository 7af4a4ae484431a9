import math

import numpy as np
import pytest
import soundfile as sf

from corpora.iemocap_tree import wav_bytes
from espnet_ext.corpora import audio, audio_check
from espnet_ext.corpora.utterance import UNKNOWN, Utterance
from espnet_ext.errors import UserError


def tone(rate: int, hertz: float = 440.0, seconds: float = 0.5) -> np.ndarray:
    return 0.4 * np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate)


def utterance(id_: str, path) -> Utterance:
    return Utterance(id_, str(path), "emodb", "03", "m", UNKNOWN, "sad")


class TestLoadWaveform:
    def test_mono_16_khz_is_untouched(self, tmp_path):
        path = tmp_path / "a.wav"
        sf.write(path, tone(16000), 16000, subtype="PCM_16")
        with open(path, "rb") as stream:
            raw = np.frombuffer(stream.read()[44:], dtype="<i2")  # after the header
        loaded = audio.load_waveform(path)
        assert loaded.dtype == np.float32
        np.testing.assert_array_equal(loaded, raw.astype(np.float32) / 32768)

    def test_channels_are_averaged(self, tmp_path):
        path = tmp_path / "a.wav"
        left, right = tone(16000), tone(16000, 200.0)
        sf.write(path, np.stack([left, right], axis=1), 16000, subtype="FLOAT")
        loaded = audio.load_waveform(path)
        np.testing.assert_allclose(loaded, (left + right) / 2, atol=1e-6)

    @pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
    def test_other_rates_are_resampled(self, tmp_path, rate):
        path = tmp_path / "a.wav"
        sf.write(path, tone(rate), rate, subtype="FLOAT")
        loaded = audio.load_waveform(path)
        assert abs(len(loaded) - 8000) <= 1
        # Away from the ends it is the same tone, sampled at 16 kHz.
        np.testing.assert_allclose(loaded[1000:7000], tone(16000)[1000:7000], atol=2e-3)

    def test_rate_of_choice(self, tmp_path):
        path = tmp_path / "a.wav"
        sf.write(path, tone(16000), 16000)
        assert len(audio.load_waveform(path, rate=8000)) == 4000

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (None, "No such file"),
            (b"", "no bytes"),
            (b"not audio at all", "soundfile"),
            (b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
            (wav_bytes(0), "no samples"),
        ],
    )
    def test_errors_name_the_file(self, tmp_path, content, message):
        path = tmp_path / "a.wav"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(UserError, match=message) as error:
            audio.load_waveform(path)
        assert str(path) in str(error.value)


class TestCheck:
    @pytest.mark.parametrize(
        ("content", "fault"),
        [
            (None, "missing file"),
            (b"", "unreadable: the file has no bytes"),
            (b"RIFFxxxx", "unreadable: no audio that soundfile can read"),
            (wav_bytes(0), "empty"),
            (wav_bytes(1599), "under 0.1 s"),
            (wav_bytes(1600), ""),
            (wav_bytes(16000)[:10000], "cut off or damaged"),
        ],
    )
    def test_faults(self, tmp_path, content, fault):
        path = tmp_path / "a.wav"
        if content is not None:
            path.write_bytes(content)
        assert audio_check.check_file("a", str(path)).fault == fault

    def test_seconds(self, tmp_path):
        path = tmp_path / "a.wav"
        path.write_bytes(wav_bytes(4000, rate=8000, channels=2))
        report = audio_check.check_file("a", str(path))
        assert report.seconds == 0.5
        assert report.remarks == (
            "rate 8000 (resampled on reading)",
            "2 channels (averaged on reading)",
        )

    @pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT", "PCM_24"])
    def test_clipping_is_three_samples_in_a_row(self, tmp_path, subtype):
        loud = tone(16000)
        loud[[100, 200, 300, 301]] = 1.0
        path = tmp_path / "a.wav"
        sf.write(path, loud, 16000, subtype=subtype)
        assert "clipped" not in audio_check.check_file("a", str(path)).remarks
        loud[302] = 1.0
        sf.write(path, loud, 16000, subtype=subtype)
        assert "clipped" in audio_check.check_file("a", str(path)).remarks
        sf.write(path, -loud, 16000, subtype=subtype)
        assert "clipped" in audio_check.check_file("a", str(path)).remarks

    def test_float_and_silence(self, tmp_path):
        path = tmp_path / "a.wav"
        sf.write(path, np.zeros(3200), 16000, subtype="FLOAT")
        assert audio_check.check_file("a", str(path)).remarks == (
            "float samples",
            "silent",
        )

    def test_reports_are_by_utterance(self, tmp_path):
        utterances = {}
        for index in range(20):
            path = tmp_path / f"{index}.wav"
            path.write_bytes(wav_bytes(1600 * (index + 1)))
            utterances[f"u{index}"] = utterance(f"u{index}", path)
        utterances["gone"] = utterance("gone", tmp_path / "gone.wav")
        reports = audio_check.check_audio(utterances, workers=3)
        assert list(reports) == list(utterances)
        for index in range(20):
            seconds = reports[f"u{index}"].seconds
            assert math.isclose(seconds, 0.1 * (index + 1))
        (fault,) = audio_check.faults(reports, utterances)
        assert (fault.name, fault.reason) == ("gone", "audio: missing file")
        table = audio_check.audio_check_table(reports).splitlines()
        assert table[1:] == [f"gone\t0.000000\tmissing file\t\t{tmp_path}/gone.wav"]
