"""The options of ``run.sh`` and ``ser.sh``: the one place that knows them.

Shell scripts hand their words on as they are. Options are read from left to right and
the last one counts, so a recipe puts its own first and the user's behind them. Between
them it says where the user stands (``--paths_from``): relative paths before it are
meant from the recipe's folder, those behind it from the user's.
"""

import argparse
import difflib
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from espnet_ext.errors import UserError
from espnet_ext.jobs.stages import MODELS, SCORING, STAGES
from espnet_ext.utils.arguments import boolean

# An option a line: NAME: KIND = DEFAULT, two blanks, its help. `...` takes several
# values; `a|b` are the choices. A default that the help does not show itself, in
# brackets at its end, is added there.
OPTIONS = f"""
which stages
  stage: int = 1  first stage
  stop_stage: int = {SCORING}  last stage
  skip_data_prep: boolean = false  leave stages 1 to 4 out
  skip_train: boolean = false  leave stage 5 out
  skip_eval: boolean = false  leave stages 6 and 7 out
  dry_run: boolean = false  print the plan and its commands only
  force: STAGE...  make these stages again although they are finished (5, 5 7, 5-7);
      trainings and features are kept beside

what is trained
  model: NAME...  models by the name of their YAML, conf/train_NAME.yaml [all five]
  train_config: YAML...  training YAMLs of your own, in place of --model
  corpus_overlay: YAML  settings merged over the YAMLs of --model: what the corpus
      changes
  overlay: YAML  settings merged over each training YAML (conf/mini.yaml)
  seed: int = 0  seed of the training
  print_config: NAME  print a model's whole training YAML, and the file of each key; do
      nothing

a whole table (says itself what and on what)
  table: CONFIG  1, 2, 3, sanity, or a YAML of your own (conf/tables/README.md)
  preset: NAME = paper  whose settings: paper or released
  seeds: int  seeds of each training, from 0 on [as in the YAML]
  root: CORPUS=DIR...  the folders of a table's corpora [as in db.sh]
  home: CORPUS=DIR...  recipes whose data and features a table uses [this one]

on what
  corpus: NAME  iemocap, msp_podcast, ...; from the top folder a recipe, egs2/NAME
  corpus_root: DIR  the corpus' folder as distributed [as in db.sh]
  scheme: NAME  how the corpus is split
  fold: int*  folds of the scheme
  min_seconds: float  leave shorter clips out of train and valid, never of test [none]
  max_seconds: float  leave longer clips out of train and valid, never of test [none]
  labels: CONFIG = paper5  class map: a YAML, or NAME of conf/labels/NAME.yaml
  features: CONFIG = hubert_large  feature config: a YAML, or NAME of
      conf/features/NAME.yaml
  upstream: UPSTREAM  upstream checkpoint in place of the feature config's
  on_bad_audio: fail|skip = fail  recordings that the extraction cannot use: extract all
      others and stop, or leave them out
  part: iemocap|msp_podcast  which built-in corpus
  mini_seed: int  generate --corpus_root, a built-in corpus, with this seed
  mini_scale: float = 1  factor on its size

a corpus of your own
  manifest: FILE  csv, tsv or jsonl with a row for each recording, or a folder of
      another format (espnet_ext/corpora/README.md); --corpus is then a name for it,
      and --corpus_root what its paths are relative to [its folder]
  columns: THEIRS=OURS...  names of its columns
  attribute_scale: LOW,HIGH  lowest and highest possible valence, arousal and dominance
  shared_speakers: boolean = false  whether a speaker may be in two parts of the given
      split
  fold_seed: int = 0  seed of folds that are drawn

a corpus that fetches itself
  download: boolean = false  fetch --corpus emodb, ravdess, crema_d or meld into
      --corpus_root (downloads/CORPUS) if it is not there
  accept_license: boolean = false  whether its license is accepted; asked for otherwise

a model for others
  skip_packing: boolean  leave stage 8 out, a package of each model [true, unless
      --stop_stage is 8 or more]
  skip_upload_hf: boolean  leave stage 9 out [true, unless --stop_stage is 9]
  pack_seeds: int...  seeds whose trainings become one package, an ensemble [--seed
      alone]
  hf_repo: OWNER/NAME  where stage 9 uploads the package, on the Hugging Face Hub
  licence_ack: boolean = false  whether the licenses of the corpora allow to hand out
      the models

how and where
  cmd_backend: NAME  local or slurm [as in cmd.sh]
  status: boolean = false  print how each step stands: queued, running, done, failed; do
      nothing
  nj: int  processes at a time [the number of CPUs]; with slurm the CPUs of a job,
      --num_threads in cmd.sh
  ngpu: int = 0  GPUs of one run
  extract_jobs: int = 1  processes (with slurm: jobs) that fill the feature store
      together
  runs_per_job: int = 1  small trainings (and inferences) that share a GPU, with slurm a
      job
  mem: SIZE  memory that one process (with slurm: a job) needs, like 4G [as in cmd.sh;
      here 1G on built-in corpora]
  max_mem: SIZE  memory that all processes on this machine may need together [90 %% of
      what is free]
  max_restarts: int = 20  how often Slurm may start a job again after preemption, a
      failed node or the time limit
  wait: boolean = true  with slurm: watch until all has ended, or leave once it is
      queued
  datadir: DIR = data  where data directories go
  dumpdir: DIR = dump  where features and sets go
  expdir: DIR = exp  where trainings and results go
  resamples: int  bootstrap resamples [1000; of a table 10000]
  paths_from: HERE  where relative paths behind this option are meant from; run.sh
      gives it
"""
_OPTION = re.compile(
    r"^  (?P<name>\w+): (?P<kind>\S+?)(?P<several>\.\.\.|\*)?(?: = (?P<default>\S+))?"
    r"  (?P<help>.*(?:\n      .*)*)",
    re.MULTILINE,
)


# ---- Values


def text(value: str) -> str:
    """Take a value as it is, but not an empty one.

    Raises:
        argparse.ArgumentTypeError: It is empty: most often an unset variable.
    """
    if not value:
        raise argparse.ArgumentTypeError("the value is empty")
    return value


def memory(value: str) -> str:
    """Take a size as Slurm takes it, which bytes and kilobytes are too small for.

    Raises:
        argparse.ArgumentTypeError: It is none, or less than a process needs to start.
    """
    from espnet_ext.jobs.machine import parse_size

    try:
        size = parse_size(text(value))
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if size < 2**20:
        raise argparse.ArgumentTypeError(f"{value} is less than 1M")
    return value


def parse_stages(text: str) -> set[int]:
    """Parse a stage or a range of stages: ``5``, ``5-7``."""
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", text)
    stages = range(int(match[1]), int(match[2] or match[1]) + 1) if match else range(0)
    if not stages or stages[0] < 1 or stages[-1] > max(STAGES):
        raise argparse.ArgumentTypeError(
            f"{text!r}: write a stage from 1 to {max(STAGES)}, or a range like 5-7"
        )
    return set(stages)


def is_config_file(value: str) -> bool:
    """Tell the path of a config from the name of one in conf."""
    return value.endswith((".yaml", ".yml"))


def config_path(kind: str, name: str) -> Path:
    """Find a config by its name (``paper5``) or by its path."""
    return Path(name) if is_config_file(name) else Path("conf", kind, f"{name}.yaml")


def table_path(name: str, conf: Path) -> Path:
    """Find a table's YAML by its name (``1``, ``sanity``) or by its path."""
    stem = f"table{name}" if name.isdigit() else name
    return Path(name) if is_config_file(name) else conf / "tables" / f"{stem}.yaml"


# ---- The parser


class AddPlaces(argparse.Action):
    """Several ``CORPUS=DIR`` are one mapping, to which each use of the option adds."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Store the places by corpus."""
        setattr(namespace, self.dest, getattr(namespace, self.dest) | dict(values))


class OptionParser(argparse.ArgumentParser):
    """A parser without surprises: no abbreviations, ``--name=value`` for every option.

    What it does not know is an error that names the nearest option.
    """

    base: Path | None = None  # where relative paths are meant from; None: from here

    def parse_args(  # type: ignore[override]
        self,
        args: Sequence[str] | None = None,
        namespace: argparse.Namespace | None = None,
    ) -> argparse.Namespace:
        """Parse options; positional arguments there are none.

        `given` in the result names the options behind the last ``--paths_from``: those
        that the user wrote, and no recipe.
        """
        words = self._split(sys.argv[1:] if args is None else args)
        starts = [n for n, word in enumerate(words) if word == "--paths_from"]
        found = namespace or argparse.Namespace()
        self.base = None
        for start, end in zip([0, *starts], [*starts, len(words)], strict=True):
            if start in starts:
                self.base = Path(*words[start + 1 : start + 2])
            found, rest = self.parse_known_args(words[start:end], found)
            if rest:
                self.error(self._unknown(rest[0]))
            names = {word.partition("=")[0] for word in words[start:end]}
            known = names & self._option_string_actions.keys()
            found.given = {name.removeprefix("--") for name in known - {"--paths_from"}}
        return found

    def _split(self, words: Sequence[str]) -> list[str]:
        """Part ``--name=value`` where further values may follow the first one."""
        split: list[str] = []
        for word in words:
            name, equals, value = word.partition("=")
            action = self._option_string_actions.get(name)
            several = action is not None and action.nargs in ("*", "+")
            parted = several or name == "--paths_from"
            parted = parted and bool(equals) and not value.startswith("-")
            split += [name, value] if parted else [word]
        return split

    def _unknown(self, word: str) -> str:
        if not word.startswith("-"):
            return f"{word!r} belongs to no option"
        name = word.partition("=")[0]
        plain = "--" + name.strip("-").replace("-", "_").lower()
        near = difflib.get_close_matches(plain, self._option_string_actions, 1, 0.5)
        hint = f"; did you mean {near[0]}?" if near else ""
        return f"there is no option {name}{hint}"

    def error(self, message: str) -> NoReturn:
        """End with one line instead of the list of all options."""
        if message.endswith((" expected one argument", " at least one argument")):
            message += "; one that begins with - is written --name=VALUE"
        self.exit(2, f"error: {message} (--help lists the options)\n")

    # ---- Values that depend on where the user stands

    def as_path(self, value: str) -> Path:
        """Say which file is meant: from `base`, in words that are valid in this folder.

        Links and ``..`` are left to the file system, which reads them as `ls` does.
        What lies below this folder is named from here, so that one place has one
        spelling. ``~`` is the home folder, which shells leave in ``--name=~/x``.
        """
        path = Path(text(value)).expanduser()
        if self.base is None:
            return path
        path, here = self.base / path, Path.cwd()
        if ".." not in path.parts and path.is_relative_to(here):
            return path.relative_to(here)
        return path

    def as_config(self, value: str) -> str:
        """Take a name (``paper5``) or the path of a YAML."""
        return str(self.as_path(value)) if is_config_file(value) else text(value)

    def as_upstream(self, value: str) -> str:
        """Take the folder of an upstream, or the name of one (``facebook/...``)."""
        path = self.as_path(value)
        return (
            str(path) if path.exists() or value.startswith((".", "/", "~")) else value
        )

    def as_place(self, value: str) -> tuple[str, Path]:
        """Take ``CORPUS=DIR``.

        Raises:
            argparse.ArgumentTypeError: It has not that form.
        """
        corpus, equals, folder = text(value).partition("=")
        if not (corpus and equals and folder):
            raise argparse.ArgumentTypeError(f"{value!r} is not CORPUS=DIR")
        return corpus, self.as_path(folder)


def get_parser() -> OptionParser:
    """Build the parser of the recipe's options."""
    parser = OptionParser(
        prog="run.sh",
        usage="./run.sh [--option VALUE ...]",
        description="Train and score speech emotion models, stage by stage. What is "
        "finished is skipped;\nwhat was cut off goes on. Relative paths are meant from "
        "where you stand. Of an option\nthat is given twice the last one counts.",
        epilog="stages:\n" + "\n".join(f"  {n}  {what}" for n, what in STAGES.items()),
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    path: dict[str, Any] = {"type": parser.as_path}
    yes_or_no = {"nargs": "?", "const": True, "metavar": "true|false"}
    kinds: dict[str, dict[str, Any]] = {
        **{"int": {"type": int}, "float": {"type": float}, "HERE": {"type": Path}},
        **{"DIR": path, "YAML": path, "FILE": path, "SIZE": {"type": memory}},
        **{"CONFIG": {"type": parser.as_config}, "STAGE": {"type": parse_stages}},
        "UPSTREAM": {"type": parser.as_upstream},
        "CORPUS=DIR": {"type": parser.as_place, "action": AddPlaces, "default": {}},
        "LOW,HIGH": {"type": float, "nargs": 2, "metavar": ("LOW", "HIGH")},
        "boolean": {"type": boolean, **yes_or_no},  # `--dry_run` is `--dry_run true`
    }
    for part in OPTIONS.strip().split("\n\n"):
        title, _, options = part.partition("\n")
        group = parser.add_argument_group(title)
        for option in _OPTION.finditer(options):
            kind, default = option["kind"], option["default"]
            shown = re.sub(r"\s+", " ", option["help"])
            if default is not None and not shown.endswith("]"):
                shown += f" [{default}]"
            how: dict[str, Any] = {"help": shown, "default": default}
            if option["several"]:
                how["nargs"] = option["several"].replace("...", "+")
                how["default"] = [] if how["nargs"] == "+" else None
            if kind not in ("int", "float"):
                how["metavar"] = {"CONFIG": "NAME", "HERE": "DIR"}.get(kind, kind)
            if "|" in kind:
                how |= {"choices": kind.split("|"), "metavar": None}
            group.add_argument(
                f"--{option['name']}", **how | kinds.get(kind, {"type": text})
            )
    parser.set_defaults(model=list(MODELS))
    return parser
