"""The plan of a recipe: what depends on what, and what an edit makes to do again."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from espnet_ext.errors import UserError
from espnet_ext.jobs.options import get_parser
from espnet_ext.jobs.packages import Packing
from espnet_ext.jobs.recipe import Mini, Recipe, build_plan
from espnet_ext.jobs.stages import MODELS, STAGES
from espnet_ext.jobs.step import Status, mark_done, status
from espnet_ext.jobs.work import Work
from espnet_ext.tasks.config import read_config

CONF = Path(__file__).parents[2] / "conf"


@pytest.fixture
def recipe(tmp_path):
    return Recipe(
        corpus="iemocap",
        corpus_root=tmp_path / "downloads" / "IEMOCAP_full_release",
        scheme="iemocap_5fold",
        fold=1,
        labels=CONF / "labels" / "paper5.yaml",
        features=CONF / "features" / "mini.yaml",
        models={name: CONF / f"train_{name}.yaml" for name in MODELS},
        upstream=str(tmp_path / "downloads" / "hubert_tiny"),
        overlay=CONF / "mini.yaml",
        mini=Mini(),
        datadir=tmp_path / "data",
        dumpdir=tmp_path / "dump",
        expdir=tmp_path / "exp",
    )


def pretend(recipe):
    """Finish every step with stand-ins for its products."""
    for step in build_plan(recipe):
        for name in step.products:
            path = step.output / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{name} of {step.name}")
        mark_done(step)


def unfinished(recipe):
    return [s.stage for s in build_plan(recipe) if status(s) is not Status.DONE]


def whole_plan(recipe, **packing):
    steps = Work([recipe], None, list(STAGES), Packing(**packing)).all_steps()
    assert [s.stage for s in steps if s.stage < 8] == [
        s.stage for s in build_plan(recipe)
    ]
    return steps


@pytest.mark.parametrize("seeds", [(), (0, 1)])
def test_every_stage_has_steps_in_order(recipe, seeds):
    plan = whole_plan(recipe, hf_repo="me/ser", seeds=seeds)
    stages = [step.stage for step in plan]
    assert stages == sorted(stages)
    assert set(stages) == set(STAGES)
    names = [step.name for step in plan]
    assert len(set(names)) == len(names)
    outputs = [step.output for step in plan]
    assert len(set(outputs)) == len(outputs)


def test_every_input_is_made_by_an_earlier_step_or_is_the_users(recipe):
    made = []
    for step in whole_plan(recipe, hf_repo="me/ser"):
        for item in step.inputs:
            by_user = item.path.is_relative_to(CONF)
            assert by_user or any(item.path.is_relative_to(m) for m in made), item
        made.append(step.output)


def test_everything_that_is_finished_is_skipped(recipe):
    pretend(recipe)
    assert unfinished(recipe) == []


def test_another_seed_trains_again_and_keeps_the_first(recipe):
    pretend(recipe)
    other = replace(recipe, seed=1)
    assert set(unfinished(other)) == {5, 6, 7}
    assert other.run("multitask") != recipe.run("multitask")
    assert unfinished(recipe) == []


def test_another_fold_shares_the_features(recipe):
    pretend(recipe)
    assert set(unfinished(replace(recipe, fold=2))) == {4, 5, 6, 7}


def test_an_edited_yaml_trains_that_model_again(recipe, tmp_path):
    pretend(recipe)
    edited = tmp_path / "train_multitask.yaml"
    config = read_config(CONF / edited.name)
    config["loss_conf"]["alpha"] = 0.5
    edited.write_text(yaml.safe_dump(config))
    plan = build_plan(replace(recipe, models={**recipe.models, "multitask": edited}))
    todo = {step.name for step in plan if status(step) is not Status.DONE}
    assert todo == {"train multitask on iemocap_5fold_1 (seed 0)"}


def test_a_comment_in_a_yaml_trains_nothing_again(recipe, tmp_path):
    pretend(recipe)
    edited = tmp_path / "train_multitask.yaml"
    text = (CONF / edited.name).read_text()
    edited.write_text("# mine\n" + text.replace("train.yaml", f"{CONF}/train.yaml"))
    models = {**recipe.models, "multitask": edited}
    assert unfinished(replace(recipe, models=models)) == []


def test_other_audio_is_noticed(recipe):
    pretend(recipe)
    (recipe.corpus_root / "new.wav").write_bytes(b"RIFF")
    assert unfinished(recipe) == [1]


def test_a_corpus_that_was_moved_is_read_again(recipe, tmp_path):
    pretend(recipe)
    moved = tmp_path / "elsewhere" / "IEMOCAP_full_release"
    moved.parent.mkdir()
    recipe.corpus_root.rename(moved)
    todo = unfinished(replace(recipe, corpus_root=moved, mini=None))
    assert todo == [1]


def test_how_many_processes_or_gpus_decides_nothing(recipe):
    pretend(recipe)
    assert unfinished(replace(recipe, nj=8, ngpu=1)) == []


def test_one_model_is_shown_beside_those_finished_before(recipe):
    alone = replace(recipe, models={"multitask": recipe.models["multitask"]})
    pretend(alone)
    both = replace(recipe, models={"baseline_c": recipe.models["baseline_c"]})
    score = build_plan(both)[-1]
    assert score.settings["models"] == ["baseline_c", "multitask"]
    # predictions of another test set do not belong into the table
    (recipe.sets / "test" / "utt2class").write_text("changed")
    assert build_plan(both)[-1].settings["models"] == ["baseline_c"]


def test_the_overlay_changes_schedule_batch_and_depth_only(recipe):
    overlay = yaml.safe_load((CONF / "mini.yaml").read_text())
    assert set(overlay["encoder_conf"]) == {"num_blocks"}
    assert set(overlay["optim_conf"]) == {"fused"}
    assert set(overlay) <= {
        *("encoder_conf", "optim_conf"),
        *("max_epoch", "patience", "scheduler_conf", "keep_nbest_models"),
        *("batch_bins", "min_batch_size", "batch_norm_batches"),
    }
    for name, path in recipe.models.items():
        (step,) = [s for s in build_plan(recipe) if s.name.startswith(f"train {name}")]
        merged, own = step.settings["config"], read_config(path)
        assert {k: v for k, v in merged.items() if k not in overlay} == {
            k: v for k, v in own.items() if k not in overlay
        }


def test_a_missing_config_is_named(recipe):
    with pytest.raises(UserError, match=r"no such config file: .*nowhere\.yaml"):
        build_plan(replace(recipe, labels=Path("conf/labels/nowhere.yaml")))


def test_ser_sh_shows_the_stages_of_the_plan(recipe):
    """Each stage's program and options stand in its block, and defaults are true."""
    text = (CONF.parent / "egs2" / "TEMPLATE" / "ser1" / "ser.sh").read_text()
    block = r"# Stage (\d): (.*)\n(?:#  .*\n)*?#   program  (.*)\n"
    blocks = re.findall(block, text)
    assert [int(number) for number, _, _ in blocks] == list(STAGES)
    plan = whole_plan(recipe, hf_repo="me/ser")
    for number, title, command in blocks:
        assert title.startswith(STAGES[int(number)])
        step = [s for s in plan if s.stage == int(number)][-1]
        program, *options = command.split()
        assert step.module == f"espnet_ext.bin.{program}"
        assert set(options) <= set(step.args)
    head = text.partition("# Stage 1")[0]
    for name, value in re.findall(r"--(\w+) (\d+|false|data|dump|exp)[ ,]", head):
        assert str(get_parser().get_default(name)).lower() == value


def finish(steps):
    for step in steps:
        for name in step.products:
            (step.output / name).parent.mkdir(parents=True, exist_ok=True)
            (step.output / name).write_text(f"{name} of {step.name}")
        mark_done(step)


def test_a_finished_package_and_upload_are_not_repeated(recipe):
    one = replace(recipe, models={"multitask": recipe.models["multitask"]})
    finish(build_plan(one))
    scores = one.runs / "results" / "scores.json"
    packed, sent = whole_plan(one, hf_repo="me/ser")[-2:]
    assert packed.args[1:4] == (str(one.run("multitask")), "--output", packed.args[3])
    finish([packed, sent])
    plan = whole_plan(one, hf_repo="me/ser")
    assert all(status(step) is Status.DONE for step in plan)
    other = whole_plan(one, hf_repo="me/other")
    assert [s.stage for s in other if status(s) is not Status.DONE] == [9]
    (packed.output / packed.products[0]).write_text("packed again")
    packed_again = [s.stage for s in plan if status(s) is not Status.DONE]
    assert packed_again == [8, 9]
    finish([packed, sent])
    scores.write_text("other scores")
    assert status(packed) is Status.CHANGED
    assert status(sent) is Status.DONE


def test_seeds_become_one_package(recipe):
    plan = whole_plan(recipe, seeds=(0, 2))
    (packed,) = [s for s in plan if s.name.startswith("pack multitask_seed0+2 ")]
    runs = [str(replace(recipe, seed=seed).run("multitask")) for seed in (0, 2)]
    assert packed.args[:4] == ("pack", *runs, "--output")
    assert packed.products == ("multitask_seed0+2.zip",)
    assert not [s for s in plan if s.stage == 9]


def test_classical_baseline_has_no_training_and_takes_no_overlay(recipe):
    models = {"classical": CONF / "train_classical.yaml", **recipe.models}
    plan = build_plan(replace(recipe, models=models))
    fitted = [step for step in plan if step.module.endswith("ser_classical")]
    assert [step.stage for step in fitted] == [6]
    assert fitted[0].output == recipe.run("classical") / "test"
    ((path, text),) = fitted[0].files
    assert yaml.safe_load(text) == read_config(CONF / "train_classical.yaml")
    assert str(path) in fitted[0].args
    assert len([s for s in plan if s.stage == 5]) == len(recipe.models)
    both = whole_plan(replace(recipe, models=models))
    assert len([s for s in both if s.stage == 8]) == len(recipe.models)
    words = plan[-1].args  # no training log and no attention of it
    assert [w for w in words if w.startswith("classical=")] == [
        f"classical={fitted[0].output / 'predictions.csv'}"
    ]
