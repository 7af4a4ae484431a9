"""Read ``conf/slurm.conf``: which sbatch options stand for which of cmd.sh.

It has the form that ESPnet users know from their own (Kaldi's ``slurm.pl``)::

    command sbatch --export=PATH       what submits a job
    option mem=* --mem $0              --mem 8G in cmd.sh becomes: sbatch --mem 8G
    option gpu=0                       --gpu 0 asks for nothing
    option gpu=* -p gpu --gres=gpu:$0
    default gpu=0                      taken where cmd.sh says nothing

An exact value wins over ``*``.
"""

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from espnet_ext.errors import UserError

# Handled here and not by an option of sbatch.
SPECIAL = ("max_jobs_run", "config")


@dataclass(frozen=True)
class SlurmConf:
    """What a ``slurm.conf`` says."""

    path: Path
    command: tuple[str, ...]  # what submits, split into words
    options: Mapping[tuple[str, str], str]  # sbatch's words; a value ``*`` is any
    defaults: Mapping[str, str]  # values by name


def read_slurm_conf(path: Path) -> SlurmConf:
    """Read the file.

    Raises:
        UserError: If it is missing, or a line says nothing that is known.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; cmd.sh needs it") from None
    command: tuple[str, ...] = ("sbatch",)
    options: dict[tuple[str, str], str] = {}
    defaults: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        try:
            words = shlex.split(line, comments=True)
        except ValueError as error:
            raise UserError(f"{path}:{number}: {error}") from None
        if not words:
            continue
        kind, rest = words[0], words[1:]
        name, equals, value = (rest[0] if rest else "").partition("=")
        if kind == "command" and rest:
            command = tuple(rest)
        elif kind == "option" and equals:
            options[name.replace("-", "_"), value] = shlex.join(rest[1:]).replace(
                "'$0'", "$0"
            )
        elif kind == "default" and equals and len(rest) == 1:
            defaults[name.replace("-", "_")] = value
        else:
            raise UserError(
                f"{path}:{number}: not understood: {line.strip()!r}; lines are "
                "`command ...`, `option NAME=VALUE ...` or `default NAME=VALUE`"
            )
    return SlurmConf(path, command, options, defaults)


def sbatch_options(conf: SlurmConf, wanted: Mapping[str, str]) -> list[str]:
    """Translate cmd.sh's options into sbatch's.

    Raises:
        UserError: If the file has no line for one of them.
    """
    words: list[str] = []
    for name, value in {**conf.defaults, **wanted}.items():
        if name in SPECIAL:
            continue
        text = conf.options.get((name, value), conf.options.get((name, "*")))
        if text is None:
            known = ", ".join(sorted({n for n, _ in conf.options})) or "none"
            raise UserError(
                f"{conf.path}: no line for {name}={value}; add `option {name}=* ...`, "
                f"or use one of: {known}"
            )
        words += [word.replace("$0", value) for word in shlex.split(text)]
    return words


def parse_command(text: str) -> tuple[str, dict[str, str]]:
    """Split cmd.sh's ``slurm.pl --mem 8G --num-threads 4`` into program and options.

    Raises:
        UserError: If an option has no value, or the text is empty.
    """
    words = shlex.split(os.path.expandvars(text))
    if not words:
        raise UserError("cmd.sh: an empty command; say slurm.pl, run.pl or another")
    program, rest = words[0], words[1:]
    options: dict[str, str] = {}
    while rest:
        name = rest.pop(0)
        name, equals, value = name.partition("=")
        if not name.startswith("--") or not (equals or rest):
            raise UserError(f"cmd.sh: {text!r}: {name!r} is no `--NAME VALUE`")
        options[name[2:].replace("-", "_")] = value if equals else rest.pop(0)
    return program, options
