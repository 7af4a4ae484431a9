"""A copy of the set-up's files in a folder with a space, on a machine made of links.

Nothing is stubbed in the scripts under test: what differs is the machine, that is HOME
and PATH. PATH holds the tools that the scripts use and no Python; `Machine.add_*` puts
Pythons and a `uv` there that write down how they were called.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REAL_PYTHON = getattr(sys, "_base_executable", sys.executable)
FILES = (
    *("setup.py", "path.sh", "cmd.sh", "db.sh", "conf/constraints.txt"),
    *("local/setup_env.sh", "local/setup_env.py", "tests/run.sh", ".ci/run"),
)
TOOLS = (
    *("bash", "sh", "env", "awk", "cat", "chmod", "cp", "cut", "df", "dirname", "find"),
    *("flock", "ls", "mkdir", "mv", "readlink", "rm", "rmdir", "sed", "sha256sum"),
    *("sleep", "touch"),
)

# Makes environments whose Python writes down its calls and succeeds in everything.
FAKE_UV = r"""#!/usr/bin/env bash
echo "uv $*" >>"${LOG}"
case "$1 $2" in
    "--version "*) ;;
    "cache dir") echo "${HOME}/cache" ;;
    "venv "*)
        venv="${!#}"
        mkdir -p "${venv}/bin"
        touch "${venv}/pyvenv.cfg"
        printf '#!/bin/sh\necho "env $*" >>"%s"\n%s\n' "${LOG}" "${ENV_DOES:-:}" \
            >"${venv}/bin/python"
        chmod +x "${venv}/bin/python"
        ;;
    "pip install")
        case "${UV_DOES:-install}" in
            install) ;;
            install_slowly) sleep 1 ;;
            fail) echo "uv: no route to host" >&2; exit 2 ;;
            hang) echo "$$" >"${LOG}.pid"; exec sleep 60 ;;
        esac
        ;;
    *) exit 1 ;;
esac
"""
OLD_PYTHON = f"""#!/bin/sh
exec "{REAL_PYTHON}" -I -c 'import sys
sys.version_info = (3, 11, 7, "final", 0)
sys.version = "3.11.7 (main)"
exec(sys.argv[1])' "$3"
"""
SHIM = """#!/bin/sh
echo "pyenv: $(basename "$0"): command not found" >&2
exit 127
"""


def stop_ignoring_signals() -> None:
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


@dataclass
class Machine:
    """A machine with this repository on it, and what happened there."""

    folder: Path
    environ: dict[str, str] = field(default_factory=dict)

    def __post_init__(self):
        self.root = self.folder / "a clone"
        self.home = self.folder / "home"
        self.bin = self.folder / "bin"
        self.log = self.folder / "log"
        self.venv = self.root / ".venv"
        for name in FILES:
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, self.root / name)
        self.home.mkdir()
        self.bin.mkdir()
        self.log.touch()
        for tool in TOOLS:
            (self.bin / tool).symlink_to(shutil.which(tool))
        self.environ = {
            "PATH": str(self.bin),
            "HOME": str(self.home),
            "LOG": str(self.log),
        }

    def add(self, path: Path, text: str) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_text(text)
        path.chmod(0o755)
        return path

    def add_python(self, path: Path) -> Path:
        return self.add(
            path,
            f'#!/bin/sh\necho "base $*" >>"{self.log}"\nexec "{REAL_PYTHON}" "$@"\n',
        )

    def add_uv(self) -> None:
        self.add(self.bin / "uv", FAKE_UV)

    def bash(self, script: str, cwd: Path | None = None, **environ: str):
        return subprocess.run(
            ["bash", "-c", script],
            cwd=cwd or self.root,
            env=self.environ | environ,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def set_up(self, **environ: str):
        return self.bash("local/setup_env.sh", **environ)

    def start_set_up(self, **environ: str) -> subprocess.Popen:
        return subprocess.Popen(
            ["bash", "local/setup_env.sh"],
            cwd=self.root,
            env=self.environ | environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # A test run that was started in the background may ignore them.
            preexec_fn=stop_ignoring_signals,
        )

    def wait_for_installer(self) -> int:
        """Wait until uv hangs in `pip install`; return its process id."""
        file = Path(f"{self.log}.pid")
        wait_until(lambda: file.exists() and file.read_text().strip())
        return int(file.read_text())

    def calls(self, prefix: str = "") -> list[str]:
        return [x for x in self.log.read_text().splitlines() if x.startswith(prefix)]


def wait_until(condition, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return state != "Z"
