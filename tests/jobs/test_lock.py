"""Who writes what."""

from dataclasses import replace

import pytest
from toy_plan import toy

from espnet_ext.errors import UserError
from espnet_ext.jobs.lock import acquire, holder, sign


def test_one_at_a_time(tmp_path):
    step = toy(tmp_path, "run")
    assert holder(step) is None
    with acquire(step) as lock:
        sign(lock)
        assert holder(step).startswith("process ")
        with pytest.raises(UserError, match="is being written by process"):
            acquire(step, patience=0)
    assert holder(step) is None
    acquire(step).close()


def test_workers_together_but_nobody_else(tmp_path):
    step = toy(tmp_path, "store")
    worker = replace(step, workers=2)
    refused = pytest.raises(UserError, match="is being written")
    with acquire(worker), acquire(worker), refused:
        acquire(step, patience=0)
    acquire(step).close()
