"""Answers written one by one, so that a killed run loses none and repeats none."""

import csv
import io
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, TextIO

from espnet_ext.attributes import ATTRIBUTES
from espnet_ext.errors import UserError
from espnet_ext.utils.atomic import atomic_write_text

FORMATS = ("table", "jsonl", "csv")
_SPREAD_WIDTH = 8  # of "+-0.123" behind a number, for people


def open_output(path: Path, mode: Literal["w", "a"]) -> TextIO:
    """Open a file for rows; names that are no UTF-8 keep their bytes."""
    return open(path, mode, encoding="utf-8", errors="surrogateescape", newline="")


class ResultWriter:
    """Writes a row for each recording as soon as it is there.

    Args:
        form: ``table`` for people, ``jsonl`` or ``csv``.
        output: File; None writes to standard output.
        labels: Names of the model's classes.
        members: Of an ensemble: more than one adds columns for the spread.
        resume: Keep the good rows that `output` holds.

    Attributes:
        finished: Ids that `output` held already.
    """

    def __init__(
        self,
        form: str,
        output: Path | None,
        labels: Sequence[str],
        members: int = 1,
        *,
        resume: bool = False,
    ) -> None:
        self.form = form
        self._has_spread = members > 1
        spread = [*(f"prob_{label}" for label in labels), *ATTRIBUTES]
        spread = spread if self._has_spread else []
        self.columns = [
            *("id", "seconds", "label"),
            *(f"prob_{label}" for label in labels),
            *ATTRIBUTES,
            *(f"{name}_unit" for name in ATTRIBUTES),
            *(f"spread_{name}" for name in spread),
            *("speech", "warnings", "error"),
        ]
        self.finished: frozenset[str] = frozenset()
        self._stream: TextIO = sys.stdout
        self._labels = labels
        self._is_new = True
        if output is None:
            return
        if output.is_dir():
            raise UserError(f"--output {output} is a folder; name a file")
        if resume and output.is_file():
            self._keep_good_rows(output)
        else:
            atomic_write_text(output, "")
        self._stream = open_output(output, "a")
        self._is_new = not self.finished

    def __enter__(self) -> "ResultWriter":
        return self

    def __exit__(self, *_: object) -> None:
        if self._stream is not sys.stdout:
            self._stream.close()

    def write(self, id_: str, answer: Mapping[str, Any]) -> None:
        """Write one answer: `to_dict` of a result or of a failure."""
        row = {"id": id_, **{k: v for k, v in answer.items() if k != "source"}}
        if self.form == "jsonl":
            self._put(json.dumps(row, ensure_ascii=False) + "\n")
            return
        if self._is_new:
            self._is_new = False
            self._put(self._header())
        self._put(self._line(row) if self.form == "csv" else self._for_people(row))

    def _put(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()

    def _header(self) -> str:
        if self.form == "csv":
            return csv_line(self.columns)
        more = _SPREAD_WIDTH if self._has_spread else 0
        return (
            f"{'label':<12}{'score':>{6 + more}}"
            + "".join(f"{name:>{11 + more}}" for name in ATTRIBUTES)
            + f"{'speech':>8}  file\n"
        )

    def _line(self, row: Mapping[str, Any]) -> str:
        flat = {k: row.get(k) for k in ("id", "label", *ATTRIBUTES, "error")}
        flat |= {f"prob_{k}": v for k, v in (row.get("scores") or {}).items()}
        flat |= {f"{k}_unit": v for k, v in (row.get("unit") or {}).items()}
        spread = dict(row.get("spread") or {})
        scores = spread.pop("scores", None) or {}
        flat |= {f"spread_prob_{k}": v for k, v in scores.items()}
        flat |= {f"spread_{k}": v for k, v in spread.items()}
        flat |= {k: row.get(k) for k in ("seconds", "speech")}
        flat["warnings"] = "; ".join(row.get("warnings") or ())
        return csv_line([_text(flat.get(column)) for column in self.columns])

    def _for_people(self, row: Mapping[str, Any]) -> str:
        if row.get("error"):
            return ""  # standard error has it
        label, scores = row["label"], row["scores"]
        spread = row.get("spread") or {}
        width, best = 6, f"{scores[label]:.3f}" if scores else ""
        if self._has_spread:
            of_scores = spread["scores"]
            best += f"{_plus_minus(of_scores[label] if of_scores else None):>8}"
            width += _SPREAD_WIDTH
        numbers = ""
        for name in ATTRIBUTES:
            numbers += f"{'-' if row[name] is None else format(row[name], '.3f'):>11}"
            if self._has_spread:
                numbers += f"{_plus_minus(spread[name]):>{_SPREAD_WIDTH}}"
        notes = "".join(f"  ! {note}" for note in row["warnings"])
        return (
            f"{label or '-':<12}{best:>{width}}{numbers}{row['speech']:>8.0%}  "
            f"{row['id']}{notes}\n"
        )

    def _keep_good_rows(self, output: Path) -> None:
        """Drop failures, which are tried again, and a line that was cut by a kill."""
        with open(
            output, encoding="utf-8", errors="surrogateescape", newline=""
        ) as file:
            text = file.read()
        whole = text[: text.rfind("\n") + 1]
        good: dict[str, str] = {}
        if self.form == "jsonl":
            for line in io.StringIO(whole, newline="\n"):
                with suppress(ValueError, KeyError, TypeError):
                    row = json.loads(line)
                    if "error" not in row:
                        good[row["id"]] = line
            head = ""
        else:
            rows = list(csv.reader(io.StringIO(whole, newline="")))
            if rows and rows[0] != self.columns:
                raise UserError(
                    f"{output}: its columns are those of another model or command; "
                    "choose another --output"
                )
            head = csv_line(self.columns)
            for values in rows[1:]:
                if len(values) == len(self.columns) and not values[-1]:
                    good[values[0]] = csv_line(values)
        if not good and whole and self.form == "jsonl" and '"error"' not in whole:
            raise UserError(f"{output}: not made by this command; choose another")
        atomic_write_text(output, (head if good else "") + "".join(good.values()))
        self.finished = frozenset(good)


def _plus_minus(value: float | None) -> str:
    return "" if value is None else f"+-{value:.3f}"


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.6f}" if isinstance(value, float) else str(value)


def csv_line(values: Sequence[str]) -> str:
    """Write a row with the quotes that it needs."""
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerow(values)
    return stream.getvalue()
