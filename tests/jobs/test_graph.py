"""What waits for what."""

import pytest
from toy_plan import options, toy, toy_table

from espnet_ext.jobs.arrays import group_steps, levels
from espnet_ext.jobs.batch import step_key
from espnet_ext.jobs.graph import prerequisites, unfinished
from espnet_ext.jobs.slurm import TaskId
from espnet_ext.jobs.step import Input, Step, mark_done


def finish(step):
    step.output.mkdir(parents=True, exist_ok=True)
    (step.output / "result").write_text("1")
    mark_done(step)


def names(steps):
    return [step.name for step in steps]


def test_only_the_nearest_are_waited_for(tmp_path):
    steps = toy_table(tmp_path, 2)
    needs = prerequisites(steps)
    found = {step.name: names(needs[step_key(step)]) for step in steps}
    assert found == {
        "sets": [],
        **{"train0": ["sets"], "train1": ["sets"]},
        **{"infer0": ["train0"], "infer1": ["train1"]},
        "table": ["infer0", "infer1"],
    }


def test_a_folder_within_anothers_output(tmp_path):
    """As predictions lie within their training's folder."""
    train = toy(tmp_path, "run")
    infer = Step("infer", 6, "toy_program", (), tmp_path / "run" / "test", ())
    score = Step(
        *("score", 7, "toy_program", (), tmp_path / "results", ()),
        inputs=(Input(tmp_path / "run" / "test"),),
    )
    infer_reads = Step(
        *("infer", 6, "toy_program", (), infer.output, ()),
        inputs=(Input(tmp_path / "run" / "result"),),
    )
    needs = prerequisites([train, infer_reads, score])
    assert names(needs[step_key(score)]) == ["infer"]


def test_what_reads_something_unfinished_is_to_do(tmp_path):
    steps = toy_table(tmp_path, 2)
    for step in steps:
        finish(step)
    needs = prerequisites(steps)
    assert unfinished(steps, needs) == {}
    (steps[2].output / "result").unlink()
    assert names(unfinished(steps, needs).values()) == ["train1", "infer1", "table"]


@pytest.fixture
def grouped(tmp_path):
    """Groups of a stage of a plan of two folds; all before it is under way."""
    folds = [toy_table(tmp_path / fold, 3) for fold in ("fold1", "fold2")]
    steps = sorted((s for fold in folds for s in fold), key=lambda step: step.stage)
    needs = prerequisites(steps)

    def group(stage, **changes):
        before = [step for step in steps if step.stage < stage]
        jobs = {s: n for n, s in enumerate(sorted({s.stage for s in before}), start=7)}
        numbers = {stage: 0 for stage in jobs}
        under_way = {}
        for step in before:
            number = numbers[step.stage]
            under_way[step_key(step)] = [TaskId(jobs[step.stage], number)]
            numbers[step.stage] += 1
        of_stage = [step for step in steps if step.stage == stage]
        groups = group_steps(of_stage, needs, under_way, options(tmp_path, **changes))
        return [(g.dependency, {n: len(t) for n, t in g.tasks.items()}) for g in groups]

    return group


def test_what_waits_for_nothing_is_one_array(grouped):
    assert grouped(4) == [("", {0: 1, 1: 1})]


def test_trainings_wait_for_the_sets_of_their_fold(grouped):
    array = {0: 1, 1: 1, 2: 1}
    assert grouped(5) == [("afterok:7_0", array), ("afterok:7_1", array)]


def test_inferences_wait_task_for_task(grouped):
    assert grouped(6) == [("aftercorr:8", dict.fromkeys(range(6), 1))]


def test_a_table_waits_for_its_runs_however_they_end(grouped):
    assert grouped(7) == [
        ("afterany:9_0:9_1:9_2", {0: 1}),
        ("afterany:9_3:9_4:9_5", {0: 1}),
    ]


def test_steps_of_one_stage_may_wait_for_each_other(tmp_path):
    """As the labels of a built-in corpus wait for its generator."""
    corpus, upstream = toy(tmp_path, "corpus", stage=1), toy(tmp_path, "hubert", 1)
    labels = toy(tmp_path, "labels", stage=1, reads=[corpus])
    audio = toy(tmp_path, "audio", stage=2, reads=[labels])
    steps = [corpus, upstream, labels, audio]
    order = levels({step_key(s): s for s in steps}, prerequisites(steps))
    found = [names(level) for level in order]
    assert found == [["corpus", "hubert"], ["labels"], ["audio"]]


def test_what_reads_one_of_a_packed_task_just_waits_for_its_end(tmp_path):
    steps = toy_table(tmp_path, 2)
    _, *trained = steps[:3]
    inferred = steps[3:5]
    needs = prerequisites(steps)
    under_way = {step_key(step): [TaskId(8, 0)] for step in trained}
    (group,) = group_steps(inferred, needs, under_way, options(tmp_path))
    assert group.dependency == "afterany:8_0"
    assert group.needs == {
        step_key(infer): (train,)
        for train, infer in zip(trained, inferred, strict=True)
    }


def test_small_trainings_share_tasks(grouped):
    assert grouped(5, runs_per_job=2)[0] == ("afterok:7_0", {0: 2, 1: 1})
