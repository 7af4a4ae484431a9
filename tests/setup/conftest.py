import pytest
from machine import Machine


@pytest.fixture
def machine(tmp_path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
def ready(machine) -> Machine:
    """A machine with a Python 3.12 and uv on PATH."""
    machine.add_python(machine.bin / "python3.12")
    machine.add_uv()
    return machine
