import argparse
import csv
import io
import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile

from espnet_ext.bin import ser as program
from espnet_ext.errors import UserError
from espnet_ext.inference.inputs import find_recordings
from espnet_ext.inference.outputs import ResultWriter
from inference.test_emotion import BAD
from inference.test_package import edit, rewrite

ATTRIBUTES = ("valence", "arousal", "dominance")


def run(*arguments):
    """Run the program in this process; return its exit status."""
    with pytest.raises(SystemExit) as left:
        program.main([str(a) for a in arguments])
    return left.value.code


@pytest.fixture
def model(recipe):
    return ("--model", recipe.experiment(), "--device", "cpu")


def test_help_is_instant():
    code = (
        "import sys\nfrom espnet_ext.bin.ser import main\n"
        "try: main(['predict', '--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'yaml', 'espnet2', 'pandas'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    start = time.process_time(), os.times().children_user
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    assert os.times().children_user - start[1] < 0.5
    assert "--model" in done.stdout


def test_rows_are_those_of_python(ser, recipe, model, capsys):
    wavs = list(recipe.wavs.values())[:3]
    assert run("predict", *model, "--format", "jsonl", *wavs) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    for row, wav in zip(rows, wavs, strict=True):
        expected = {"id": str(wav), **ser(wav).to_dict()}
        del expected["source"]
        assert row == expected
    assert run("predict", *model, "--format", "csv", *wavs) == 0
    table = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    for row, wav in zip(table, wavs, strict=True):
        answer = ser(wav)
        assert row["label"] == answer.label
        assert float(row["prob_happy"]) == pytest.approx(
            answer.scores["happy"], abs=1e-6
        )
        assert float(row["valence"]) == pytest.approx(answer.valence, abs=1e-6)
        assert float(row["arousal_unit"]) == pytest.approx(
            answer.unit["arousal"], abs=1e-6
        )
    assert run("predict", *model, *wavs) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert ser(wavs[0]).label in lines[1]


def test_bad_files_are_named_and_stop_nothing(recipe, model, tmp_path, capsys):
    (tmp_path / "a.wav").write_text("no audio")
    good = recipe.wavs["Ses01F_secret00"]
    files = [tmp_path / "a.wav", tmp_path / "gone.wav", good]
    assert run("predict", *model, "--format", "jsonl", *files) == 1
    out, err = capsys.readouterr()
    assert ["error" in json.loads(line) for line in out.splitlines()] == [
        True,
        True,
        False,
    ]
    told = [line for line in err.splitlines() if line.startswith("error:")]
    assert len(told) == 2
    assert str(tmp_path / "a.wav") in told[0]
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["nothing"], "invalid choice"),
        (["predict", "a.wav"], "--model"),
        (["predict", "--model", "/not/there", "a.wav"], "no such folder"),
        (["predict", "--model", "MODEL", "EMPTY"], "no recording in this folder"),
        (
            ["predict", "--model", "MODEL", "--resume", "true", "a.wav"],
            "needs --output",
        ),
        (["predict", "--model", "MODEL", "--device", "gpu", "WAV"], "device"),
        (["predict", "--model", "MODEL", "--output", "EMPTY", "WAV"], "is a folder"),
        (["pack", "EMPTY", "--output", "x.zip"], "no folder of a training"),
        (["pack", "MODEL", "--output", "x.tar"], "is a .zip"),
    ],
)
def test_what_cannot_start_ends_with_2(
    recipe, wav, tmp_path, capsys, arguments, reason
):
    places = {"MODEL": recipe.experiment(), "EMPTY": tmp_path, "WAV": wav}
    assert run(*(places.get(a, a) for a in arguments)) == 2
    err = capsys.readouterr().err
    assert reason in err
    assert "Traceback" not in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_a_killed_run_repeats_no_file(
    ser, recipe, model, tmp_path, form, monkeypatch, capsys
):
    wavs = list(recipe.wavs.values())[:6]
    bad = tmp_path / "bad.wav"
    bad.write_text("no audio")
    whole, output = tmp_path / f"whole.{form}", tmp_path / f"out.{form}"
    options = (*model, "--format", form)
    assert run("predict", *options, "--output", whole, *wavs) == 0
    assert run("predict", *options, "--output", output, bad, *wavs[:3]) == 1
    with open(output, "ab") as stream:  # killed while it wrote a row
        stream.write(whole.read_bytes().splitlines(keepends=True)[-1][:20])
    soundfile.write(bad, np.ones(16000) / 2, 16000)
    asked = []
    original = type(ser).__call__
    monkeypatch.setattr(
        type(ser), "__call__", lambda self, a, **k: asked.append(a) or original(self, a)
    )
    resumed = ("--resume", "true", "--output", output)
    assert run("predict", *options, *resumed, *wavs, bad) == 0
    assert asked == [str(w) for w in (*wavs[3:], bad)]
    rows = output.read_text().splitlines()
    assert rows[: len(wavs) + (form == "csv")] == whole.read_text().splitlines()
    assert len(rows) == len(wavs) + 1 + (form == "csv")
    assert run("predict", *options, *resumed, *wavs, bad) == 0
    assert output.read_text().splitlines() == rows
    assert "7 finished before" in capsys.readouterr().err


def test_other_files_are_not_resumed(tmp_path):
    for form, text in [("csv", "a,b\n1,2\n"), ("jsonl", "hello\n")]:
        path = tmp_path / f"x.{form}"
        path.write_text(text)
        with pytest.raises(UserError, match="another"):
            ResultWriter(form, path, ["happy"], resume=True)
        assert path.read_text() == text


@pytest.mark.parametrize("form", ["jsonl", "csv", "table"])
def test_names_of_any_bytes(wav, model, tmp_path, form, capsys):
    folder = os.fsencode(tmp_path / "in")
    os.mkdir(folder)
    names = [b"\xff\xfe.wav", b"a\xe2\x80\xa8b.wav"]  # Latin-1; U+2028
    for name in names:
        with open(os.path.join(folder, name), "wb") as stream:
            stream.write(wav.read_bytes())
    output = tmp_path / f"out.{form}"
    arguments = (*model, tmp_path / "in", "--format", form, "--output", output)
    assert run("predict", *arguments) == 0
    content = output.read_bytes()
    assert all(name in content for name in names)
    if form != "table":
        assert run("predict", *arguments, "--resume", "true") == 0
        assert output.read_bytes() == content
        assert "2 finished before" in capsys.readouterr().err
    assert run("timeline", *arguments) == 0
    assert all(name in output.read_bytes() for name in names)
    assert run("embed", *model, tmp_path / "in", "--output", tmp_path / "e.npz") == 0
    with np.load(tmp_path / "e.npz") as arrays:
        assert any("\\udcff" in name for name in arrays)


def test_standard_input(recipe, ser, wav, model, monkeypatch, capsys):
    stdin = argparse.Namespace(buffer=io.BytesIO(wav.read_bytes()))
    monkeypatch.setattr("sys.stdin", stdin)
    assert run("predict", *model, "--format", "jsonl", "-") == 0
    assert json.loads(capsys.readouterr().out)["scores"] == ser(wav).scores


def test_lists_of_recordings(tmp_path):
    audio = tmp_path / "sub" / "deep"
    audio.mkdir(parents=True)
    for name in ("b.wav", "a.FLAC", "notes.md", "._b.wav"):
        (audio / name).write_bytes(b"")
    found = [r.path for r in find_recordings([str(tmp_path)])]
    assert found == [str(audio / "a.FLAC"), str(audio / "b.wav")]
    texts = {
        "wav.scp": f"id1 {audio}/b.wav\nid2 {audio}/a.FLAC\n",
        "tabs.scp": f"id1\t{audio}/b.wav\r\nid2  {audio}/a.FLAC \n",
        "l.csv": "id,path\nid1,deep/b.wav\nid2,deep/a.FLAC\n",
        "l.tsv": "path\tid\ndeep/b.wav\tid1\ndeep/a.FLAC\tid2\n",
        "l.jsonl": '{"audio_filepath": "deep/b.wav", "id": "id1"}\n\n'
        '{"path": "deep/a.FLAC", "id": "id2"}\n',
    }
    for name, text in texts.items():
        path = tmp_path / "sub" / name
        path.write_text(text)
        found = find_recordings([str(path)])
        assert [r.id for r in found] == ["id1", "id2"]
        assert [r.path for r in found] == [str(audio / "b.wav"), str(audio / "a.FLAC")]
    plain = tmp_path / "sub" / "l.txt"
    plain.write_text("deep/b.wav\n")
    assert find_recordings([str(plain)])[0].path == str(audio / "b.wav")
    for name, text, reason in [
        ("e.scp", "", "the file is empty"),
        ("e.scp", "id1 sox x.wav -t wav - |\n", r"e.scp:1.*not run"),
        ("e.scp", "id1\n", r"e.scp:1"),
        ("e.jsonl", "{\n", r"e.jsonl:1: not JSON"),
        ("e.csv", "a,b\n1,2\n", r"e.csv:1.*path"),
        ("e.tsv", 'path\ttext\na.wav\t"Oh\nb.wav\tno\n', r"e.tsv:3: .*quote"),
        ("e.csv", f"path,text\na.wav,{'x' * 200_000}\n", r"e.csv:2: .*field"),
        ("e.txt", "a\0.wav\n", r"e.txt:1: "),
    ]:
        (tmp_path / name).write_text(text)
        with pytest.raises(UserError, match=reason):
            find_recordings([str(tmp_path / name)])


def test_pieces_of_recordings(ser, recipe, model, tmp_path, capsys):
    first, second = list(recipe.wavs.values())[6:8]
    (tmp_path / "l.csv").write_text(
        "id,path,start,end\n"
        f"whole,{first},,\nmiddle,{first},0.25,1.0\nrest,{second},0.5,\n,{second},,0.5\n"
    )
    assert run("predict", *model, "--format", "jsonl", tmp_path / "l.csv") == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [r["id"] for r in rows] == ["whole", "middle", "rest", f"{second}#t=0,0.5"]
    expected = [
        ser(first),
        ser(first, start=0.25, end=1.0),
        ser(second, start=0.5),
        ser(second, end=0.5),
    ]
    for row, answer in zip(rows, expected, strict=True):
        assert (row["seconds"], row["scores"]) == (answer.seconds, answer.scores)
    # Also of other programs that read pieces, and over time.
    piece = f"{first}#t=0.25,1"
    assert ser.timeline(piece, 1, 1).to_dict()["segments"][0]["scores"] == (
        pytest.approx(expected[1].scores)
    )
    assert ser(piece, start=0.25).scores == ser(first, start=0.5, end=1).scores
    for times, reason in [("1,1", "nothing lies between"), ("a,", "'a' is no number")]:
        (tmp_path / "l.csv").write_text(f"path,start,end\n{first},{times}\n")
        with pytest.raises(UserError, match=f"l.csv:2: .*{reason}"):
            find_recordings([str(tmp_path / "l.csv")])
    (tmp_path / "l.csv").write_text(f"path,start\n{first},99\n")
    assert run("predict", *model, tmp_path / "l.csv") == 1
    assert f"error: {first}#t=99" in capsys.readouterr().err


def test_nothing_is_written_where_all_fail(model, tmp_path, capsys):
    (tmp_path / "a.wav").write_text("no audio")
    output = tmp_path / "e.npz"
    assert run("embed", *model, "--output", output, tmp_path / "a.wav") == 1
    assert not output.exists()


def test_timeline_embed_and_info(ser, recipe, wav, model, tmp_path, capsys):
    output = tmp_path / "t"
    options = ("timeline", *model, "--window", 1, "--hop", 0.5, "--output", output)
    expected = ser.timeline(wav, 1, 0.5)
    assert run(*options, "--format", "rttm", wav) == 0
    assert output.read_text() == expected.to_rttm()
    assert run(*options, "--format", "jsonl", wav) == 0
    assert json.loads(output.read_text())["segments"] == [
        s.to_dict() for s in expected.segments
    ]
    assert run(*options, "--format", "csv", wav, wav, tmp_path / "no.wav") == 1
    assert len(output.read_text().splitlines()) == 1 + len(expected.steps)
    assert run(*options, wav) == 0
    assert expected.segments[0].label in output.read_text()

    assert run("embed", *model, "--output", tmp_path / "e.npz", wav) == 0
    vectors = np.load(tmp_path / "e.npz")
    expected = ser(wav, embeddings=True).embeddings
    assert set(vectors) == {f"{wav}/{branch}" for branch in expected}
    for branch, vector in expected.items():
        assert np.array_equal(vectors[f"{wav}/{branch}"], vector)

    capsys.readouterr()
    assert run("info", *model) == 0
    assert "A TOY" in capsys.readouterr().out
    assert run("info", *model, "--format", "json") == 0
    assert json.loads(capsys.readouterr().out)["scale"] == [1, 5]


@pytest.fixture(scope="module")
def bad_files(tmp_path_factory):
    """The recordings of `test_emotion.BAD`, and 26 hours in 3 GB that take no disk."""
    folder = tmp_path_factory.mktemp("bad")
    for name, (make, _) in BAD.items():
        make(folder / name)
    (folder / "folder.wav").rmdir()  # one without recordings would end all
    soundfile.write(folder / "huge.wav", np.zeros(16000), 16000)
    head = bytearray((folder / "huge.wav").read_bytes()[:44])
    head[4:8] = ((3 << 30) + 36).to_bytes(4, "little")
    head[40:44] = (3 << 30).to_bytes(4, "little")
    with open(folder / "huge.wav", "r+b") as stream:
        stream.write(head)
        stream.truncate((3 << 30) + 44)
    return folder


def test_every_bad_file_is_named_on_the_command_line(
    bad_files, recipe, model, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    names = [n for n in BAD if n != "folder.wav"]
    good = recipe.wavs["Ses01F_secret00"]
    files = [bad_files / n for n in (*names, "huge.wav")]
    arguments = (*model, "--format", "jsonl", *files, good)
    start = time.monotonic()
    assert run("predict", *arguments) == 1
    assert time.monotonic() - start < 60  # huge.wav is refused by its header
    out, err = capsys.readouterr()
    errors = [line for line in err.splitlines() if line.startswith("error:")]
    reasons = [BAD[n][1] for n in names] + ["1678 minutes; one answer covers 30"]
    for file, error, reason in zip(files, errors, reasons, strict=True):
        assert str(file) in error
        assert reason in error
    assert "Traceback" not in err
    rows = [json.loads(line) for line in out.splitlines()]
    assert ["error" in row for row in rows] == [True] * len(files) + [False]
    assert not list(tmp_path.iterdir())


def test_silence_is_answered_with_a_warning(model, tmp_path, capsys):
    soundfile.write(tmp_path / "s.wav", np.zeros(20000), 16000)
    assert run("predict", *model, tmp_path / "s.wav") == 0
    assert "! no speech" in capsys.readouterr().out
    assert run("timeline", *model, tmp_path / "s.wav") == 0
    assert "no_speech" in capsys.readouterr().out


PACKAGES = {
    "cut": (lambda m: None, "a cut one"),
    "unknown": (edit("meta.yaml", lambda m: m.update(fils=1)), "fils is unknown"),
    "slip": (lambda m: m.update({"../out.txt": b"x"}), "outside of its folder"),
}


@pytest.mark.parametrize("fault", PACKAGES)
@pytest.mark.parametrize("command", ["predict", "info"])
def test_bad_packages_end_with_2(
    package, wav, tmp_path, monkeypatch, capsys, command, fault
):
    change, reason = PACKAGES[fault]
    scratch = tmp_path / "in" / "scratch"
    scratch.mkdir(parents=True)
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    bad = rewrite(package, tmp_path / "bad.zip", change)
    if fault == "cut":
        bad.write_bytes(bad.read_bytes()[:-5000])
    assert run(command, "--model", bad, *([wav] if command == "predict" else [])) == 2
    err = capsys.readouterr().err
    assert reason in err
    assert str(bad) in err
    assert "Traceback" not in err
    assert {p.name for p in tmp_path.rglob("*")} == {"in", "scratch", "bad.zip"}


def test_pack_and_use(recipe, ser, wav, tmp_path, capsys):
    path = tmp_path / "m.zip"
    assert run("pack", recipe.experiment(), "--output", path) == 0
    capsys.readouterr()
    assert run("predict", "--model", path, "--format", "jsonl", wav) == 0
    assert json.loads(capsys.readouterr().out)["scores"] == ser(wav).scores
