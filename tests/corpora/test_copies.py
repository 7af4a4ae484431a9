"""Corpora as copies leave them: junk, capitals, other formats, links, odd paths."""

import os
import shutil
from pathlib import Path

import pytest
import soundfile as sf

from corpora import iemocap_tree, msp_tree
from corpora import open_trees as trees
from corpora.iemocap_tree import SHORT
from espnet_ext.bin import ser_prepare
from espnet_ext.corpora import crema_d, emodb, iemocap, meld, msp_podcast, ravdess
from espnet_ext.corpora.audio_check import check_audio
from espnet_ext.corpora.datadir import read_data_dir
from espnet_ext.corpora.textio import read_lines
from espnet_ext.errors import UserError

JUNK = ("@eaDir", "__MACOSX", ".AppleDouble", "#recycle", ".@__thumb", "$RECYCLE.BIN")


def small_ravdess(root: Path) -> Path:
    trees.ravdess_tree(root)
    for folder in sorted(root.iterdir())[2:]:
        shutil.rmtree(folder)
    return root


TREES = {
    "iemocap": (iemocap, iemocap_tree.small_tree),
    "msp_podcast": (msp_podcast, msp_tree.small_tree),
    "crema_d": (crema_d, lambda root: trees.crema_d_tree(root, actors=3)),
    "ravdess": (ravdess, small_ravdess),
    "emodb": (emodb, trees.emodb_tree),
    "meld": (meld, lambda root: trees.meld_tree(root, share=100)),
}


@pytest.fixture(params=TREES)
def corpus(request, tmp_path):
    """A corpus' module and a small tree of it."""
    module, make = TREES[request.param]
    return module, make(tmp_path / "corpus")


def labels(reading):
    assert not reading.left_out
    return {
        id_: (u.emotion, u.speaker, u.gender, u.split)
        for id_, u in reading.utterances.items()
    }


def audio_files(root: Path) -> list[Path]:
    return [p for p in root.rglob("*.wav") if not p.name.startswith(".")]


def test_junk_is_not_read(corpus):
    module, root = corpus
    expected = labels(module.read(root))
    for folder in [root, *(p for p in root.rglob("*") if p.is_dir())]:
        files = [p for p in folder.iterdir() if p.is_file()]
        for name in JUNK:
            junk = folder / name
            junk.mkdir()
            for path in files:  # resource forks and old copies have the same names
                (junk / path.name).write_bytes(b"\0\5\x16\7")
        for path in files:
            (folder / f"._{path.name}").write_bytes(b"\0\5\x16\7")
            # Synology keeps a folder for each file, of the file's name.
            (folder / "@eaDir" / f"{path.stem}.d" / path.name).mkdir(parents=True)
        for name in ("Thumbs.db", "desktop.ini", ".DS_Store"):
            (folder / name).write_bytes(b"\0\1\2")
    for name in JUNK:  # a whole copy of the tree
        shutil.copytree(
            root, root / name / "copy", ignore=shutil.ignore_patterns(*JUNK)
        )
    assert labels(module.read(root)) == expected


@pytest.mark.parametrize("suffix", [".WAV", ".Wav", ".flac", ".FLAC"])
def test_other_spellings_and_conversions(corpus, suffix):
    module, root = corpus
    expected = labels(module.read(root))
    for path in audio_files(root):
        if suffix.lower() == ".flac":
            samples, rate = sf.read(path, dtype="int16")
            sf.write(path.with_suffix(suffix), samples, rate, format="FLAC")
            path.unlink()
        else:
            path.rename(path.with_suffix(suffix))
    reading = module.read(root)
    assert labels(reading) == expected
    assert not any(report.fault for report in check_audio(reading.utterances).values())


def test_wav_goes_before_a_conversion(corpus):
    module, root = corpus
    expected = labels(module.read(root))
    for path in audio_files(root):
        path.with_suffix(".flac").write_bytes(b"fLaC")
    reading = module.read(root)
    assert labels(reading) == expected
    assert all(u.wav.endswith(".wav") for u in reading.utterances.values())


@pytest.mark.parametrize("change", [str.upper, str.lower, lambda name: f"{name} "])
def test_names_of_folders(corpus, change):
    module, root = corpus
    expected = labels(module.read(root))
    for path in sorted(root.rglob("*"), key=lambda p: -len(p.parts)):
        # The dialogs' own names are ids: of these only a blank at the end is no name.
        if path.is_dir() and not (path.name.startswith("Ses0") and change("a") != "a "):
            path.rename(path.with_name(change(path.name)))
    assert labels(module.read(root)) == expected


@pytest.mark.parametrize("change", [str.upper, str.lower])
@pytest.mark.parametrize("name", ["iemocap", "msp_podcast", "meld"])
def test_whole_trees_in_another_letter_case(tmp_path, name, change):
    module, make = TREES[name]
    root = make(tmp_path / "corpus")
    expected = labels(module.read(root))
    for path in sorted(root.rglob("*"), key=lambda p: -len(p.parts)):
        path.rename(path.with_name(change(path.name)))
    reading = module.read(root)
    assert labels(reading) == expected
    assert all(Path(u.wav).is_file() for u in reading.utterances.values())


def test_second_downloads(corpus):
    module, root = corpus
    expected = labels(module.read(root))
    first, *others = audio_files(root)
    first.rename(first.with_name(f"{first.stem} (1).wav"))  # the only one of its name
    for path in others[:3]:
        path.with_name(f"{path.stem} (2).wav").write_bytes(b"RIFF")
    reading = module.read(root)
    assert labels(reading) == expected
    assert not any(report.fault for report in check_audio(reading.utterances).values())


def test_links_to_folders(corpus, tmp_path):
    module, root = corpus
    expected = labels(module.read(root))
    for path in sorted(root.rglob("*"), key=lambda p: -len(p.parts)):
        if path.is_dir():
            target = tmp_path / "elsewhere" / path.relative_to(root)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target.with_name(f"{target.name}_moved"))
            path.symlink_to(target.with_name(f"{target.name}_moved"))
    (tmp_path / "link").symlink_to(root)
    assert labels(module.read(tmp_path / "link")) == expected


def test_a_link_to_nothing_is_told(tmp_path):
    root = trees.emodb_tree(tmp_path / "EmoDB")
    (root / "wav" / "03a01Wa.wav").unlink()
    (root / "wav" / "03a01Wa.wav").symlink_to("../.git/annex/objects/x")
    reports = check_audio(emodb.read(root).utterances)
    assert reports["03a01Wa"].fault == "missing file"


def test_ravdess_below_a_link_that_goes_round(tmp_path):
    root = tmp_path / "RAVDESS"
    root.mkdir()
    small_ravdess(tmp_path / "disk" / "speech")
    (root / "Audio_Speech_Actors_01-24").symlink_to(tmp_path / "disk" / "speech")
    (tmp_path / "disk" / "speech" / "round").symlink_to(root)
    assert len(ravdess.read(root).utterances) == 120


@pytest.mark.parametrize("name", [b"donn\xe9es", b"Sprach daten\xdf "])
def test_a_latin_1_folder(tmp_path, name, capsys):
    root = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)) / "EmoDB"
    trees.emodb_tree(root)
    (root / "wav" / "03a01Wa.wav").write_bytes(SHORT[:-1000])
    data = tmp_path / "data"
    command = ["--corpus", "emodb", "--root", str(root), "--output", str(data)]
    ser_prepare.main(command)
    assert "1 audio: cut off or damaged" in capsys.readouterr().out
    utterances = read_data_dir(data).utterances
    assert len(utterances) == 534
    assert all(os.path.isfile(u.wav) for u in utterances.values())
    assert name in (data / "wav.scp").read_bytes()
    for table in ("left_out.tsv", "audio_check.tsv"):
        assert (data / table).read_bytes().count(name) == 1


TABLES = {
    "msp_podcast": "Labels/labels_concensus.csv",
    "crema_d": "VideoDemographics.csv",
    "meld": "dev_sent_emo.csv",
}


@pytest.fixture(params=TABLES)
def table(request, tmp_path):
    """A corpus' module, a small tree, and its table."""
    module, make = TREES[request.param]
    root = make(tmp_path / "corpus")
    return module, root, root / TABLES[request.param]


EXPORTS = {
    "bom": lambda text: b"\xef\xbb\xbf" + text,
    "crlf": lambda text: text.replace(b"\n", b"\r\n"),
    "cr": lambda text: text.replace(b"\n", b"\r"),
    "crcrlf": lambda text: text.replace(b"\n", b"\r\r\n"),
}


@pytest.mark.parametrize("export", EXPORTS)
def test_exports_of_tables(table, export):
    module, root, path = table
    expected = labels(module.read(root))
    path.write_bytes(EXPORTS[export](path.read_bytes()))
    assert labels(module.read(root)) == expected


@pytest.mark.parametrize("separator", [";", "\t"])
def test_separators_of_tables(tmp_path, separator):
    for name in ("msp_podcast", "crema_d"):
        module, make = TREES[name]
        root = make(tmp_path / name)
        expected = labels(module.read(root))
        path = root / TABLES[name]
        path.write_text(path.read_text().replace(",", separator))
        assert labels(module.read(root)) == expected


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_is_told(table, encoding):
    module, root, path = table
    path.write_bytes(path.read_bytes().decode().encode(encoding))
    with pytest.raises(UserError, match=r":1: UTF-16 text .*save the file as UTF-8"):
        module.read(root)


def test_a_latin_1_cell_is_told_with_its_line(table):
    module, root, path = table
    lines = path.read_bytes().split(b"\n")
    lines[2] = lines[2].replace(b"a", b"\xe4").replace(b"e", b"\xe9")
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(UserError) as error:
        module.read(root)
    assert str(error.value).startswith(f"{path}:3: not UTF-8 text")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_numbers_of_any_line_end(tmp_path, end):
    (tmp_path / "a").write_bytes(end.join(["a", "", "b", ""]).encode())
    numbered = [(n, text) for n, text in read_lines(tmp_path / "a") if text]
    assert numbered == [(1, "a"), (3, "b")]


def test_iemocap_labels_of_an_old_mac(small_iemocap):
    expected = labels(iemocap.read(small_iemocap))
    for path in small_iemocap.glob("Session*/dialog/EmoEvaluation/Ses*.txt"):
        path.write_bytes(path.read_bytes().replace(b"\r", b"").replace(b"\n", b"\r"))
        path.rename(path.with_suffix(".TXT"))
    assert labels(iemocap.read(small_iemocap)) == expected
