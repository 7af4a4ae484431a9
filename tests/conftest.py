"""What every test shares."""

import os
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

# Two threads beside another process are far slower than one on tiny models. Set
# before torch is imported, so that it holds in subprocesses too.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

GPU = Path(__file__).parent / "gpu"


def pytest_addoption(parser):
    parser.addoption(
        "--screenshots",
        help="folder for pictures of the page; its model is then that of ./run.sh",
    )


def pytest_collection_modifyitems(items):
    """Export last: after it torch refuses gradients in forks of this process."""
    items.sort(key=lambda item: item.path.name == "test_onnx.py")


@pytest.fixture(autouse=True)
def same_environment():
    """Leave nothing behind of what cmd.sh says to a program that a test calls."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="session")
def pretended_gpu(tmp_path_factory):
    """The environment in which torch sees one GPU whose kernels fail."""
    packages = Path(find_spec("torch").origin).parents[1]
    headers = sorted(packages.glob("nvidia/cu*/include/cuda_runtime_api.h"))
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or not headers:
        pytest.skip("no C compiler, or a torch without CUDA")
    library = tmp_path_factory.mktemp("cuda") / "libcuda.so.1"
    subprocess.run(
        [
            *(compiler, "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1"),
            *(f"-I{GPU}", f"-I{headers[-1].parent}", "-o", str(library)),
            str(GPU / "pretended_cuda.c"),
        ],
        check=True,
    )
    environment = dict(os.environ, LD_PRELOAD=str(library))
    environment.pop("CUDA_VISIBLE_DEVICES", None)
    return environment
