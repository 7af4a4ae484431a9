"""The rows of a manifest as they were read, and what is wrong with them."""

import math
import sys
from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from espnet_ext.corpora.corpus import LeftOut
from espnet_ext.corpora.utterance import UNKNOWN, Utterance
from espnet_ext.errors import UserError

_SHOWN = 20


@dataclass(frozen=True, slots=True)
class ManifestOptions:
    """How a manifest is read.

    Raises:
        UserError: The ends of `attribute_scale` are not in order.
    """

    columns: Mapping[str, str] = field(
        default_factory=dict
    )  # their names to those of `COLUMNS`
    root: Path | None = None  # of relative paths; None: the manifest's folder
    attribute_scale: tuple[float, float] | None = None  # lowest and highest possible
    seed: int = 0  # of what is drawn
    shared_speakers: bool = False  # whether two parts of a given split may share them
    test_only: bool = False  # whether all of it is tested, whatever its split says
    check_files: bool = True  # whether to look for every recording
    # Class of an emotion: None if it is dropped, UserError if it is not known. Without
    # it every emotion is a class.
    class_of: Callable[[str], str | None] | None = None

    def __post_init__(self) -> None:
        low, high = self.attribute_scale or (0, 1)
        if not low < high:
            raise UserError(
                f"attribute_scale {low:g} {high:g}: the lowest value comes first"
            )


class Faults:
    """Collects what is wrong with the rows, to tell it all at once."""

    def __init__(self) -> None:
        self.count = 0
        self.shown: list[str] = []

    def add(self, where: str, fault: str) -> None:
        """Note a fault of one row."""
        self.count += 1
        if self.count <= _SHOWN:
            self.shown.append(f"  {where}: {fault}")

    def check(self) -> None:
        """Raise UserError if there was a fault."""
        if not self.count:
            return
        more = self.count - len(self.shown)
        rest = f"\n  and {more} more" if more else ""
        faults = "1 fault" if self.count == 1 else f"{self.count} faults"
        lines = "\n".join(self.shown)
        raise UserError(f"{faults} in the manifest:\n{lines}{rest}")


@dataclass(slots=True)
class Table:
    """The rows as they were read: lists of the same length, and the records.

    `seen` has each id's place in these lists, or ``~place`` in `left_out`.
    """

    records: dict[str, Utterance] = field(default_factory=dict)
    lines: "array[int]" = field(default_factory=lambda: array("I"))
    files: list[str] = field(default_factory=list)
    sessions: list[str] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    seen: dict[str, int] = field(default_factory=dict)

    def where(self, index: int) -> str:
        """Return the file and line of a record."""
        return join_place(self.files[index], self.lines[index])


def is_bare(utterance: Utterance) -> bool:
    """Tell whether a record has no attribute."""
    return all(map(math.isnan, utterance.attributes))


def class_of(utterance: Utterance, options: ManifestOptions) -> str | None:
    """Return the class of a record, None where it has none."""
    if utterance.emotion == UNKNOWN:
        return None
    if options.class_of is None:
        return utterance.emotion
    return options.class_of(utterance.emotion)


def part_place(where: str) -> tuple[str, int]:
    """Part ``file:line``; a place without a line has line 0."""
    file, _, line = where.rpartition(":")
    if line.isdigit():
        return sys.intern(file), int(line)
    return sys.intern(where), 0


def join_place(file: str, line: int) -> str:
    """Put together what `part_place` has parted."""
    return f"{file}:{line}" if line else file
