"""Trees that several tests read."""

import pytest

from corpora import iemocap_tree, msp_tree
from espnet_ext.bin import ser_prepare


@pytest.fixture(scope="session")
def real_iemocap(tmp_path_factory):
    """A release of the real size, and its data directory."""
    folder = tmp_path_factory.mktemp("iemocap")
    root = iemocap_tree.real_size_tree(folder / "IEMOCAP_full_release")
    ser_prepare.main(
        ["--corpus", "iemocap", "--root", str(root), "--output", str(folder / "data")]
    )
    return root, folder / "data"


@pytest.fixture
def small_iemocap(tmp_path):
    return iemocap_tree.small_tree(tmp_path / "IEMOCAP_full_release")


@pytest.fixture
def small_msp(tmp_path):
    return msp_tree.small_tree(tmp_path / "MSP-PODCAST-1.8")
