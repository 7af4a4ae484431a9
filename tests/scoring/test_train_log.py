"""Reading train.log, as ESPnet's own reporter writes it."""

import pytest

from espnet_ext.errors import UserError
from espnet_ext.scoring.train_log import read_train_log

LINE = (
    "[host] 2026-01-01 10:00:00,000 (trainer:392) INFO: {epoch}epoch results: [train] "
    "iter_time=2.100e-04, loss={loss}, optim0_lr0=1.000e-03, time=1 hour, 2 minutes "
    "and 2.3 seconds, total_count=9, gpu_max_cached_mem_GB=0.000e+00, [valid] "
    "loss=1.5e+03, ccc=-0.431, uar=nan, time=0.9 seconds, total_count=3\n"
)


def test_curves_of_a_log(tmp_path):
    path = tmp_path / "train.log"
    noise = "1epoch:train:1-5batch: loss=9.9\nsomething else\n"
    path.write_text(
        noise
        + LINE.format(epoch=1, loss="4.000")
        + LINE.format(epoch=2, loss="3.000")
        + "[host] INFO: 3epoch resu"
    )
    curves = read_train_log([path])
    assert curves["train/loss"].epochs == (1, 2)
    assert curves["train/loss"].values == (4.0, 3.0)
    assert curves["valid/loss"].values == (1500.0, 1500.0)
    assert curves["valid/ccc"].values == (-0.431, -0.431)
    assert curves["train/iter_time"].values == (2.1e-4, 2.1e-4)
    assert curves["train/gpu_max_cached_mem_GB"].values == (0.0, 0.0)
    assert "valid/uar" not in curves
    assert "train/time" not in curves


def test_resumed_and_restarted_logs(tmp_path):
    first, second = tmp_path / "train.1.log", tmp_path / "train.log"
    first.write_text("".join(LINE.format(epoch=e, loss=f"{e}.0") for e in (1, 2, 3)))
    second.write_text("".join(LINE.format(epoch=e, loss=f"{e}.5") for e in (3, 4)))
    curve = read_train_log([first, second])["train/loss"]
    assert curve.epochs == (1, 2, 3, 4)
    assert curve.values == (1.0, 2.0, 3.5, 4.5)
    # begun anew in the same file: the older training is not drawn behind it
    first.write_text(first.read_text() + LINE.format(epoch=1, loss="7.0"))
    assert read_train_log([first])["train/loss"].epochs == (1,)


def test_line_of_espnets_reporter(tmp_path):
    from espnet2.train.reporter import Reporter

    reporter = Reporter()
    reporter.set_epoch(7)
    for section, loss in (("train", 1234.5), ("valid", 0.25)):
        with reporter.observe(section) as sub:
            sub.register({"loss": loss, "ccc": -2e-5})
            sub.next()
    path = tmp_path / "train.log"
    path.write_text(f"[host] 2026-01-01 INFO: {reporter.log_message()}\n")
    curves = read_train_log([path])
    assert curves["train/loss"].epochs == (7,)
    assert curves["train/loss"].values == pytest.approx((1234.5,), rel=1e-3)
    assert curves["valid/loss"].values == (0.25,)
    assert curves["valid/ccc"].values == pytest.approx((-2e-5,))


def test_refused(tmp_path):
    with pytest.raises(UserError, match="no such training log"):
        read_train_log([tmp_path / "none.log"])
    (tmp_path / "empty.log").write_text("nothing\n")
    with pytest.raises(UserError, match=r"empty\.log: no finished epoch"):
        read_train_log([tmp_path / "empty.log"])
