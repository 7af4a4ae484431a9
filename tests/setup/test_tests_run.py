"""tests/run.sh and .ci/run, in an active environment that writes down its calls."""

import pytest


@pytest.fixture
def checks(machine):
    """A machine whose environment fails those checks that $FAILS names."""
    env = machine.folder / "env"
    machine.add(
        env / "bin" / "python",
        f'#!/bin/sh\necho "$PWD: $*" >>"{machine.log}"\n'
        'if [ "$1" = -W ]; then shift 2; fi\n'
        'if [ "$2" = pytest ]; then echo "== 3 passed in 0.10s =="; fi\n'
        'case " $FAILS " in *" $2 "*) exit 1 ;; esac\n',
    )
    machine.environ |= {"VIRTUAL_ENV": str(env), "FAILS": ""}
    return machine


def calls(machine):
    prefix = f"{machine.root}: -"
    return [line.partition("-m ")[2] for line in machine.calls(prefix) if "-m " in line]


def test_all_checks_pass(checks):
    done = checks.bash("tests/run.sh")

    assert done.returncode == 0, done.stderr
    names = [call.split()[0] for call in calls(checks)]
    assert names == ["ruff", "ruff", "mypy", "pytest"]
    assert done.stdout.splitlines()[-1] == "== 3 passed in 0.10s =="


@pytest.mark.parametrize("failing", ["ruff", "mypy", "pytest"])
def test_all_are_run_though_one_fails(checks, failing):
    done = checks.bash("tests/run.sh", FAILS=failing)

    assert done.returncode == 1
    assert len(calls(checks)) == 4
    assert done.stdout.splitlines()[-1] == "== 3 passed in 0.10s =="
    assert ("== FAILED: " in done.stdout) == (failing != "pytest")


def test_arguments_are_pytests(checks):
    checks.bash('tests/run.sh tests/setup -k "a or b" --slow')

    assert calls(checks)[-1] == "pytest tests/setup -k a or b -m "


def test_through_a_link_from_another_folder(checks):
    link = checks.folder / "a link"
    link.symlink_to(checks.root / "tests" / "run.sh")

    assert checks.bash(f'"{link}"', cwd=checks.home).returncode == 0
    assert len(calls(checks)) == 4


def test_help_starts_nothing(checks):
    done = checks.bash("tests/run.sh --help")

    assert "tests/run.sh [--slow]" in done.stdout
    assert checks.calls() == []


def test_ci_is_the_same(checks):
    assert checks.bash("bash .ci/run", cwd=checks.root).returncode == 0
    assert checks.bash(f'bash "{checks.root}/.ci/run"', cwd=checks.home).returncode == 0
    assert len(calls(checks)) == 8
    assert checks.bash("bash .ci/run", FAILS="mypy").returncode == 1
