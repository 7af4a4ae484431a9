"""Which copy of a package is imported: told without and with importing it."""

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from espnet_ext.scoring.trainings import read_environment, training_times
from espnet_ext.utils.packages import find_package, strangers

ROOT = Path(__file__).parents[2]


@pytest.fixture
def beside(tmp_path, monkeypatch):
    """A function that puts a package of some version before the environment's."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("SER_ROOT", str(ROOT))

    def put(name, file, text):
        monkeypatch.delitem(sys.modules, name, raising=False)
        for path, content in ((f"{name}/__init__.py", ""), (file, text)):
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(content)
        return tmp_path / name

    return put


def test_the_environments_own_packages_are_no_news(monkeypatch):
    monkeypatch.setenv("SER_ROOT", str(ROOT))
    assert strangers() == []
    for name in ("torch", "transformers"):
        found = find_package(name)
        assert (found.version, found.own) == (metadata.version(name), True)


@pytest.mark.parametrize(
    ("name", "file", "text", "version"),
    [
        ("espnet2", "espnet/version.txt", "202402\n", "202402"),
        ("espnet2", "version.txt", "202402\n", "202402"),
        ("espnet2", "pyproject.toml", '[project]\nversion = "202402"\n', "202402"),
        ("torch", "torch/version.py", "__version__ = '1.0'\n", "1.0"),
        ("torch", "torch/version.py", "__version__: str = '1.0'\n", "1.0"),
        ("transformers", "transformers/__init__.py", '__version__ = "4.1"\n', "4.1"),
        ("s3prl", "s3prl/version.txt", "0.4.1", "0.4.1"),
        ("s3prl", "s3prl/hub.py", "", "unknown"),
    ],
)
def test_another_copy_is_told(beside, name, file, text, version):
    folder = beside(name, file, text)
    (sentence,) = strangers()
    assert sentence.startswith(f"{name} is imported from {folder} (version {version})")
    assert "PYTHONPATH" in sentence


def test_another_checkout_of_this_package_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("SER_ROOT", str(tmp_path))
    (sentence,) = strangers()
    assert sentence.startswith(f"espnet_ext is imported from {ROOT}/espnet_ext")


def test_a_start_with_another_espnet_says_so(tmp_path):
    (tmp_path / "espnet2").mkdir()
    (tmp_path / "espnet2" / "__init__.py").touch()
    (tmp_path / "version.txt").write_text("202402")
    environ = {**os.environ, "VIRTUAL_ENV": sys.prefix, "PYTHONPATH": str(tmp_path)}
    command = [ROOT / "run.sh", "--dry_run"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (
        f"warning: espnet2 is imported from {tmp_path}/espnet2 (version 202402), not"
    ) in done.stderr


def test_results_tell_what_trained_and_not_what_is_installed(tmp_path):
    log = tmp_path / "train.log"
    start = {
        "seconds": 1.0,
        "first_epoch": 1,
        "last_epoch": 1,
        "python": "3.12.3",
        "torch": "2.0",
        "cuda": None,
        "packages": {
            "espnet2": {"version": "202402", "folder": "/x/espnet2", "own": False},
            "torch": {"version": "2.0", "folder": "/env/torch", "own": True},
        },
        "machines": [{"host": "a", "cpu": "b", "threads": 1, "gpus": []}],
    }
    (tmp_path / "hardware.json").write_text(json.dumps({"starts": [start]}))
    environment = read_environment([log])
    assert environment.espnet == "202402 from /x/espnet2"
    assert environment.torch == "2.0"
    (found,) = training_times({0: log})[0].starts
    assert found.software == "torch 2.0, espnet 202402 from /x/espnet2, python 3.12.3"
