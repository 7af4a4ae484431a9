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
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from espnet_ext.errors import UserError
from espnet_ext.jobs.stages import MODELS, STAGES
from espnet_ext.utils.arguments import boolean

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


def memory(value: str) -> str:
    """Take a size as Slurm takes it, which bytes and kilobytes are too small for.

    Raises:
        argparse.ArgumentTypeError: It is none, or less than a process needs to start.
    """
    from espnet_ext.jobs.memory import parse_size

    try:
        size = parse_size(text(value))
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if size < 2**20:
        raise argparse.ArgumentTypeError(f"{value} is less than 1M")
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
    """Tell the path of a config from the name of one in conf."""
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


def as_place(value: str, base: Path | None) -> dict[str, Path]:
    """Take ``CORPUS=DIR``.

    Raises:
        argparse.ArgumentTypeError: It has not that form.
    """
    corpus, equals, folder = value.partition("=")
    if not (corpus and equals and folder):
        raise argparse.ArgumentTypeError(f"{value!r} is not CORPUS=DIR")
    return {corpus: as_path(folder, base)}


def parse_stages(text: str) -> set[int]:
    """Parse a stage or a range of stages: ``5``, ``5-7``."""
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", text)
    stages = range(int(match[1]), int(match[2] or match[1]) + 1) if match else range(0)
    if not stages or stages[0] < 1 or stages[-1] > max(STAGES):
        raise argparse.ArgumentTypeError(
            f"{text!r}: write a stage from 1 to {max(STAGES)}, or a range like 5-7"
        )
    return set(stages)


# Those that depend on where the user stands.
PATH_READERS = (as_path, as_config, as_upstream, as_place)


class PathAction(argparse.Action):
    """Stores paths as they are meant: from the latest ``--paths_from``.

    Several ``CORPUS=DIR`` are one mapping, to which each use of the option adds.
    """

    def __init__(self, *args: Any, read: Callable[..., Any], **kwargs: Any) -> None:
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
        """Store one path, a list of them, or places by corpus."""
        base = getattr(namespace, "paths_from", None)
        several = values if isinstance(values, list) else [values]
        try:
            found: Any = [self.read(value, base) for value in several]
        except argparse.ArgumentTypeError as error:
            raise argparse.ArgumentError(self, str(error)) from None
        if self.read is as_place:
            found = dict(getattr(namespace, self.dest))
            for value in several:
                found |= self.read(value, base)
        elif not isinstance(values, list):
            (found,) = found
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
        """Parse options; positional arguments there are none.

        `given` in the result names the options behind the last ``--paths_from``: those
        that the user wrote, and no recipe.
        """
        words = self._split(sys.argv[1:] if args is None else args)
        found, rest = self.parse_known_args(words, namespace)
        if rest:
            self.error(self._unknown(rest[0]))
        found.given = set()
        for word in words:
            name = word.partition("=")[0]
            if name == "--paths_from":
                found.given = set()
            elif name in self._option_string_actions:
                found.given.add(name.removeprefix("--"))
        return found

    def _split(self, words: Sequence[str]) -> list[str]:
        """Part ``--name=value`` where further values may follow the first one."""
        split: list[str] = []
        for word in words:
            name, equals, value = word.partition("=")
            action = self._option_string_actions.get(name)
            several = action is not None and action.nargs in ("*", "+")
            parted = equals and several and not value.startswith("-")
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


def add_option(
    group: Any,
    name: str,
    kind: Callable[..., Any],
    default: Any,
    text: str,
    **more: Any,
) -> None:
    """Add an option whose values `kind` reads; its default ends the help.

    A default in words, in brackets at the end of `text`, is left as it is.
    """
    if kind in PATH_READERS:
        more |= {"action": PathAction, "read": kind}
    else:
        more["type"] = kind
    if kind is boolean:  # `--dry_run` is `--dry_run true`
        more |= {"nargs": "?", "const": True, "metavar": "true|false"}
    if not text.endswith("]") and default not in (None, [], {}):
        shown = str(default).lower() if kind is boolean else default
        text += f" [{shown}]"
    group.add_argument(f"--{name}", default=default, help=text, **more)


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
    several: dict[str, Any] = {"nargs": "+", "metavar": "NAME"}
    place: dict[str, Any] = {"nargs": "+", "metavar": "CORPUS=DIR"}

    add = partial(add_option, parser.add_argument_group("which stages"))
    add("stage", int, 1, "first stage")
    add("stop_stage", int, max(STAGES), "last stage")
    add("skip_data_prep", boolean, False, "leave stages 1 to 4 out")
    add("skip_train", boolean, False, "leave stage 5 out")
    add("skip_eval", boolean, False, "leave stages 6 and 7 out")
    add("dry_run", boolean, False, "print the plan and its commands only")
    add(
        *("force", parse_stages, []),
        "make these stages again although they are finished (5, 5 7, 5-7); trainings "
        "and features are kept beside",
        nargs="+",
        metavar="STAGE",
    )

    add = partial(add_option, parser.add_argument_group("what is trained"))
    add(
        *("model", text, list(MODELS)),
        "models by the name of their YAML, conf/train_NAME.yaml [all five]",
        **several,
    )
    add(
        *("train_config", as_path, []),
        "training YAMLs of your own, in place of --model",
        **{**several, "metavar": "YAML"},
    )
    add(
        *("corpus_overlay", as_path, None),
        "settings merged over the YAMLs of --model: what the corpus changes",
        metavar="YAML",
    )
    add(
        *("overlay", as_path, None),
        "settings merged over each training YAML (conf/mini.yaml)",
        metavar="YAML",
    )
    add("seed", int, 0, "seed of the training")
    add(
        *("print_config", text, None),
        "print a model's whole training YAML, and the file of each key; do nothing",
        metavar="NAME",
    )

    group = parser.add_argument_group("a whole table (says itself what and on what)")
    add = partial(add_option, group)
    add(
        *("table", as_config, None),
        "1, 2, 3, sanity, or a YAML of your own (conf/tables/README.md)",
        metavar="NAME",
    )
    add("preset", text, "paper", "whose settings: paper or released")
    add("seeds", int, None, "seeds of each training, from 0 on [as in the YAML]")
    add("root", as_place, {}, "the folders of a table's corpora [as in db.sh]", **place)
    add(
        *("home", as_place, {}),
        "recipes whose data and features a table uses [this one]",
        **place,
    )

    add = partial(add_option, parser.add_argument_group("on what"))
    add(
        *("corpus", text, None),
        "iemocap, msp_podcast, ...; from the top folder a recipe, egs2/NAME",
    )
    add(
        *("corpus_root", as_path, None),
        "the corpus' folder as distributed [as in db.sh]",
        metavar="DIR",
    )
    add("scheme", text, None, "how the corpus is split")
    add("fold", int, None, "folds of the scheme", nargs="*")
    for name, kind in (("min", "shorter"), ("max", "longer")):
        add(
            *(f"{name}_seconds", float, None),
            f"leave {kind} clips out of train and valid, never of test [none]",
        )
    for name, default, what, folder in (
        ("labels", "paper5", "class map", "labels"),
        ("features", "hubert_large", "feature config", "features"),
    ):
        add(
            *(name, as_config, default),
            f"{what}: a YAML, or NAME of conf/{folder}/NAME.yaml [{default}]",
        )
    add(
        *("upstream", as_upstream, None),
        "upstream checkpoint in place of the feature config's",
    )
    add(
        *("on_bad_audio", text, "fail"),
        "recordings that the extraction cannot use: extract all others and stop, or "
        "leave them out [fail]",
        choices=("fail", "skip"),
    )
    built_in = ("iemocap", "msp_podcast")
    add("part", text, None, "which built-in corpus", choices=built_in)
    add(
        *("mini_seed", int, None),
        "generate --corpus_root, a built-in corpus, with this seed",
    )
    add("mini_scale", float, 1.0, "factor on its size [1]")

    add = partial(add_option, parser.add_argument_group("a corpus of your own"))
    add(
        *("manifest", as_path, None),
        "csv, tsv or jsonl with a row for each recording, or a folder of another "
        "format (espnet_ext/corpora/README.md); --corpus is then a name for it, and "
        "--corpus_root what its paths are relative to [its folder]",
        metavar="FILE",
    )
    add("columns", text, [], "names of its columns", nargs="+", metavar="THEIRS=OURS")
    add(
        *("attribute_scale", float, None),
        "lowest and highest possible valence, arousal and dominance",
        nargs=2,
        metavar=("LOW", "HIGH"),
    )
    add(
        *("shared_speakers", boolean, False),
        "whether a speaker may be in two parts of the given split",
    )
    add("fold_seed", int, 0, "seed of folds that are drawn [0]")

    add = partial(add_option, parser.add_argument_group("a corpus that fetches itself"))
    add(
        *("download", boolean, False),
        "fetch --corpus emodb, ravdess, crema_d or meld into --corpus_root "
        "(downloads/CORPUS) if it is not there",
    )
    add(
        *("accept_license", boolean, False),
        "whether its licence is accepted; asked for otherwise",
    )

    add = partial(add_option, parser.add_argument_group("how and where"))
    add(
        *("cmd_backend", text, None),
        "local, slurm, or another of cmd.sh [as in cmd.sh]",
        metavar="NAME",
    )
    add(
        *("status", boolean, False),
        "print how each step stands: queued, running, done, failed; do nothing",
    )
    add(
        *("nj", int, None),
        "processes at a time [the number of CPUs]; with slurm the CPUs of a job, "
        "--num_threads in cmd.sh",
    )
    add("ngpu", int, 0, "GPUs of one run, on each node")
    add("num_nodes", int, 1, "nodes of one training")
    add(
        *("extract_jobs", int, 1),
        "processes (with slurm: jobs) that fill the feature store together",
    )
    add(
        *("runs_per_job", int, 1),
        "small trainings (and inferences) that share a GPU, with slurm a job",
    )
    add(
        *("mem", memory, None),
        "memory that one process (with slurm: a job) needs, like 4G [as in cmd.sh; "
        "here 1G on built-in corpora]",
        metavar="SIZE",
    )
    add(
        *("max_mem", memory, None),
        "memory that all processes on this machine may need together [90 %% of what "
        "is free]",
        metavar="SIZE",
    )
    add(
        *("max_restarts", int, 20),
        "how often Slurm may start a job again after preemption, a failed node or the "
        "time limit",
    )
    add(
        *("wait", boolean, True),
        "with slurm: watch until all has ended, or leave once it is queued",
    )
    for name in OUTPUTS:
        default = name.removesuffix("dir")
        add(name, as_path, Path(default), f"[{default}]", metavar="DIR")
    add("resamples", int, None, "bootstrap resamples [1000; of a table 10000]")
    add(
        *("paths_from", Path, None),
        "where relative paths behind this option are meant from; run.sh gives it",
        metavar="DIR",
    )
    return parser
