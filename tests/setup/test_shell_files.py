"""path.sh, cmd.sh and db.sh, as recipes source them."""

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


def test_cmd_backends(machine):
    show = 'echo "$cmd_backend: $train_cmd"'

    local = machine.bash(f"set -eu; . ./cmd.sh; {show}").stdout
    assert local.startswith("local: run.pl --mem ")
    slurm = machine.bash(f"set -eu; . ./cmd.sh; {show}", cmd_backend="slurm")
    assert slurm.stdout.startswith("slurm: slurm.pl --")
    unknown = machine.bash("set -eu; . ./cmd.sh; echo on", cmd_backend="pbs")
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert "cmd_backend=pbs is not known; use local, slurm" in unknown.stderr


def test_corpora_are_empty_unless_set(machine):
    names = ("IEMOCAP", "MSP_PODCAST", "CREMA_D", "RAVDESS", "EMODB", "MELD")
    show = "set -eu; . ./db.sh; echo " + " ".join(f'"{n}=${n}"' for n in names)

    assert machine.bash(show).stdout.split() == [f"{name}=" for name in names]
    assert "MELD=/a" in machine.bash(show, MELD="/a").stdout
