"""Errors that a user can cause, and how command-line programs end on them."""

import functools
import io
import sys
from collections.abc import Callable

_HINTS = {
    13: "check the permissions",
    28: "free some space or choose another disk, then start again",
    30: "choose a folder that can be written",
}


class UserError(Exception):
    """Something the user can put right.

    The text names the file, line or key at fault and says what to do.
    """


def exit_on_user_error[**P](main: Callable[P, None]) -> Callable[P, None]:
    """Make a program's ``main`` end with one clear message instead of a traceback.

    A `UserError` or an `OSError` (full or read-only disk, missing path) is printed
    to stderr and the program exits with status 1; anything else is a bug and keeps
    its traceback. Ctrl-C exits with 130, as shells do.
    """

    @functools.wraps(main)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            # A path may have bytes that the terminal's encoding lacks.
            sys.stdout.reconfigure(errors="backslashreplace")
        try:
            main(*args, **kwargs)
        except BrokenPipeError:
            # The reader of our output (`| head`) went away: nothing to say to it.
            sys.stderr.close()
            sys.exit(1)
        except (UserError, OSError) as error:
            text = describe_os_error(error) if isinstance(error, OSError) else error
            print(f"error: {text}", file=sys.stderr)
            sys.exit(1)
        except KeyboardInterrupt:
            print("interrupted; start again to go on", file=sys.stderr)
            sys.exit(130)

    return wrapper


def describe_os_error(error: OSError) -> str:
    """Say what the operating system refused, and for which file."""
    where = f"{error.filename}: " if error.filename else ""
    hint = _HINTS.get(error.errno or 0)
    return f"{where}{error.strerror or error}" + (f" ({hint})" if hint else "")
