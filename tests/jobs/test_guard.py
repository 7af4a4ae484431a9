"""What a step has started ends with the driver, and the lock is held until then."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from espnet_ext.errors import UserError
from espnet_ext.jobs.local import run_steps
from espnet_ext.jobs.lock import acquire
from espnet_ext.jobs.step import Step

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
DRIVER = """
import signal, sys
sys.path[:0] = [{root!r}, {here!r}]
from pathlib import Path
from test_guard import step_of
from espnet_ext.jobs.local import run_steps
# A shell that starts pytest in the background would have SIGINT ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
run_steps([step_of(Path({folder!r}))], jobs=1)
"""


def step_of(folder):
    output = folder / "run"
    return Step(
        name="ranks",
        stage=5,
        module="grandchildren",
        args=("--output", str(output)),
        output=output,
        products=("0",),
    )


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def ranks_write(folder):
    files = [folder / "run" / name for name in ("0", "1")]
    wait_for(lambda: all(path.exists() and path.stat().st_size for path in files))
    return files


def assert_nobody_writes(files):
    sizes = [path.stat().st_size for path in files]
    time.sleep(0.5)
    assert [path.stat().st_size for path in files] == sizes


@pytest.fixture
def driver(tmp_path):
    code = DRIVER.format(root=str(ROOT), here=str(HERE), folder=str(tmp_path))
    environment = dict(os.environ, PYTHONPATH=f"{HERE}:{ROOT}")
    process = subprocess.Popen([sys.executable, "-c", code], env=environment)
    yield process
    process.kill()
    process.wait()


def test_no_rank_writes_once_another_run_has_the_lock(driver, tmp_path):
    files = ranks_write(tmp_path)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    with acquire(step_of(tmp_path), patience=30):
        assert_nobody_writes(files)


def test_an_interrupted_driver_leaves_nothing_behind(driver, tmp_path):
    files = ranks_write(tmp_path)
    driver.send_signal(signal.SIGINT)
    assert driver.wait(timeout=30) != 0
    assert_nobody_writes(files)


def test_a_step_that_is_killed_takes_its_ranks_along(tmp_path, monkeypatch):
    """Its ranks hold the pipe of its output: nobody may wait for them."""
    monkeypatch.syspath_prepend(str(HERE))
    pid = os.fork()
    if pid == 0:
        ranks_write(tmp_path)
        os.kill(int((tmp_path / ".run.lock").read_text().split()[1]), signal.SIGKILL)
        os._exit(0)
    start = time.monotonic()
    with pytest.raises(UserError, match="ranks was killed"):
        run_steps([step_of(tmp_path)], jobs=1)
    os.waitpid(pid, 0)
    assert time.monotonic() - start < 20  # the ranks write for 30 s
