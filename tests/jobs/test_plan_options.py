"""What the options of ser_plan mean for the executor."""

from pathlib import Path

import pytest

from espnet_ext.bin.ser_plan import main
from espnet_ext.errors import UserError
from espnet_ext.jobs import run as driver
from espnet_ext.jobs.option_checks import check_arguments
from espnet_ext.jobs.options import get_parser
from espnet_ext.jobs.recipe import build_plan
from espnet_ext.jobs.run import memory_bound, memory_of
from espnet_ext.jobs.step import mark_done
from espnet_ext.jobs.work import recipe_of, table_of

GB = 2**30
ROOT = Path(__file__).parents[2]


def options(monkeypatch, *words):
    monkeypatch.setenv("train_cmd", "run.pl")
    monkeypatch.setenv("cuda_cmd", "run.pl --mem 4G")
    monkeypatch.setenv("decode_cmd", "run.pl --mem 800M")
    return get_parser().parse_args([*words])


def test_memory_of_a_process_is_what_cmd_sh_says(monkeypatch):
    args = options(monkeypatch)
    found = [memory_of(kind, args) for kind in ("train", "cuda", "decode")]
    assert found == [0, 4 * GB, 800 * 2**20]
    assert memory_of("cuda", options(monkeypatch, "--mem", "7G")) == 7 * GB
    assert memory_of("cuda", options(monkeypatch, "--mini_seed", "0")) == GB


def test_memory_of_all_is_most_of_what_is_free(monkeypatch):
    assert memory_bound(options(monkeypatch, "--max_mem", "12G")) == 12 * GB
    monkeypatch.setattr(driver, "free_memory", lambda: 10 * GB)
    assert memory_bound(options(monkeypatch)) == 9 * GB


def test_no_size_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["--max_mem", "much"])
    assert "'much' is no size of memory" in capsys.readouterr().err


def test_clips_may_be_left_out_by_their_length(tmp_path, monkeypatch):
    words = planned(tmp_path, *RECIPE)
    monkeypatch.setenv("train_cmd", "run.pl")

    def sets(*more):
        args = get_parser().parse_args([*words, *more])
        args.fold = args.fold or []
        check_arguments(args)
        recipe = recipe_of(args)
        steps = build_plan(recipe)
        return recipe, next(step for step in steps if step.stage == 4)

    everything, step = sets()
    assert "--max_seconds" not in step.args
    recipe, step = sets("--max_seconds", "30")
    assert step.args[step.args.index("--max_seconds") + 1] == "30.0"
    assert step.args[step.args.index("--min_seconds") + 1] == "0.0"
    assert recipe.split != everything.split  # beside what all clips have given
    recipe, step = sets("--min_seconds", "1.5", "--max_seconds", "30")
    assert step.args[step.args.index("--min_seconds") + 1] == "1.5"
    for wrong in (("--max_seconds", "0"), ("--min_seconds", "5", "--max_seconds", "2")):
        with pytest.raises(UserError, match="no clip is left"):
            sets(*wrong)
    with pytest.raises(UserError, match="YAML says that itself"):
        sets("--max_seconds", "30", *TABLE)


TABLE = ("--table", "3", "--resamples", "100")
RECIPE = ("--corpus", "iemocap", "--scheme", "iemocap_5fold", "--fold", "1", "2")


def planned(folder, *words):
    """Options of a recipe or table on the built-in corpora, in an empty folder."""
    downloads = folder / "downloads"
    return [
        *(*words, "--mini_seed", "0", "--features", "mini"),
        *("--corpus_root", str(downloads / "IEMOCAP_full_release")),
        *("--upstream", str(downloads / "hubert_tiny"), "--overlay", "conf/mini.yaml"),
        *("--datadir", str(folder / "data"), "--dumpdir", str(folder / "dump")),
        *("--expdir", str(folder / "exp")),
    ]


@pytest.mark.parametrize("look", ["--status", "--dry_run"])
@pytest.mark.parametrize("what", [RECIPE, TABLE], ids=["recipe", "table"])
def test_a_look_at_the_plan_leaves_nothing_behind(
    tmp_path, monkeypatch, capsys, what, look
):
    monkeypatch.chdir(ROOT)
    main(planned(tmp_path, *what, look))
    assert "train hierarchical_cd on" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def finish(step):
    """Finish a step with stand-ins for its products."""
    for name in step.products:
        path = step.output / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    mark_done(step)


def finish_all(steps, *_):
    for step in steps:
        finish(step)


def told(capsys, command):
    """What an attempt says that exits with 1."""
    with pytest.raises(SystemExit) as stop:
        main(command)
    assert stop.value.code == 1
    return capsys.readouterr().err


def test_a_table_of_unfinished_runs_is_told_here(tmp_path, monkeypatch, capsys):
    """Its last stage alone: nothing has failed, and it is not the whole table."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(driver, "run_stage", finish_all)
    last = planned(tmp_path, *TABLE, "--stage", "7")
    said = told(capsys, last)
    assert "table3 lacks runs" in said
    assert "\n    train multitask on msp_podcast (seed 0)\n" in said
    assert "\n    predict with multitask on msp_podcast (seed 0)\n" in said
    args = get_parser().parse_args(last)
    table = table_of(args)
    for stage in range(1, 7):
        finish_all(step for step in table.steps() if step.stage == stage)
    main(last)


@pytest.mark.parametrize("wait", ["true", "false"])
def test_a_table_of_unfinished_runs_is_told_on_slurm(
    tmp_path, monkeypatch, capsys, wait
):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(driver, "steps_under_way", set)
    monkeypatch.setattr(driver, "check_training_configs", lambda *_: None)
    monkeypatch.setattr(
        driver, "run_plan", lambda plan, *_, **__: finish_all(plan()[-1:])
    )
    on_slurm = planned(tmp_path, *TABLE, "--cmd_backend", "slurm", "--nj", "1")
    said = told(capsys, [*on_slurm, "--wait", wait, "--stage", "7"])
    assert "\n    train multitask on msp_podcast (seed 0)\n" in said
    if wait == "false":  # all that is missing has been submitted
        main([*on_slurm, "--wait", wait])
