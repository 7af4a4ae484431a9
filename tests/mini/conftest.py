"""The smallest built-in corpora, made once for all tests of this folder."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def made(tmp_path_factory) -> Path:
    """What the program writes for seed 0, in a process of its own."""
    output = tmp_path_factory.mktemp("mini")
    command = [sys.executable, "-m", "espnet_ext.bin.ser_make_mini"]
    options = ["--output", str(output), "--scale", "0.1"]
    done = subprocess.run(
        [*command, *options], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    names = ["hubert_tiny", "IEMOCAP_full_release", "MSP-PODCAST-1.8"]
    assert done.stdout.split("\n") == [*(str(output / name) for name in names), ""]
    return output


@pytest.fixture(scope="session")
def iemocap_root(made) -> Path:
    return made / "IEMOCAP_full_release"


@pytest.fixture(scope="session")
def msp_root(made) -> Path:
    return made / "MSP-PODCAST-1.8"
