import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from machine import OLD_PYTHON, REAL_PYTHON, SHIM, Machine, is_running, wait_until

NO_SYSTEM = ". local/setup_env.sh; system_python_folders() { :; }; main"


class TestFirstStart:
    def test_makes_the_environment_and_prints_only_its_folder(self, ready):
        done = ready.set_up()

        assert done.returncode == 0, done.stderr
        assert done.stdout == f"{ready.venv}\n"
        assert "about 6 GB" in done.stderr
        (install,) = ready.calls("uv pip install")
        assert "--constraints conf/constraints.txt" in install
        assert "--editable .[mini,dev]" in install

    def test_follows_a_link_to_another_disk(self, ready, tmp_path):
        disk = tmp_path / "disk" / "environment"
        disk.parent.mkdir()
        ready.venv.symlink_to(disk)

        assert ready.set_up().stdout == f"{disk}\n"
        assert (disk / "bin" / "python").exists()
        assert ready.venv.is_symlink()

    def test_gets_uv_with_pip_and_falls_back_to_pip(self, machine):
        """Without uv: an environment first, then pip is asked for uv (here in vain)."""
        machine.add(
            machine.bin / "python3.12",
            "#!/bin/sh\n"
            f'echo "base $*" >>"{machine.log}"\n'
            'case "$*" in\n'
            '"-m venv "*)\n'
            '    mkdir -p "$3/bin"; cp "$0" "$3/bin/python" ;;\n'
            '"-m pip install --quiet uv") exit 1 ;;\n'
            '"-m pip install "*) { pwd; echo "$PIP_CONSTRAINT $TMPDIR"; } >>"$LOG" ;;\n'
            f'-I\\ -c\\ *) "{REAL_PYTHON}" "$@" | sed "s,[^ ]*$,$0," ;;\n'
            "esac\n",
        )

        done = machine.set_up()

        assert done.returncode == 0, done.stderr
        assert "going on with pip" in done.stderr
        (install,) = machine.calls("base -m pip install --use-pep517")
        assert install.endswith("--editable .[mini,dev]")
        lines = machine.calls()
        after = lines.index(install)
        assert lines[after + 1] == str(machine.root)
        assert lines[after + 2] == f"conf/constraints.txt {machine.venv}/tmp"
        assert not (machine.venv / "tmp").exists()


class TestLaterStarts:
    def test_starts_neither_python_nor_uv(self, ready):
        ready.set_up()
        before = ready.calls()

        done = ready.set_up()

        assert (done.returncode, done.stdout) == (0, f"{ready.venv}\n")
        assert done.stderr == ""
        assert ready.calls() == before

    @pytest.mark.parametrize("name", ["setup.py", "conf/constraints.txt"])
    def test_makes_it_anew_for_other_requirements(self, ready, name):
        ready.set_up()
        with (ready.root / name).open("a") as file:
            file.write("# another\n")
        (ready.venv / "old").touch()

        done = ready.set_up()

        assert "other requirements" in done.stderr
        assert len(ready.calls("uv pip install")) == 2
        assert not (ready.venv / "old").exists()

    def test_makes_it_anew_in_another_place(self, ready):
        ready.set_up()
        ready.root = ready.root.rename(ready.folder / "moved")

        done = ready.set_up()

        assert done.stdout == f"{ready.root}/.venv\n"
        assert len(ready.calls("uv pip install")) == 2

    def test_makes_it_anew_when_its_python_has_gone(self, ready):
        ready.set_up()
        (ready.venv / "bin" / "python").unlink()

        ready.set_up()

        assert len(ready.calls("uv pip install")) == 2


class TestFindPython:
    def test_passes_over_a_shim_that_fails(self, ready):
        shims = ready.folder / "shims"
        ready.add(shims / "python3.12", SHIM)
        ready.add(shims / "python3", SHIM)

        done = ready.set_up(PATH=f"{shims}:{ready.bin}")

        assert done.returncode == 0, done.stderr
        assert ready.calls("uv venv")[0].split("--python ")[1].startswith(REAL_PYTHON)

    def test_takes_python3_of_a_right_version(self, machine):
        machine.add_uv()
        machine.add_python(machine.bin / "python3")

        assert machine.set_up().returncode == 0

    @pytest.mark.parametrize(
        "place",
        [
            ".pyenv/versions/3.12.1/bin/python3.12",
            ".pyenv/versions/3.13.0/bin/python3.13",
            ".local/share/uv/python/cpython-3.12.1-linux-x86_64-gnu/bin/python3.12",
            ".asdf/installs/python/3.13.2/bin/python3.13",
            ".local/share/mise/installs/python/3.12.4/bin/python3.12",
            "miniforge3/bin/python3.12",
            "miniconda3/envs/speech/bin/python3.13",
        ],
    )
    def test_looks_into_the_version_managers_folders(self, machine, place):
        machine.add_uv()
        machine.add(machine.bin / "python3", OLD_PYTHON)
        machine.add_python(machine.home / place)

        done = machine.bash(NO_SYSTEM)

        assert done.returncode == 0, done.stderr
        assert machine.calls("base")

    def test_says_what_was_looked_for_when_there_is_none(self, machine):
        old = machine.add(machine.bin / "python3", OLD_PYTHON)
        machine.add(machine.bin / "python3.12", SHIM)

        done = machine.bash(NO_SYSTEM)

        assert done.returncode == 1
        assert done.stdout == ""
        assert "error: no Python 3.12 or 3.13" in done.stderr
        assert "python3.12, python3.13, python3 and python on PATH" in done.stderr
        assert f"{old} (3.11.7)" in done.stderr
        assert "pyenv install 3.12" in done.stderr
        assert not machine.venv.exists()

    def test_says_so_when_it_cannot_make_environments(self, machine):
        """As on Debian without python3-venv."""
        bare = machine.add(
            machine.bin / "python3.12",
            "#!/bin/sh\n"
            'case "$*" in *ensurepip*) exit 1 ;; esac\n'
            f'"{REAL_PYTHON}" "$@" | sed "s,[^ ]*$,$0,"\n',
        )

        done = machine.bash(NO_SYSTEM)

        assert done.returncode == 1
        assert f"{bare} has neither ensurepip nor venv" in done.stderr


class TestInterrupted:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    def test_leaves_nothing_behind(self, ready, number):
        process = ready.start_set_up(UV_DOES="hang")
        installer = ready.wait_for_installer()

        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=20)

        assert process.returncode == -number
        assert stdout == ""
        assert "Set-up interrupted" in stderr
        assert not ready.venv.exists()
        assert not is_running(installer)

    def test_what_a_kill_leaves_is_thrown_away(self, ready):
        process = ready.start_set_up(UV_DOES="hang")
        installer = ready.wait_for_installer()
        process.kill()
        process.wait()
        assert (ready.venv / "bin" / "python").exists()
        (ready.venv / "half").touch()

        # The killed set-up's installer still writes, so the next start waits for it.
        second = ready.start_set_up()
        wait_until(lambda: "waiting" in os.read(second.stderr.fileno(), 4096).decode())
        assert second.poll() is None
        os.kill(installer, signal.SIGKILL)
        stdout, stderr = second.communicate(timeout=20)

        assert (second.returncode, stdout) == (0, f"{ready.venv}\n")
        assert "killed half-way" in stderr
        assert not (ready.venv / "half").exists()
        assert len(ready.calls("uv pip install")) == 2

    def test_a_removal_that_was_killed_is_gone_on_with(self, ready):
        """The stamp is the last to go, so the rest is still known to be ours."""
        ready.set_up()
        done = ready.bash(
            ". local/setup_env.sh; "
            'find() { command find "$1" -name python -delete; kill -9 $$; }; discard'
        )
        assert done.returncode == -signal.SIGKILL
        assert not (ready.venv / "bin" / "python").exists()

        assert ready.set_up().returncode == 0
        assert (ready.venv / "bin" / "python").exists()

    def test_interrupted_while_it_removes_an_old_one(self, ready):
        ready.set_up()
        (ready.venv / "bin" / "python").unlink()

        done = ready.bash(
            '. local/setup_env.sh; rmdir() { command rmdir "$@"; kill -TERM $$; }; main'
        )

        assert done.returncode == -signal.SIGTERM
        assert "could not be removed" not in done.stderr
        assert not ready.venv.exists()

    def test_a_failed_installation_leaves_nothing_behind(self, ready):
        done = ready.set_up(UV_DOES="fail")

        assert done.returncode == 1
        assert done.stdout == ""
        assert "no route to host" in done.stderr
        assert "error: set-up failed: uv could not install the packages" in done.stderr
        assert not ready.venv.exists()

    def test_packages_that_do_not_load_are_a_failure(self, ready):
        """As wheels for another platform, or a system that is too old."""
        done = ready.set_up(
            ENV_DOES='case "$*" in *"import soundfile"*) echo no library; exit 1;; esac'
        )

        assert done.returncode == 1
        assert "no library\nerror: set-up failed: what was installed" in done.stderr
        assert not ready.venv.exists()

    def test_two_starts_at_once_install_once(self, ready):
        both = [ready.start_set_up(UV_DOES="install_slowly") for _ in range(2)]

        outputs = [process.communicate(timeout=30) for process in both]

        assert [x.returncode for x in both] == [0, 0], outputs
        assert [out for out, _ in outputs] == [f"{ready.venv}\n"] * 2
        assert len(ready.calls("uv pip install")) == 1


class TestEnvironmentsOfTheUser:
    @pytest.mark.parametrize("variable", ["VIRTUAL_ENV", "CONDA_PREFIX"])
    def test_an_active_one_with_the_requirements_is_taken(self, ready, variable):
        """The one that these tests run in: it holds what setup.py asks for."""
        done = ready.set_up(**{variable: sys.prefix, "SER_EXTRAS": "mini,dev"})

        assert (done.returncode, done.stdout) == (0, f"{sys.prefix}\n"), done.stderr
        assert not ready.venv.exists()
        assert ready.calls() == []

    def test_an_active_one_without_them_is_not(self, ready, tmp_path):
        other = make_bare_environment(tmp_path / "other")

        done = ready.set_up(VIRTUAL_ENV=str(other))

        assert done.stdout == f"{ready.venv}\n"
        assert f"{other} is not used; it lacks:\n  espnet==202611" in done.stderr
        again = ready.set_up(VIRTUAL_ENV=str(other))
        assert (again.stdout, again.stderr) == (f"{ready.venv}\n", "")

    def test_packages_on_pythonpath_do_not_count(self, ready, tmp_path):
        other = make_bare_environment(tmp_path / "other")
        site = next(p for p in sys.path if p.endswith("site-packages"))

        done = ready.set_up(VIRTUAL_ENV=str(other), PYTHONPATH=site)

        assert done.stdout == f"{ready.venv}\n"

    def test_a_venv_that_is_not_ours_is_never_deleted(self, ready):
        make_bare_environment(ready.venv)

        done = ready.set_up()

        assert done.returncode == 1
        assert "was not made by this set-up" in done.stderr
        assert (ready.venv / "pyvenv.cfg").exists()
        assert ready.calls("uv") == []

    def test_a_venv_that_is_not_ours_is_used_if_complete(self, ready):
        ready.add(ready.venv / "bin" / "python", "#!/bin/sh\nexit 0\n")

        done = ready.set_up()

        assert (done.returncode, done.stdout) == (0, f"{ready.venv}\n")
        assert ready.calls("uv") == []


class TestDisk:
    def test_read_only_folder(self):
        # Not in tmp_path, which a user without rights may not enter.
        with tempfile.TemporaryDirectory() as name:
            machine = Machine(Path(name))
            Path(name).chmod(0o755)
            machine.root.chmod(0o555)
            done = subprocess.run(
                ["bash", "local/setup_env.sh"],
                cwd=machine.root,
                env=machine.environ,
                capture_output=True,
                text=True,
                timeout=60,
                user=65534 if os.geteuid() == 0 else None,
            )
            machine.root.chmod(0o755)

        assert done.returncode == 1
        expected = f"error: set-up cannot write in {machine.root}: Permission denied."
        assert done.stderr.splitlines()[0] == expected

    def test_folder_that_is_not_a_disk(self, ready):
        ready.venv.symlink_to("/proc/environment")

        done = ready.set_up()

        assert done.returncode == 1
        assert done.stderr.startswith("error: set-up cannot write in /proc: ")

    def test_too_little_space(self, ready):
        ready.add(
            ready.bin / "df",
            "#!/bin/sh\n"
            "echo 'Filesystem 1024-blocks Used Available Capacity Mounted on'\n"
            "echo '/dev/sda1 100000000 96600000 3400000 97% /'\n",
        )

        done = ready.set_up()

        assert done.returncode == 1
        assert "needs about 8 GB of disk" in done.stderr
        assert "3 GB are free" in done.stderr
        assert not ready.venv.exists()

    def test_a_full_cache_disk_is_avoided(self, ready):
        """A small home beside a large work disk, as clusters have it."""
        ready.add(
            ready.bin / "df",
            "#!/bin/sh\n"
            'case "$*" in *home*) free=1000 ;; *) free=90000000 ;; esac\n'
            'echo header; echo "/dev/sda1 1 1 $free 9% /"\n',
        )
        uv = (ready.bin / "uv").read_text()
        ready.add(
            ready.bin / "uv",
            uv.replace("install) ;;", 'install) echo "in $UV_CACHE_DIR" >>"$LOG" ;;'),
        )

        ready.set_up()

        assert ready.calls("in ") == [f"in {ready.venv}/cache"]


def make_bare_environment(folder: Path) -> Path:
    subprocess.run(
        [REAL_PYTHON, "-m", "venv", "--without-pip", str(folder)],
        check=True,
        timeout=60,
    )
    return folder
