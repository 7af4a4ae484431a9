"""Progress is read off the lines that ESPnet's trainer really writes."""

import io
import re
import threading

import pytest

from espnet_ext.jobs.progress import EpochProgress, read_epochs, write_line
from espnet_ext.train.schedule import describe_misfit

# from a training by espnet 202611
LOG = (
    b"[vm] 2026-11-22 16:30:37,561 (trainer:334) INFO: 1/4epoch started\n"
    b"[vm] 2026-11-22 16:31:16,711 (trainer:392) INFO: 1epoch results: [train] "
    b"loss=4.578, acc=0.209, time=26.02 seconds, total_count=42, [valid] "
    b"ccc_valence=-5.294e-04, ccc=0.004, acc=0.219, uar=0.200, time=0.9 seconds\n"
    b"[vm] 2026-11-22 16:31:16,792 (trainer:322) INFO: 2/4epoch started. Estimated "
    b"time to finish: 19.62 seconds\n"
)


def test_the_log_says_how_many_epochs_there_are(capsys):
    progress = EpochProgress("train x", epochs=1000)
    progress.feed(LOG)
    assert "1/4" in capsys.readouterr().err


def test_a_warm_up_longer_than_the_training_is_said_on_the_terminal(capsys):
    sentence = describe_misfit(15_000, 14, 4)
    progress = EpochProgress("train x", epochs=4)
    head = "[vm] 2026-11-22 16:30:37,561 (trainer:187)"
    progress.feed(f"{head} INFO: warm-up: 15000 steps, about 1072 epochs".encode())
    progress.feed(f"\n{head} WARNING: {sentence}\n".encode() + LOG)
    (line,) = [x for x in capsys.readouterr().err.splitlines() if "warm-up" in x]
    assert line.endswith(f"train x: warning: {sentence}")


def test_a_log_is_read_as_far_as_it_goes(tmp_path):
    log = tmp_path / "train.log"
    assert read_epochs(log) == (0, 0)
    log.write_bytes(LOG[:90])
    assert read_epochs(log) == (0, 4)
    log.write_bytes(LOG)
    assert read_epochs(log) == (1, 4)


@pytest.mark.parametrize("chunk", [7, 10_000])
def test_lines_have_the_validation_scores(chunk, capsys):
    progress = EpochProgress("train x", epochs=4)
    for start in range(0, len(LOG), chunk):
        progress.feed(LOG[start : start + chunk])
    assert capsys.readouterr().err == (
        "  train x: 1/4 epochs, valid ccc 0.004, valid acc 0.219\n"
    )


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_has_a_bar_a_training(monkeypatch, capsys):
    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    threads = threading.active_count()
    shown = [EpochProgress(f"train {n}", 1000, n) for n in range(2)]
    shown[1].feed(LOG)
    assert re.search(r"train 1:  25%.* 1/4 .*valid ccc 0.004, valid acc", last(screen))
    shown[0].feed(LOG[:99].replace(b" 1/4epoch", b" 3/4epoch"))  # it was resumed
    assert re.search(r"train 0:  50%.* 2/4 ", last(screen))
    write_line("a line")
    assert capsys.readouterr().out == "a line\n"
    assert " epochs" not in screen.getvalue()
    assert threading.active_count() == threads  # the driver forks
    for one in shown:
        one.bar.close()


def last(screen):
    """What was drawn last, without the moves of the cursor."""
    return re.split(r"[\r\n\x1b]", screen.getvalue().rstrip("\r\n\x1b[A"))[-1]
