import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from espnet_ext.bin import ser_make_mini
from espnet_ext.mini import iemocap, msp_podcast


def tree(root: Path) -> dict[str, str]:
    """Hash of every file below `root`."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_same_seed_same_bytes_in_another_process(made, tmp_path):
    """`made` is of a process of its own; this is ours, in the other order."""
    options = ["--output", str(tmp_path), "--scale", "0.1"]
    ser_make_mini.main([*options, "--corpora", "msp_podcast", "iemocap"])
    assert tree(tmp_path) == tree(made)


def test_another_seed_another_corpus(made):
    for module, name in ((iemocap, "iemocap"), (msp_podcast, "msp_podcast")):
        first, other = (module.plan(seed, 0.1) for seed in (0, 1))
        assert len(first) == len(other), name
        assert [one.prosody for one in first] != [one.prosody for one in other]


def test_another_seed_another_sound(made, tmp_path):
    options = ["--output", str(tmp_path), "--scale", "0.1", "--seed", "1"]
    ser_make_mini.main([*options, "--corpora", "msp_podcast"])
    assert not (tmp_path / "IEMOCAP_full_release").exists()
    audio = "MSP-PODCAST-1.8/Audios/MSP-PODCAST_1023_0235.wav"
    assert (tmp_path / audio).read_bytes() != (made / audio).read_bytes()
    weights = "hubert_tiny/model.safetensors"
    assert (tmp_path / weights).read_bytes() != (made / weights).read_bytes()


def test_upstream_alone_or_left_out(tmp_path, capsys):
    ser_make_mini.main(["--output", str(tmp_path / "a"), "--corpora"])
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["hubert_tiny"]
    options = ["--output", str(tmp_path / "b"), "--corpora", "--upstream", "false"]
    ser_make_mini.main(options)
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--scale", "0"], "scale 0.0 is not between"),
        (["--scale", "0.01"], "scale 0.01 is not between"),
        (["--seed", "-1"], "--seed -1: give 0 or more"),
    ],
)
def test_wrong_options_end_in_one_line(tmp_path, capsys, options, message):
    with pytest.raises(SystemExit) as end:
        ser_make_mini.main(["--output", str(tmp_path / "x"), *options])
    assert end.value.code == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "x").exists()


def test_missing_synthesizer_leaves_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(SystemExit) as end:
        ser_make_mini.main(["--output", str(tmp_path / "x")])
    assert end.value.code == 1
    assert "pip install espnet_ext[mini]" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_a_file_in_the_way_is_one_clear_message(tmp_path, capsys):
    (tmp_path / "x").write_text("a file")
    with pytest.raises(SystemExit) as end:
        ser_make_mini.main(["--output", str(tmp_path / "x"), "--corpora"])
    assert end.value.code == 1
    assert capsys.readouterr().err.startswith("error: ")


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from espnet_ext.bin.ser_make_mini import get_parser;"
        "get_parser().format_help();"
        "assert not {'numpy', 'torch', 'scipy', 'tqdm'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_real_corpus_of_the_same_name_is_left_alone(tmp_path, capsys):
    label = tmp_path / "IEMOCAP_full_release" / "Session1" / "dialog" / "a.txt"
    label.parent.mkdir(parents=True)
    label.write_text("of years of work")
    options = ["--output", str(tmp_path), "--scale", "0.1"]
    with pytest.raises(SystemExit):
        ser_make_mini.main([*options, "--corpora", "iemocap", "--upstream", "false"])
    assert "was not generated here, and is left alone" in capsys.readouterr().err
    assert label.read_text() == "of years of work"


def test_a_generated_corpus_is_replaced(tmp_path):
    options = ["--output", str(tmp_path), "--upstream", "false", "--corpora", "iemocap"]
    ser_make_mini.main([*options, "--scale", "0.1"])
    before = tree(tmp_path)
    ser_make_mini.main([*options, "--scale", "0.1", "--seed", "1"])
    assert tree(tmp_path) != before
