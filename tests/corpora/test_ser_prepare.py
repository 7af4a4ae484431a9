import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile as sf

from corpora import iemocap_tree as tree
from espnet_ext.bin import ser_prepare
from espnet_ext.corpora import registry
from espnet_ext.corpora.datadir import read_data_dir

ROOT = Path(__file__).parents[2]


def prepare(root, output, *options, corpus="iemocap"):
    ser_prepare.main(
        ["--corpus", corpus, "--root", str(root), "--output", str(output), *options]
    )


def fails(capsys, root, output, *options, corpus="iemocap") -> str:
    with pytest.raises(SystemExit) as end:
        prepare(root, output, *options, corpus=corpus)
    assert end.value.code == 1
    # No data directory and no rest of one.
    assert not output.exists()
    assert not [path for path in output.parent.iterdir() if ".tmp-" in path.name]
    return capsys.readouterr().err


def wav_file(root: Path, id_: str) -> Path:
    dialog = id_.rpartition("_")[0]
    return root / f"Session{id_[4]}/sentences/wav/{dialog}/{id_}.wav"


@pytest.fixture
def bad_audio(small_iemocap):
    """The small tree with one file of each kind; returns the kinds by utterance."""
    ids = [f"Ses01F_impro01_F00{n}" for n in range(5)] + ["Ses01F_impro01_M000"]
    paths = [wav_file(small_iemocap, id_) for id_ in ids]
    paths[0].unlink()
    paths[1].write_bytes(b"RIFF but no more")
    paths[2].write_bytes(tree.wav_bytes(0))
    paths[3].write_bytes(tree.wav_bytes(1000))
    sf.write(paths[4], [[0.1, 0.2]] * 9600, 48000, subtype="FLOAT")
    sf.write(paths[5], [1.0] * 3200, 16000)
    return small_iemocap, ids


def test_real_size_agrees_in_every_count(real_iemocap):
    _, data = real_iemocap
    text = (data / "summary.txt").read_text()
    assert "all 82 known counts agree" in text
    assert "WARNING" not in text
    summary = json.loads((data / "summary.json").read_text())
    assert summary["utterances"] == 10039
    assert summary["speaker"]["Ses03M"] == 1088
    # 0.12 s each, but two of 31 s.
    assert summary["hours"] == pytest.approx((10037 * 0.12 + 62) / 3600, abs=1e-4)
    outside = {n: a["outside_scale"] for n, a in summary["attributes"].items()}
    assert {id_ for ids in outside.values() for id_ in ids} == set(tree.OUTSIDE)
    assert len(outside["valence"]) == 4
    assert len(outside["dominance"]) == 3


def test_bad_audio_is_left_out_and_told(bad_audio, tmp_path, capsys):
    root, ids = bad_audio
    prepare(root, tmp_path / "data")
    out = capsys.readouterr().out
    data = read_data_dir(tmp_path / "data")
    assert len(data.utterances) == 96
    assert data.durations[ids[4]] == 0.2
    for reason in (
        "label without audio",
        "audio: unreadable",
        "audio: empty",
        "audio: under 0.1 s",
    ):
        assert f"1 {reason}" in out
    rows = (tmp_path / "data" / "left_out.tsv").read_text().splitlines()[1:]
    assert sorted(row.split("\t")[0] for row in rows) == ids[:4]
    table = (tmp_path / "data" / "audio_check.tsv").read_text()
    remarks = {row.split("\t")[0]: row.split("\t")[3] for row in table.splitlines()}
    assert remarks[ids[4]] == (
        "rate 48000 (resampled on reading); 2 channels (averaged on reading); "
        "float samples"
    )
    assert remarks[ids[5]] == "clipped"
    assert "!!! WARNING: this looks like IEMOCAP_full_release, but" in out


def test_strict_ends_on_bad_audio(bad_audio, tmp_path, capsys):
    root, ids = bad_audio
    error = fails(capsys, root, tmp_path / "data", "--strict", "true")
    assert "4 utterances would be left out" in error
    assert f"Ses01F_impro01.txt:3: {ids[0]}: label without audio" in error
    assert str(wav_file(root, ids[3])) in error


def test_labels_without_the_audio(bad_audio, tmp_path):
    root, _ = bad_audio
    prepare(root, tmp_path / "data", "--check_audio", "false")
    labels = read_data_dir(tmp_path / "data")
    assert len(labels.utterances) == 99  # the missing file is seen without reading
    assert not labels.durations
    assert not (tmp_path / "data" / "audio_check.tsv").exists()


def test_own_limit(small_iemocap, tmp_path):
    data = tmp_path / "data"
    long = wav_file(small_iemocap, "Ses02F_impro01_M001")
    long.write_bytes(tree.wav_bytes(16000))
    prepare(small_iemocap, data, "--min_seconds", "0.5")
    assert list(read_data_dir(data).durations.items()) == [("Ses02F_impro01_M001", 1.0)]
    assert "99 audio: under 0.5 s" in (data / "summary.txt").read_text()


def test_a_fault_keeps_the_older_data_directory(small_iemocap, tmp_path, capsys):
    prepare(small_iemocap, tmp_path / "data")
    before = {p.name: p.read_bytes() for p in (tmp_path / "data").iterdir()}
    labels = small_iemocap / "Session3/dialog/EmoEvaluation/Ses03F_impro01.txt"
    labels.write_text("")
    with pytest.raises(SystemExit):
        prepare(small_iemocap, tmp_path / "data")
    assert f"{labels}:1: the file is empty" in capsys.readouterr().err
    assert {p.name: p.read_bytes() for p in (tmp_path / "data").iterdir()} == before


def test_again_gives_the_same_files(small_msp, tmp_path):
    runs = []
    for _ in range(2):
        prepare(small_msp, tmp_path / "data", corpus="msp_podcast")
        runs.append({p.name: p.read_bytes() for p in (tmp_path / "data").iterdir()})
    assert runs[0] == runs[1]


def test_paths_and_names_that_do_not_exist(tmp_path, capsys):
    output = tmp_path / "data"
    assert "no such folder" in fails(capsys, tmp_path / "none", output)
    error = fails(capsys, tmp_path, output, corpus="timit")
    for name in registry.CORPORA:
        assert name in error


def test_strict_lets_known_peculiarities_pass(small_msp, tmp_path, capsys):
    path = small_msp / "Labels" / "labels_concensus.csv"
    row = "MSP-PODCAST_1909_1017.wav,N,4,4,4,12,Male,Train\n"
    path.write_text(path.read_text() + row)
    options = ("--strict", "true")
    prepare(small_msp, tmp_path / "data", *options, corpus="msp_podcast")
    assert "1 label without audio" in capsys.readouterr().out
    path.write_text(path.read_text() + row.replace("1017", "1018"))
    error = fails(capsys, small_msp, tmp_path / "x", *options, corpus="msp_podcast")
    assert f"{path}:44: MSP-PODCAST_1909_1018: label without audio" in error


@pytest.mark.parametrize("name", ["ser_prepare", "ser_make_sets"])
def test_help_imports_nothing_heavy(name):
    code = (
        f"import sys\nfrom espnet_ext.bin import {name}\n{name}.get_parser()\n"
        "heavy = {'torch', 'transformers', 's3prl', 'pandas'} & sys.modules.keys()\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_labels_tell_what_a_rewritten_header_hides(small_iemocap, tmp_path, capsys):
    # The labels say 1.9456 s each.
    ids = [f"Ses01F_impro01_F00{n}" for n in range(3)]
    for path in small_iemocap.rglob("Ses*.wav"):
        path.write_bytes(tree.wav_bytes(round(1.9456 * 16000)))
    for id_, seconds in zip(ids, (1.5, 1.75, 3.0), strict=True):
        wav = tree.wav_bytes(round(seconds * 16000))
        wav_file(small_iemocap, id_).write_bytes(wav)
    prepare(small_iemocap, tmp_path / "one", "--strict", "true")
    one = capsys.readouterr().out
    warning = "!!! WARNING: 1 of 100 recordings are shorter than the times of their"
    assert warning in one
    assert f"{ids[0]}: 1.500 s, its label tells 1.946 s" in one
    assert len(read_data_dir(tmp_path / "one").utterances) == 100  # nothing is left out


def test_cut_off_recordings_are_left_out(small_iemocap, tmp_path, capsys):
    path = wav_file(small_iemocap, "Ses01F_impro01_F000")
    path.write_bytes(path.read_bytes()[:2000])
    lengths = "its header tells 0.120 s, 0.061 s can be read"
    assert lengths in fails(capsys, small_iemocap, tmp_path / "x", "--strict", "true")
    prepare(small_iemocap, tmp_path / "data")
    assert "1 audio: cut off or damaged: Ses01F_impro01_F000" in capsys.readouterr().out
    assert len(read_data_dir(tmp_path / "data").utterances) == 99
    assert lengths in (tmp_path / "data" / "left_out.tsv").read_text()
    assert lengths in (tmp_path / "data" / "audio_check.tsv").read_text()


@pytest.mark.parametrize(
    ("words", "place", "called"),
    [
        ("msp_podcast", "/here", "--corpus msp_podcast --output data/msp_podcast"),
        ("emodb --root /there --nj 4", "", "--corpus emodb --output data/emodb"),
        ("savee --root /there", "", "--corpus savee --output data/savee"),
    ],
)
def test_the_script_of_any_corpus(tmp_path, words, place, called):
    (tmp_path / "local").mkdir()
    for name in ("local/data.sh", "db.sh"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "path.sh").write_text('python() { echo "$*"; }\nexec() { "$@"; }\n')
    done = subprocess.run(
        ["bash", "local/data.sh", *words.split()],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "MSP_PODCAST": place},
        capture_output=True,
        text=True,
        check=True,
    )
    options = f" --root {place}" if place else f" {words.partition(' ')[2]}"
    assert done.stdout == f"-m espnet_ext.bin.ser_prepare {called}{options}\n"
