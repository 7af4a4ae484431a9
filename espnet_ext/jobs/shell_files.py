"""Read ``cmd.sh`` and ``db.sh``: what a shell that sources them then has.

They are read here because their content depends on an option (``--cmd_backend``), and
options are read in Python alone.
"""

import argparse
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from espnet_ext.errors import UserError

# The variable in which cmd.sh finds the back end, and leaves it.
BACKEND = "cmd_backend"

_SCRIPT = 'set -aeu; . "$1" >&2; exec env -0'
_CARRIAGE_RETURN = b"\r\n"


def read_shell_files(args: argparse.Namespace) -> None:
    """Set the variables of cmd.sh and db.sh, as if they were sourced before the start.

    Raises:
        UserError: One of them is wrong.
    """
    if args.cmd_backend is not None:
        os.environ[BACKEND] = args.cmd_backend
    for path in (Path("cmd.sh"), Path("db.sh")):
        if path.exists():
            os.environ.update(source(path, os.environ))
    if args.cmd_backend is None:
        args.cmd_backend = os.environ.get(BACKEND, "local")


def source(path: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Source a file in bash and return the variables that it set or changed.

    Line ends of an editor on Windows are no part of the values.

    Args:
        path: The file.
        environ: The variables that it finds.

    Raises:
        UserError: It is missing, or bash or the file itself says that it is wrong.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    windows = _CARRIAGE_RETURN in content
    done = subprocess.run(
        ["bash", "-c", _SCRIPT, "bash", "/dev/stdin" if windows else path.absolute()],
        input=content.replace(_CARRIAGE_RETURN, b"\n") if windows else b"",
        env=dict(environ),
        capture_output=True,
        check=False,
    )
    printed = done.stderr.decode(errors="replace").strip().removeprefix("error: ")
    if done.returncode != 0:
        known = path.name in printed
        raise UserError(printed if known else f"{path}: {printed or 'it failed'}")
    found = dict(
        item.partition("=")[::2]
        for item in done.stdout.decode(errors="surrogateescape").split("\0")
        if item
    )
    own = ("_", "SHLVL", "PWD", "OLDPWD")
    return {
        name: value
        for name, value in found.items()
        if environ.get(name) != value and name not in own
    }
