"""Progress of a training that runs in another process, read off ESPnet's log."""

import re
import sys
from pathlib import Path
from typing import TextIO

from tqdm import tqdm

from espnet_ext.train.schedule import MISFIT

# ESPnet's own lines at the start and at the end of an epoch
_STARTED = re.compile(r"(\d+)/(\d+)epoch started")
_RESULTS = re.compile(r"(\d+)epoch results:.*\[valid\] (.*)")
_SCORE = re.compile(r"\b(ccc|acc)=(-?[\d.]+(?:e[-+]\d+)?)")


def read_epochs(log: Path) -> tuple[int, int]:
    """Return the last epoch that a training's log says is complete, and of how many.

    Both are 0 where it says nothing. How many may be fewer than max_epoch: max_steps
    is counted in epochs once the training data are there.
    """
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0, 0
    done, started = _RESULTS.findall(text), _STARTED.findall(text)
    return (
        int(done[-1][0]) if done else 0,
        int(started[-1][1]) if started else 0,
    )


class EpochProgress:
    """A bar on a terminal; elsewhere (a log, a pipe) a line every tenth of the way.

    Args:
        name: What is trained.
        epochs: Epochs at most; the log may say that there are fewer.
        position: Which of the bars on the terminal, from 0.
        stream: Where to show it.
    """

    def __init__(
        self, name: str, epochs: int, position: int, stream: TextIO | None = None
    ) -> None:
        self.name = name
        self.epochs = epochs
        self.stream = stream or sys.stderr
        self.bar: tqdm[None] | None = None
        if self.stream.isatty():
            self.bar = tqdm(
                total=epochs,
                desc=f"  {name}",
                unit="epoch",
                position=position,
                leave=False,
                file=self.stream,
            )
        self._rest = ""
        self._shown = 0

    def feed(self, data: bytes) -> None:
        """Take the next piece of the log; it may end within a line."""
        lines = (self._rest + data.decode(errors="replace")).split("\n")
        self._rest = lines.pop()
        for line in lines:
            if found := _RESULTS.search(line):
                scores = [
                    f"valid {k} {float(v):.3f}" for k, v in _SCORE.findall(found[2])
                ]
                self._show(int(found[1]), ", ".join(scores))
            elif found := _STARTED.search(line):
                self.epochs = int(found[2])
                if self.bar is not None:
                    self.bar.total = self.epochs
                self._show(int(found[1]) - 1, "")
            elif (start := line.find(MISFIT)) >= 0:
                text = f"  {self.name}: warning: {line[start:]}"
                tqdm.write(text, file=self.stream)

    def close(self) -> None:
        """Take the bar away."""
        if self.bar is not None:
            self.bar.close()

    def _show(self, done: int, scores: str) -> None:
        if self.bar is not None:
            if scores:
                self.bar.set_postfix_str(scores, refresh=False)
            # A resumed training starts in the middle: its speed is of what it did.
            self.bar.initial = self.bar.initial or done
            self.bar.n = done
            self.bar.refresh()
        elif done * 10 // self.epochs > self._shown:
            self._shown = done * 10 // self.epochs
            line = f"  {self.name}: {done}/{self.epochs} epochs"
            print(f"{line}, {scores}" if scores else line, file=self.stream, flush=True)
