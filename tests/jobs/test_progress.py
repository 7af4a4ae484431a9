"""Progress is read off the lines that ESPnet's trainer really writes."""

import io

import pytest

from espnet_ext.jobs.progress import EpochProgress, read_epochs
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


@pytest.mark.parametrize("stream", [io.StringIO, "terminal"])
def test_the_log_says_how_many_epochs_there_are(stream):
    shown = Terminal() if stream == "terminal" else stream()
    progress = EpochProgress("train x", epochs=1000, position=0, stream=shown)
    progress.feed(LOG)
    assert "1/4" in shown.getvalue()
    progress.close()


@pytest.mark.parametrize("stream", [io.StringIO, "terminal"])
def test_a_warm_up_longer_than_the_training_is_said_on_the_terminal(stream):
    shown = Terminal() if stream == "terminal" else stream()
    sentence = describe_misfit(15_000, 14, 4)
    progress = EpochProgress("train x", epochs=4, position=0, stream=shown)
    head = "[vm] 2026-11-22 16:30:37,561 (trainer:187)"
    progress.feed(f"{head} INFO: warm-up: 15000 steps, about 1072 epochs".encode())
    progress.feed(f"\n{head} WARNING: {sentence}\n".encode() + LOG)
    progress.close()
    (line,) = [x for x in shown.getvalue().splitlines() if "warm-up" in x]
    assert line.endswith(f"train x: warning: {sentence}")


def test_a_log_is_read_as_far_as_it_goes(tmp_path):
    log = tmp_path / "train.log"
    assert read_epochs(log) == (0, 0)
    log.write_bytes(LOG[:90])
    assert read_epochs(log) == (0, 4)
    log.write_bytes(LOG)
    assert read_epochs(log) == (1, 4)


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("chunk", [7, 10_000])
def test_a_pipe_gets_lines_with_the_validation_scores(chunk):
    stream = io.StringIO()
    progress = EpochProgress("train x", epochs=4, position=0, stream=stream)
    for start in range(0, len(LOG), chunk):
        progress.feed(LOG[start : start + chunk])
    progress.close()
    assert stream.getvalue() == (
        "  train x: 1/4 epochs, valid ccc 0.004, valid acc 0.219\n"
    )


def test_a_terminal_gets_a_bar():
    stream = Terminal()
    progress = EpochProgress("train x", epochs=4, position=0, stream=stream)
    progress.feed(LOG)
    assert "1/4" in stream.getvalue()
    assert "valid ccc 0.004" in stream.getvalue()
    progress.close()
