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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from espnet_ext.jobs.recipe import MODELS, STAGES

EPILOG = "stages:\n" + "\n".join(f"  {n}  {what}" for n, what in STAGES.items())

# The folders that a recipe writes to.
OUTPUTS = ("datadir", "dumpdir", "expdir")


# ---- Values


def text(value: str) -> str:
    """Take a value as it is, but not an empty one.

    Raises:
        argparse.ArgumentTypeError: It is empty: most often an unset variable.
    """
    if not value:
        raise argparse.ArgumentTypeError("the value is empty")
    return value


def as_path(value: str, base: Path | None) -> Path:
    """Say which file is meant: from `base`, in words that are valid in this folder.

    Links and ``..`` are left to the file system, which reads them as `ls` does. What
    lies below this folder is named from here, so that one place has one spelling.

    Args:
        value: A path; ``~`` is the home folder, which shells leave in ``--name=~/x``.
        base: Where a relative path is meant from; None: from here, as it is.
    """
    path = Path(value).expanduser()
    if base is None:
        return path
    path, here = base / path, Path.cwd()
    if ".." not in path.parts and path.is_relative_to(here):
        return path.relative_to(here)
    return path


def is_config_file(value: str) -> bool:
    """Tell the path of a config from the name of one of ours."""
    return value.endswith((".yaml", ".yml"))


def as_config(value: str, base: Path | None) -> str:
    """Take a name (``paper5``) or the path of a YAML."""
    return str(as_path(value, base)) if is_config_file(value) else value


def config_path(kind: str, name: str) -> Path:
    """Find a config by its name (``paper5``) or by its path."""
    return Path(name) if is_config_file(name) else Path("conf", kind, f"{name}.yaml")


def table_path(name: str, conf: Path) -> Path:
    """Find a table's YAML by its name (``1``, ``sanity``) or by its path."""
    stem = f"table{name}" if name.isdigit() else name
    return Path(name) if is_config_file(name) else conf / "tables" / f"{stem}.yaml"


def as_upstream(value: str, base: Path | None) -> str:
    """Take the folder of an upstream, or the name of one (``facebook/...``)."""
    path = as_path(value, base)
    return str(path) if path.exists() or value.startswith((".", "/", "~")) else value


def as_home(value: str, base: Path | None) -> str:
    """Take ``CORPUS=DIR``.

    Raises:
        argparse.ArgumentTypeError: It has not that form.
    """
    corpus, equals, folder = value.partition("=")
    if not (corpus and equals and folder):
        raise argparse.ArgumentTypeError(f"{value!r} is not CORPUS=DIR")
    return f"{corpus}={as_path(folder, base)}"


def parse_stages(text: str) -> set[int]:
    """Parse a stage or a range of stages: ``5``, ``5-7``."""
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", text)
    stages = (
        set(range(int(match[1]), int(match[2] or match[1]) + 1)) if match else set()
    )
    if not stages or not stages <= set(STAGES):
        raise argparse.ArgumentTypeError(
            f"{text!r}: write a stage from 1 to {max(STAGES)}, or a range like 5-7"
        )
    return stages


class PathAction(argparse.Action):
    """Stores paths as they are meant: from the latest ``--paths_from``."""

    def __init__(
        self, *args: Any, read: Callable[[str, Path | None], Any], **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.type = text
        self.read = read

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Store one path, or a list of them."""
        base = getattr(namespace, "paths_from", None)
        try:
            found = (
                [self.read(value, base) for value in values]
                if isinstance(values, list)
                else self.read(values, base)
            )
        except argparse.ArgumentTypeError as error:
            raise argparse.ArgumentError(self, str(error)) from None
        setattr(namespace, self.dest, found)


# ---- The parser


class OptionParser(argparse.ArgumentParser):
    """A parser without surprises: no abbreviations, ``--name=value`` for every option.

    What it does not know is an error that names the nearest option.
    """

    def parse_args(  # type: ignore[override]
        self,
        args: Sequence[str] | None = None,
        namespace: argparse.Namespace | None = None,
    ) -> argparse.Namespace:
        """Parse options; positional arguments there are none."""
        words = self._split(sys.argv[1:] if args is None else args)
        found, rest = self.parse_known_args(words, namespace)
        if rest:
            self.error(self._unknown(rest[0]))
        return found

    def _split(self, words: Sequence[str]) -> list[str]:
        """Part ``--name=value`` where further values may follow the first one."""
        split: list[str] = []
        for word in words:
            name, equals, value = word.partition("=")
            action = self._option_string_actions.get(name)
            several = action is not None and action.nargs in ("*", "+")
            split += (
                [name, value]
                if equals and several and not value.startswith("-")
                else [word]
            )
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


def get_parser() -> OptionParser:
    """Build the parser of the recipe's options."""
    parser = OptionParser(
        prog="run.sh",
        usage="./run.sh [--option VALUE ...]",
        description="Train and score speech emotion models, stage by stage. What is "
        "finished is skipped;\nwhat was cut off goes on. Relative paths are meant from "
        "where you stand. Of an option\nthat is given twice the last one counts.",
        epilog=EPILOG,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    group = parser.add_argument_group("which stages")
    group.add_argument("--stage", type=int, default=1, help="first stage [1]")
    group.add_argument("--stop_stage", type=int, default=7, help="last stage [7]")
    group.add_argument(
        "--dry_run", action="store_true", help="print the plan and its commands only"
    )
    group.add_argument(
        "--force",
        nargs="+",
        type=parse_stages,
        default=[],
        metavar="STAGE",
        help="make these stages again although they are finished (5, 5 7, 5-7); "
        "trainings and features are kept beside",
    )

    group = parser.add_argument_group("what is trained")
    group.add_argument(
        "--model",
        nargs="+",
        type=text,
        default=list(MODELS),
        metavar="NAME",
        help="models by the name of their YAML, conf/train_NAME.yaml [all five]",
    )
    group.add_argument(
        "--train_config",
        nargs="+",
        action=PathAction,
        read=as_path,
        default=[],
        metavar="YAML",
        help="training YAMLs of your own, in place of --model",
    )
    group.add_argument(
        "--corpus_overlay",
        action=PathAction,
        read=as_path,
        metavar="YAML",
        help="settings merged over the YAMLs of --model: what the corpus changes",
    )
    group.add_argument(
        "--overlay",
        action=PathAction,
        read=as_path,
        metavar="YAML",
        help="settings merged over each training YAML (conf/mini.yaml)",
    )
    group.add_argument("--seed", type=int, default=0, help="seed of the training [0]")

    group = parser.add_argument_group("a whole table (says itself what and on what)")
    group.add_argument(
        "--table",
        action=PathAction,
        read=as_config,
        metavar="NAME",
        help="1, 2, 3, sanity, or a YAML of your own (conf/tables/README.md)",
    )
    group.add_argument(
        "--preset",
        type=text,
        default="paper",
        help="whose settings: paper or released [paper]",
    )
    group.add_argument(
        "--seeds", type=int, help="seeds of each training, from 0 on [as in the YAML]"
    )
    for corpus, name in (("iemocap", "IEMOCAP"), ("msp_podcast", "MSP-Podcast")):
        group.add_argument(
            f"--{corpus}",
            action=PathAction,
            read=as_path,
            metavar="DIR",
            help=f"{name}'s folder, for a table [as db.sh says]",
        )
    group.add_argument(
        "--home",
        nargs="+",
        action=PathAction,
        read=as_home,
        default=[],
        metavar="CORPUS=DIR",
        help="recipe whose data and features a table uses [this one]",
    )

    group = parser.add_argument_group("on what")
    group.add_argument(
        "--corpus",
        type=text,
        help="iemocap, msp_podcast, ...; from the top folder a recipe, egs2/NAME",
    )
    group.add_argument(
        "--corpus_root",
        action=PathAction,
        read=as_path,
        metavar="DIR",
        help="the corpus' folder as distributed [as db.sh says]",
    )
    group.add_argument("--scheme", type=text, help="how the corpus is split")
    group.add_argument("--fold", type=int, nargs="*", help="folds of the scheme")
    for name, kind in (("min", "shorter"), ("max", "longer")):
        group.add_argument(
            f"--{name}_seconds",
            type=float,
            help=f"leave {kind} clips out of train and valid, never of test [none]",
        )
    group.add_argument(
        "--labels",
        action=PathAction,
        read=as_config,
        default="paper5",
        help="class map: a YAML, or NAME of conf/labels/NAME.yaml [paper5]",
    )
    group.add_argument(
        "--features",
        action=PathAction,
        read=as_config,
        default="hubert_large",
        help="feature config: a YAML, or NAME of conf/features/NAME.yaml "
        "[hubert_large]",
    )
    group.add_argument(
        "--upstream",
        action=PathAction,
        read=as_upstream,
        help="upstream checkpoint in place of the feature config's",
    )
    group.add_argument(
        "--on_bad_audio",
        choices=("fail", "skip"),
        default="fail",
        help="recordings that the extraction cannot use: extract all others and stop, "
        "or leave them out [fail]",
    )
    group.add_argument(
        "--part",
        choices=("iemocap", "msp_podcast"),
        help="which built-in corpus",
    )
    group.add_argument(
        "--mini_seed",
        type=int,
        help="generate --corpus_root, a built-in corpus, with this seed",
    )
    group.add_argument(
        "--mini_scale", type=float, default=1.0, help="factor on its size [1]"
    )

    group = parser.add_argument_group("how and where")
    group.add_argument(
        "--cmd_backend",
        type=text,
        metavar="NAME",
        help="local, slurm, or another of cmd.sh [as cmd.sh says]",
    )
    group.add_argument(
        "--status",
        action="store_true",
        help="print how each step stands: queued, running, done, failed; do nothing",
    )
    group.add_argument(
        "--nj",
        type=int,
        default=None,
        help="processes at a time [the number of CPUs]; with slurm the CPUs of a job, "
        "--num_threads in cmd.sh",
    )
    group.add_argument(
        "--ngpu", type=int, default=0, help="GPUs of one run, on each node [0]"
    )
    group.add_argument(
        "--num_nodes", type=int, default=1, help="nodes of one training [1]"
    )
    group.add_argument(
        "--extract_jobs",
        type=int,
        default=1,
        help="processes (with slurm: jobs) that fill the feature store together [1]",
    )
    group.add_argument(
        "--runs_per_job",
        type=int,
        default=1,
        help="small trainings (and inferences) that share a GPU, with slurm a job [1]",
    )
    group.add_argument(
        "--mem",
        type=text,
        metavar="SIZE",
        help="memory that one process (with slurm: a job) needs, like 4G [as cmd.sh "
        "says; here 1G on built-in corpora]",
    )
    group.add_argument(
        "--max_mem",
        type=text,
        metavar="SIZE",
        help="memory that all processes on this machine may need together [90 %% of "
        "what is free]",
    )
    group.add_argument(
        "--max_restarts",
        type=int,
        default=20,
        help="how often Slurm may start a job again after preemption, a failed node "
        "or the time limit [20]",
    )
    group.add_argument(
        "--wait",
        choices=("true", "false"),
        default="true",
        help="with slurm: watch until all has ended, or leave once it is queued [true]",
    )
    for name, what in zip(OUTPUTS, ("data", "dump", "exp"), strict=True):
        group.add_argument(
            f"--{name}",
            action=PathAction,
            read=as_path,
            default=Path(what),
            metavar="DIR",
            help=f"[{what}]",
        )
    group.add_argument(
        "--resamples",
        type=int,
        help="bootstrap resamples [1000; of a table 10000]",
    )
    group.add_argument(
        "--paths_from",
        type=Path,
        metavar="DIR",
        help="where relative paths behind this option are meant from; run.sh gives it",
    )
    return parser
