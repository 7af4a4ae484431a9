"""Progress of a training that runs in another process, read off ESPnet's log."""

import re
import sys
from pathlib import Path

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


class _Bar(tqdm):
    monitor_interval = 0  # it would start a thread, and this process forks


def write_line(text: str, *, error: bool = False) -> None:
    """Print a line above the bars, if there are any."""
    stream = sys.stderr if error else sys.stdout
    with _Bar.external_write_mode(stream):
        print(text, file=stream, flush=True)


class EpochProgress:
    """A bar on a terminal; elsewhere (a log, a pipe) a line every tenth of the way.

    Args:
        name: What is trained.
        epochs: Epochs at most; the log may say that there are fewer.
        position: Which of the bars on the terminal, from 0.
    """

    def __init__(self, name: str, epochs: int, position: int = 0) -> None:
        self.name = name
        self.epochs = epochs
        self.bar = _Bar(
            total=epochs,
            desc=f"  {name}",
            unit="epoch",
            position=position,
            leave=False,
            file=sys.stderr,
            disable=not sys.stderr.isatty(),
        )
        self._rest = ""
        self._shown = 0

    def feed(self, data: bytes) -> None:
        """Take the next piece of the log; it may end within a line."""
        lines = (self._rest + data.decode(errors="replace")).split("\n")
        self._rest = lines.pop()
        for line in lines:
            if found := _RESULTS.search(line):
                self._show(int(found[1]), _SCORE.findall(found[2]))
            elif found := _STARTED.search(line):
                self.epochs = self.bar.total = int(found[2])
                # A resumed training starts in the middle: its speed is of what it did.
                if not self.bar.n:
                    self.bar.n = self.bar.initial = int(found[1]) - 1
            elif (start := line.find(MISFIT)) >= 0:
                write_line(f"  {self.name}: warning: {line[start:]}", error=True)
        self.bar.refresh()

    def _show(self, done: int, scores: list[tuple[str, str]]) -> None:
        words = [f"valid {name} {float(value):.3f}" for name, value in scores]
        self.bar.n = done
        self.bar.set_postfix_str(", ".join(words), refresh=False)
        tenth = done * 10 // self.epochs
        if self.bar.disable and tenth > self._shown:
            self._shown = tenth
            text = ", ".join([f"{done}/{self.epochs} epochs", *words])
            write_line(f"  {self.name}: {text}", error=True)
