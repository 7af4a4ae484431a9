"""A real Slurm for all tests of this folder that ask for one."""

import os
from pathlib import Path

import pytest
from one_machine_slurm import running_slurm, why_not

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def slurm():
    """The environment variables of a running cluster, which are set."""
    reason = why_not()
    if reason:
        pytest.skip(reason)
    with (
        running_slurm(largest_array=10) as environment,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in environment.items():
            patch.setenv(name, value)
        root = str(HERE.parents[1])
        patch.setenv("PYTHONPATH", f"{HERE}{os.pathsep}{root}")
        yield environment
