"""A tiny corpus with its upstream, and a feature config for them."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

from espnet_ext.corpora.datadir import write_data_dir
from espnet_ext.corpora.utterance import Utterance
from espnet_ext.mini.upstream import write_tiny_hubert


class Corpus:
    """Recordings, their data directory and everything ser_extract wants."""

    def __init__(self, folder: Path, count: int = 12) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.upstream = folder / "hubert"
        self.store = folder / "store"
        self.config = folder / "features.yaml"
        self.lengths = {}
        rng = np.random.default_rng(7)
        for i in range(count):
            self.write_wav(f"u{i:02d}", rng, int(rng.integers(2000, 24000)))
        write_tiny_hubert(self.upstream)
        self.write_config()
        self.write_data()

    def wav(self, utterance: str) -> Path:
        return self.folder / f"{utterance}.wav"

    def write_wav(self, utterance, rng, samples):
        wave = 0.1 * rng.standard_normal(samples)
        soundfile.write(self.wav(utterance), wave, 16000)
        self.lengths[utterance] = samples

    def write_config(self, **changes):
        name = str(self.upstream)
        values = {"upstream": {"source": "huggingface", "name": name}, **changes}
        self.config.write_text(yaml.safe_dump(values))

    def write_data(self):
        utterances = [
            Utterance(
                id=u,
                wav=str(self.wav(u)),
                corpus="iemocap",
                speaker="Ses01F",
                gender="f",
                split="Session1",
                emotion="xxx" if u == "u03" else "neu",
                valence=3.0,
                arousal=3.0,
                dominance=3.0,
            )
            for u in self.lengths
        ]
        seconds = {u: n / 16000 for u, n in self.lengths.items()}
        write_data_dir(self.data, utterances, seconds)

    def command(self, **changes):
        options = {
            "data": self.data,
            "config": self.config,
            "output": self.store,
            "shard_seconds": 3,
            **changes,
        }
        return [x for key, value in options.items() for x in (f"--{key}", str(value))]


@pytest.fixture
def corpus(tmp_path) -> Corpus:
    return Corpus(tmp_path)
