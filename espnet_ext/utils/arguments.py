"""Command lines that look the same in every program."""

import argparse


def make_parser(
    description: str | None, prog: str | None = None
) -> argparse.ArgumentParser:
    """Make a parser whose help shows defaults and which takes no abbreviations."""
    return argparse.ArgumentParser(
        prog=prog,
        description=description,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )


def boolean(text: str) -> bool:
    """Read ``true`` or ``false`` (``type=boolean``); ``yes``, ``on``, ``1`` will do.

    Raises:
        argparse.ArgumentTypeError: It is none of them.
    """
    if text.lower() in ("true", "yes", "on", "1", "t", "y"):
        return True
    if text.lower() in ("false", "no", "off", "0", "f", "n"):
        return False
    raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
