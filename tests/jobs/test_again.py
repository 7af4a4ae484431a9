"""What was made by other code, and what --force makes again."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from toy_plan import calls, toy

from espnet_ext.bin.ser_plan import main
from espnet_ext.errors import UserError
from espnet_ext.jobs import code, step_process
from espnet_ext.jobs import step as steps_module
from espnet_ext.jobs.again import force, print_other_code
from espnet_ext.jobs.batch import step_key, write_batch
from espnet_ext.jobs.local import run_steps
from espnet_ext.jobs.lock import acquire
from espnet_ext.jobs.option_checks import forced_stages
from espnet_ext.jobs.options import get_parser
from espnet_ext.jobs.overview import print_overview, print_plan, standings
from espnet_ext.jobs.run import begin
from espnet_ext.jobs.step import (
    RECORD,
    Status,
    is_done,
    made_by_other_code,
    mark_done,
    mark_started,
    recorded_code,
    status,
)

ROOT = Path(__file__).parents[2]


# ---- The digest of the code


@pytest.fixture
def package(tmp_path):
    shutil.copytree(
        ROOT / "espnet_ext",
        tmp_path / "espnet_ext",
        ignore=shutil.ignore_patterns("__pycache__", "*.md"),
    )
    return tmp_path


def digests(package, *programs):
    code.code_digest.cache_clear()
    code._read.cache_clear()
    return [code.code_digest(f"espnet_ext.bin.{p}", package) for p in programs]


def edit(package, name):
    path = package / "espnet_ext" / name
    path.write_text(path.read_text() + "\nEDITED = 1\n")


@pytest.mark.parametrize(
    ("edited", "changed"),
    [
        ("ser/decoder.py", {"ser_train", "ser_infer"}),
        ("corpora/sets.py", {"ser_make_sets"}),
        ("features/packed_convolutions.py", {"ser_extract", "ser_train", "ser_infer"}),
        ("scoring/writers.py", {"ser_score"}),
        ("bin/ser_infer.py", {"ser_infer"}),
        ("jobs/cluster.py", set()),
    ],
)
def test_only_programs_that_use_the_code_change(package, edited, changed):
    programs = ("ser_extract", "ser_make_sets", "ser_train", "ser_infer")
    programs += ("ser_score",)
    before = digests(package, *programs)
    edit(package, edited)
    after = digests(package, *programs)
    pairs = zip(programs, before, after, strict=True)
    assert {name for name, old, new in pairs if old != new} == changed


def test_every_module_that_python_loads_for_a_training_counts(package):
    program = (
        "import sys, espnet_ext.bin.ser_train, espnet_ext.tasks.ser\n"
        "print(*(n for n in sys.modules if n.startswith('espnet_ext.')))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, check=True
    )
    names = loaded.stdout.decode().split()
    assert len(names) > 20
    for name in names:
        path = package.joinpath(*name.split("."))
        if path.is_dir():
            continue
        (before,) = digests(package, "ser_train")
        edit(package, str(path.relative_to(package / "espnet_ext")) + ".py")
        assert digests(package, "ser_train") != [before], name


# ---- Who made what


@pytest.fixture
def edited_code(monkeypatch):
    """Call it to edit the code of all programs."""

    def change(text="edited"):
        monkeypatch.setattr(steps_module, "code_digest", lambda module: text)

    return change


def finish(step):
    step.output.mkdir(parents=True, exist_ok=True)
    (step.output / "result").write_text("1")
    mark_done(step)


def test_other_code_is_told_and_makes_nothing_again(tmp_path, edited_code, capsys):
    steps = [toy(tmp_path, name, stage) for name, stage in (("a", 5), ("b", 6))]
    run_steps(steps, 1)
    capsys.readouterr()
    print_other_code(steps)
    assert capsys.readouterr().out == ""
    edited_code()
    for show in (
        lambda: print_other_code(steps),
        lambda: print_plan(steps),
        lambda: print_overview(steps, standings(steps, tmp_path, [])),
        lambda: begin(steps, get_parser().parse_args([]), {5, 6}),
    ):
        show()
        line = (
            "2 finished (stages 5 6) made by other code; --force 5 6 makes that again\n"
        )
        assert capsys.readouterr().out.count(line) == 1
    assert run_steps(steps, 1) == []
    force(steps, {5})
    run_steps(steps, 1)
    assert [calls(step) for step in steps] == [2, 1]
    capsys.readouterr()
    print_other_code(steps)
    assert "1 finished (stages 6) made by other" in capsys.readouterr().out


def test_a_record_of_an_earlier_version_is_finished_by_other_code(tmp_path):
    step = toy(tmp_path, "a")
    finish(step)
    assert not made_by_other_code(step)
    record = json.loads((step.output / RECORD).read_text())
    del record["code"]
    (step.output / RECORD).write_text(json.dumps(record))
    assert is_done(step)
    assert made_by_other_code(step)
    assert recorded_code(step.output) == "not recorded"
    assert recorded_code(tmp_path / "nowhere") == ""


def test_a_training_that_goes_on_with_other_code_has_both(tmp_path, edited_code):
    step = replace(toy(tmp_path, "a"), keeps_partial_work=True)
    step.output.mkdir()
    for text in ("one", "two"):
        edited_code(text)
        mark_started(step)
    finish(step)
    assert recorded_code(step.output) == "one+two"
    assert made_by_other_code(step)


def test_a_store_is_made_by_all_code_that_added_to_it(tmp_path, edited_code):
    store = replace(toy(tmp_path, "store", stage=3), grows=True)
    edited_code("one")
    finish(store)
    edited_code("two")
    more = replace(store, settings={"labels": "four"})
    mark_done(more)  # nothing was missing
    assert recorded_code(store.output) == "one"
    (store.output / "result").write_text("more")
    mark_done(store)
    assert recorded_code(store.output) == "one+two"
    # What is written anew is not.
    sets = toy(tmp_path, "sets", stage=4)
    for text, product in (("one", "a"), ("two", "bb")):
        edited_code(text)
        finish(sets)
        (sets.output / "result").write_text(product)
        mark_done(sets)
    assert recorded_code(sets.output) == "two"


# ---- --force


def test_a_forced_training_begins_anew_and_the_earlier_one_is_kept(tmp_path, capsys):
    train = replace(toy(tmp_path, "train"), keeps_partial_work=True)
    infer = toy(tmp_path, "infer", stage=6, reads=[train])
    for step in (train, infer):
        run_steps([step], 1)
    force([train, infer], {5, 6})
    said = capsys.readouterr().out
    (kept,) = tmp_path.glob("train.replaced-*")
    assert f"train: forced; the earlier work is kept in {kept}" in said
    assert (kept / "result").is_file()
    assert status(train) is Status.NEW
    assert not is_done(infer)
    assert (infer.output / "result").is_file()  # until it is replaced
    for step in (train, infer):
        run_steps([step], 1)
    assert [calls(train), calls(infer)] == [1, 2]
    # Without --force all is finished.
    assert run_steps([train], 1) == run_steps([infer], 1) == []


def test_forced_work_that_was_cut_off_goes_on(tmp_path):
    train = replace(toy(tmp_path, "train"), keeps_partial_work=True)
    run_steps([train], 1)
    force([train], {5})
    train.output.mkdir()
    mark_started(train)
    (train.output / "calls").write_text("called\n")
    run_steps([train], 1)  # the same command without --force
    assert calls(train) == 2
    assert len(list(tmp_path.glob("train.replaced-*"))) == 1


def test_a_requeued_job_forces_nothing(tmp_path):
    """What is forced is on the disk, not in the job."""
    train = replace(toy(tmp_path, "train"), keeps_partial_work=True)
    run_steps([train], 1)
    force([train], {5})
    batch = write_batch(tmp_path / "slurm", {0: [train]}, max_restarts=9)
    for _ in range(3):
        step_process.main([str(batch.folder), "0"])
    assert calls(train) == 1
    assert len(list(tmp_path.glob("train.replaced-*"))) == 1


def test_all_or_nothing_is_forced(tmp_path):
    """Neither under a running or queued step, nor under one that reads the results."""
    first, second = (
        replace(toy(tmp_path, name), keeps_partial_work=True) for name in "ab"
    )
    infer = toy(tmp_path, "infer", stage=6, reads=[second])
    plan = [first, second, infer]
    run_steps([first, second], 1)
    for step in (second, infer):
        with acquire(step), pytest.raises(UserError, match=f"{step.name} is running"):
            force(plan, {5})
        with pytest.raises(UserError, match=f"{step.name} is in the queue .*scancel"):
            force(plan, {5}, queued={step_key(step)})
    assert is_done(first)
    assert is_done(second)
    with acquire(first):  # a prediction waits for no training of its own
        force(plan, {6})


def test_forcing_what_was_never_made_leaves_nothing_behind(tmp_path):
    train = replace(toy(tmp_path, "train"), keeps_partial_work=True)
    force([train, toy(tmp_path, "infer", stage=6)], {5, 6})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "stages"),
    [
        (["5"], {5}),
        (["5", "7"], {5, 7}),
        (["5-7"], {5, 6, 7}),
        (["1-2", "4"], {1, 4}),
    ],
)
def test_stages_are_numbers_or_ranges(words, stages):
    assert forced_stages(get_parser().parse_args(["--force", *words])) == stages


@pytest.mark.parametrize("word", ["10", "0", "7-5", "train", "5-"])
def test_no_stage_is_refused(word, capsys):
    with pytest.raises(SystemExit):
        main(["--force", word])
    assert f"'{word}': write a stage from 1 to 9" in capsys.readouterr().err


def test_a_stage_that_is_left_out_cannot_be_forced(capsys):
    with pytest.raises(SystemExit):
        main(["--stage", "6", "--force", "5-7"])
    said = capsys.readouterr().err
    assert re.search(r"--force 5: --stage 6 --stop_stage 7 leave that stage out", said)
