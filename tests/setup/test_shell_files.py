"""path.sh, cmd.sh and db.sh, as recipes source them."""

import shutil
import subprocess

import pytest
from machine import ROOT

SHOW = 'printf "%s\\n" "$SER_ROOT" "$SER_ENV" "$PATH" "$PYTHONPATH" "$VIRTUAL_ENV"'


def test_sets_the_environment(ready):
    done = ready.bash(f"set -euo pipefail; . ./path.sh; {SHOW}; env")

    root, env = str(ready.root), str(ready.venv)
    lines = done.stdout.splitlines()
    assert lines[:5] == [root, env, f"{env}/bin:{ready.bin}", root, env]
    assert {"PYTHONIOENCODING=UTF-8", "LC_ALL=C", "OMP_NUM_THREADS=1"} <= set(lines)


def test_works_through_links_and_from_other_folders(ready):
    recipe = ready.folder / "an other" / "ser1"
    recipe.mkdir(parents=True)
    (ready.folder / "link to clone").symlink_to(ready.root)
    (recipe / "path.sh").symlink_to(ready.folder / "link to clone" / "path.sh")

    done = ready.bash('set -eu; . ./path.sh; pwd; echo "$SER_ROOT"', cwd=recipe)

    assert done.stdout.splitlines() == [str(recipe), str(ready.root)], done.stderr


def test_sourced_twice_adds_nothing(ready):
    (ready.root / "inner.sh").write_text(f". ./path.sh; {SHOW}")
    once = ready.bash(f". ./path.sh; : ; {SHOW}", PYTHONPATH="/mine")
    twice = ready.bash(". ./path.sh; bash inner.sh", PYTHONPATH="/mine")

    assert once.stdout.splitlines()[:4] == twice.stdout.splitlines()[:4]
    assert once.stdout.splitlines()[3] == f"{ready.root}:/mine"


def test_failure_is_returned_and_changes_nothing(ready):
    done = ready.bash(
        '. ./path.sh || echo "status $?"; echo "${SER_ROOT-none} $PATH"', UV_DOES="fail"
    )

    assert done.stdout.splitlines() == ["status 1", f"none {ready.bin}"]
    assert ready.bash("set -e; . ./path.sh; echo on", UV_DOES="fail").stdout == ""


@pytest.mark.parametrize("name", ["a:b", "a\nb"])
def test_a_folder_that_cannot_be_in_pythonpath_is_told(ready, name):
    other = ready.folder / name
    ready.root.rename(other)

    done = ready.bash('. ./path.sh || echo "status $?"', cwd=other)

    assert done.stdout == "status 1\n"
    assert "move the folder to a place whose name has neither" in done.stderr


def test_line_ends_stay_in_a_clone_made_as_on_windows(machine, tmp_path):
    shutil.copy(ROOT / ".gitattributes", machine.root)
    windows = tmp_path / "windows"
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c"]
    for words in (
        ["init", "-q", machine.root],
        ["-C", machine.root, "add", "-A"],
        ["-C", machine.root, "commit", "-qm", "all"],
        ["clone", "-q", "-c", "core.autocrlf=true", machine.root, windows],
    ):
        subprocess.run([*git, *words], check=True, capture_output=True)
    found = [path for path in windows.rglob("*") if ".git" not in path.parts]
    texts = {p: p.read_bytes() for p in found if p.is_file()}
    assert len(texts) > 8
    assert [path for path, text in texts.items() if b"\r" in text] == []


def test_cmd_backends(machine):
    show = 'echo "$cmd_backend: $train_cmd"'

    local = machine.bash(f"set -eu; . ./cmd.sh; {show}").stdout
    assert local.startswith("local: run.pl --mem ")
    slurm = machine.bash(f"set -eu; . ./cmd.sh; {show}", cmd_backend="slurm")
    assert slurm.stdout.startswith("slurm: slurm.pl --")
    unknown = machine.bash("set -eu; . ./cmd.sh; echo on", cmd_backend="pbs")
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert "cmd_backend=pbs is not known; use local or slurm" in unknown.stderr


def test_corpora_are_empty_unless_set(machine):
    names = ("IEMOCAP", "MSP_PODCAST", "CREMA_D", "RAVDESS", "EMODB", "MELD")
    show = "set -eu; . ./db.sh; echo " + " ".join(f'"{n}=${n}"' for n in names)

    assert machine.bash(show).stdout.split() == [f"{name}=" for name in names]
    assert "MELD=/a" in machine.bash(show, MELD="/a").stdout
