"""What is finished is decided by fingerprints, never by a file's existence."""

import json
import os
from dataclasses import replace

import pytest

from espnet_ext.jobs.step import (
    RECORD,
    Evidence,
    Input,
    Status,
    Step,
    digest,
    mark_done,
    mark_started,
    recorded_inputs,
    set_aside,
    status,
)


@pytest.fixture
def step(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (source / "labels").write_text("a hap\n")
    return Step(
        name="toy",
        stage=1,
        module="toy_program",
        args=(),
        output=tmp_path / "out",
        products=("result",),
        inputs=(Input(source),),
        settings={"seed": 0},
    )


def finish(step):
    step.output.mkdir(exist_ok=True)
    (step.output / "result").write_text("1")
    mark_done(step)


def test_an_existing_product_alone_does_not_count(step):
    step.output.mkdir()
    (step.output / "result").write_text("1")
    assert status(step) is Status.NEW


def test_done_after_the_record(step):
    finish(step)
    assert status(step) is Status.DONE


def test_other_settings_are_a_change(step):
    finish(step)
    assert status(replace(step, settings={"seed": 1})) is Status.CHANGED


def test_arguments_that_say_only_how_do_not_count(step):
    finish(step)
    assert status(replace(step, args=("--nj", "8"))) is Status.DONE


def test_another_input_is_a_change_and_back_again(step):
    finish(step)
    labels = step.inputs[0].path / "labels"
    labels.write_text("a sad\n")
    assert status(step) is Status.CHANGED
    labels.write_text("a hap\n")
    assert status(step) is Status.DONE


def test_an_input_that_has_gone_is_a_change(step):
    finish(step)
    (step.inputs[0].path / "labels").unlink()
    step.inputs[0].path.rmdir()
    assert status(step) is Status.CHANGED


@pytest.mark.parametrize("damage", ["remove", "truncate", "touch"])
def test_a_product_that_is_not_the_recorded_one_is_not_finished(step, damage):
    finish(step)
    product = step.output / "result"
    if damage == "remove":
        product.unlink()
    elif damage == "truncate":
        product.write_text("")
    else:
        os.utime(product, ns=(1, 1))
    assert status(step) is Status.STARTED


def test_a_torn_record_is_no_record(step):
    finish(step)
    record = step.output / RECORD
    record.write_text(record.read_text()[:20])
    assert status(step) is Status.NEW


def test_started_work_is_told_from_other_work(step):
    step.output.mkdir()
    mark_started(step)
    assert status(step) is Status.STARTED
    assert status(replace(step, settings={"seed": 1})) is Status.CHANGED


def test_no_record_without_the_product(step):
    step.output.mkdir()
    with pytest.raises(FileNotFoundError, match="result"):
        mark_done(step)
    assert status(step) is Status.NEW


def test_listing_sees_names_sizes_and_times_only(tmp_path):
    wav = tmp_path / "a.wav"
    wav.write_bytes(b"1234")
    os.utime(wav, ns=(10, 10))
    item = Input(tmp_path, Evidence.LISTING)
    before = digest(item)
    (tmp_path / ".hidden").write_text("x")
    assert digest(item) == before
    wav.write_bytes(b"4321")
    os.utime(wav, ns=(10, 10))
    assert digest(item) == before
    os.utime(wav, ns=(11, 11))
    assert digest(item) != before


def test_a_renamed_file_changes_the_digest(tmp_path):
    (tmp_path / "a").write_text("x")
    before = digest(Input(tmp_path))
    (tmp_path / "a").rename(tmp_path / "b")
    assert digest(Input(tmp_path)) != before


def test_the_record_tells_what_was_read(step):
    finish(step)
    source = step.inputs[0]
    assert recorded_inputs(step.output) == {str(source.path): digest(source)}
    assert recorded_inputs(step.output / "nowhere") == {}


def test_set_aside_keeps_every_earlier_work(step):
    finish(step)
    mark = json.loads((step.output / RECORD).read_text())["fingerprint"][:8]
    first = set_aside(step)
    assert first.name == f"out.replaced-{mark}"
    assert (first / "result").read_text() == "1"
    finish(step)
    assert set_aside(step) not in (None, first)
    assert set_aside(step) is None
