"""What ``local/setup_env.sh`` asks a Python.

``missing``
    What an environment lacks of the package's requirements, by the metadata of what is
    installed in it: nothing is imported, so that it costs a tenth of a second.
``uv-settings``
    pip's own settings (index, mirror, certificate, proxy) as the environment variables
    that uv reads: uv does not look at pip's.

Standard library only, and old Pythons can read it: not all environments were made here.
"""

from __future__ import annotations

import argparse
import ast
import configparser
import importlib.metadata
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

# What pip calls it, what uv calls it. Without pip's extra-index-url and find-links: pip
# takes the best file of all places together, uv all files of a version from one place,
# even where that has only one for another platform. No pin needs a second place.
UV_NAMES = {
    "index-url": "UV_DEFAULT_INDEX",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
    "proxy": "HTTPS_PROXY",
    "timeout": "UV_HTTP_TIMEOUT",
}
# Any of these set: the user has told uv itself where packages come from.
UV_INDEX_NAMES = (
    "UV_DEFAULT_INDEX",
    "UV_INDEX",
    "UV_INDEX_URL",
    "UV_EXTRA_INDEX_URL",
    "UV_FIND_LINKS",
)


def read_requirements(setup_py: Path, extras: Sequence[str]) -> list[str]:
    """Read ``REQUIRES`` and some of ``EXTRAS`` out of a setup.py without running it.

    Raises:
        KeyError: setup.py has no such extra.
    """
    literals = {}
    for node in ast.parse(setup_py.read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            if name in ("REQUIRES", "EXTRAS"):
                literals[name] = ast.literal_eval(node.value)
    requirements = list(literals["REQUIRES"])
    for extra in extras:
        requirements += literals["EXTRAS"][extra]
    return requirements


def find_missing(requirements: Sequence[str]) -> Iterator[str]:
    """Yield what this interpreter's environment lacks, in words for the user."""
    if not (3, 12) <= sys.version_info[:2] < (3, 14):
        yield f"Python 3.12 or 3.13 (it has {sys.version.split()[0]})"
        return
    try:
        from packaging.requirements import Requirement
    except ImportError:  # half of the requirements bring it along
        yield requirements[0]
        return
    for text in requirements:
        requirement = Requirement(text)
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            yield text
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            yield f"{text} (it has {version})"
    if any(text.startswith("espnet-s3prl") for text in requirements):
        try:
            version = importlib.metadata.version("s3prl")
        except importlib.metadata.PackageNotFoundError:
            return
        yield f"espnet-s3prl unspoilt (s3prl {version} beside it holds the same files)"


def read_pip_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """Read the settings of ``pip install``: configuration files, then ``PIP_*``.

    Keys are pip's long option names, without the dashes before them.
    """
    chosen = environ.get("PIP_CONFIG_FILE", "")
    home = Path(environ.get("HOME", "/"))
    xdg_config = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    files = [
        *(
            Path(folder) / "pip" / "pip.conf"
            for folder in (environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":")
        ),
        Path("/etc/pip.conf"),
        home / ".pip" / "pip.conf",
        xdg_config / "pip" / "pip.conf",
    ]
    if chosen == os.devnull:  # pip's way to say: no files at all
        files = []
    elif chosen:
        files.append(Path(chosen))

    # Interpolation off: a password in an index address may hold a percent sign.
    parser = configparser.RawConfigParser()
    for file in files:
        try:
            parser.read(file, encoding="utf-8")
        except configparser.Error as error:
            print(f"warning: {file} is left out: {error}", file=sys.stderr)
    settings: dict[str, str] = {}
    for section in ("global", "install"):
        if parser.has_section(section):
            settings.update(parser.items(section))
    for name, value in environ.items():
        if name.startswith("PIP_"):
            settings[name[len("PIP_") :].lower()] = value
    settings = {key.replace("_", "-"): value for key, value in settings.items()}
    if "default-timeout" in settings:
        settings.setdefault("timeout", settings["default-timeout"])
    return {key: value.strip() for key, value in settings.items() if value.strip()}


def convert_to_uv(
    settings: Mapping[str, str], environ: Mapping[str, str]
) -> dict[str, str]:
    """Say pip's settings in uv's variables; what the user set for uv himself stays.

    Returns:
        The variables to set. ``SER_INSTALLER=pip`` is among them where pip is told to
        use no index, which cannot be told to uv in a variable.
    """
    if settings.get("no-index", "").lower() in ("1", "true", "yes", "on"):
        return {"SER_INSTALLER": "pip"}
    uv = {}
    for key, name in UV_NAMES.items():
        if key in settings:
            uv[name] = " ".join(settings[key].split())
    if has_uv_index(environ):
        uv.pop("UV_DEFAULT_INDEX", None)
    return {name: value for name, value in uv.items() if not environ.get(name)}


def has_uv_index(environ: Mapping[str, str]) -> bool:
    """Tell whether the user has told uv itself where packages come from."""
    if any(environ.get(name) for name in UV_INDEX_NAMES):
        return True
    xdg_config = environ.get("XDG_CONFIG_HOME") or f"{environ.get('HOME', '')}/.config"
    folders = [
        xdg_config,
        *environ.get("XDG_CONFIG_DIRS", "/etc/xdg").split(":"),
        "/etc",
    ]
    files = [Path(folder) / "uv" / "uv.toml" for folder in folders]
    if environ.get("UV_CONFIG_FILE"):
        files = [Path(environ["UV_CONFIG_FILE"])]
    return any(
        re.search(r"index|find-links", file.read_text("utf-8"))
        for file in files
        if file.is_file()
    )


def main(cmd: Sequence[str] | None = None) -> None:
    """Answer one of the two questions on stdout; see the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    missing = commands.add_parser("missing", help="exit with 1 if anything is")
    missing.add_argument("setup_py", type=Path)
    missing.add_argument("extras", type=lambda text: text.split(","))
    commands.add_parser("uv-settings", help="one NAME=VALUE a line")
    args = parser.parse_args(cmd)

    if args.command == "missing":
        found = list(find_missing(read_requirements(args.setup_py, args.extras)))
        print(", ".join(found))
        sys.exit(bool(found))
    settings = read_pip_settings(os.environ)
    for name, value in convert_to_uv(settings, os.environ).items():
        print(f"{name}={value}")


if __name__ == "__main__":
    main()
