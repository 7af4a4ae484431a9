"""The seventh corpus of CONTRIBUTING.md, as it stands there."""

import re
import types
from pathlib import Path

from corpora.iemocap_tree import SHORT
from espnet_ext.bin import ser_make_sets, ser_prepare
from espnet_ext.corpora import registry
from espnet_ext.corpora.datadir import read_data_dir

ROOT = Path(__file__).parents[2]


def test_the_worked_example(tmp_path, monkeypatch):
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    module = types.ModuleType("savee")
    exec(code, module.__dict__)
    monkeypatch.setitem(registry.CORPORA, "savee", module.CORPUS)
    for speaker in ("DC", "JE", "JK", "KL"):
        folder = tmp_path / "SAVEE" / "AudioData" / speaker
        folder.mkdir(parents=True)
        for emotion in module.EMOTIONS:
            (folder / f"{emotion}01.wav").write_bytes(SHORT)
    data, sets = tmp_path / "data", tmp_path / "sets"
    root = str(tmp_path / "SAVEE")
    ser_prepare.main(["--corpus", "savee", "--root", root, "--output", str(data)])
    assert read_data_dir(data).utterances["DC_sa01"].emotion == "sadness"
    labels = str(ROOT / "conf" / "labels" / "paper5.yaml")
    options = ["--scheme", "savee_4fold", "--fold", "1", "--output", str(sets)]
    ser_make_sets.main(["--data", str(data), "--labels", labels, *options])
    assert (sets / "test" / "utt2class").read_text().split()[1::2] == list("14203")
