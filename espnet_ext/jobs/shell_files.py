"""Read ``cmd.sh`` and ``db.sh``: what a shell that sources them then has.

They are read here because their content depends on an option (``--cmd_backend``), and
options are read in Python alone.
"""

import argparse
import os
import subprocess
from pathlib import Path

from espnet_ext.errors import UserError

BACKEND = "cmd_backend"  # the variable in which cmd.sh finds the back end
_SCRIPT = "set -aeu; . /dev/stdin >&2; exec env -0"


def read_shell_files(args: argparse.Namespace) -> None:
    """Set the variables of cmd.sh and db.sh, as if they were sourced before the start.

    Line ends of an editor on Windows are no part of their values.

    Raises:
        UserError: bash or the file itself says that it is wrong.
    """
    if args.cmd_backend is not None:
        os.environ[BACKEND] = args.cmd_backend
    for path in filter(Path.exists, (Path("cmd.sh"), Path("db.sh"))):
        done = subprocess.run(
            ["bash", "-c", _SCRIPT],
            input=path.read_bytes().replace(b"\r\n", b"\n"),
            capture_output=True,
            check=False,
        )
        if done.returncode != 0:
            text = done.stderr.decode(errors="replace").strip().removeprefix("error: ")
            named = path.name in text
            raise UserError(text if named else f"{path}: {text or 'it failed'}")
        for item in done.stdout.decode(errors="surrogateescape").split("\0"):
            name, equals, value = item.partition("=")
            if equals and name not in ("_", "SHLVL"):
                os.environ[name] = value
    if args.cmd_backend is None:
        args.cmd_backend = os.environ.get(BACKEND, "local")
