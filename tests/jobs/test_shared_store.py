"""Class maps share a store: what one adds to it makes nothing of another's again.

The real programs of stages 1 to 4 on small built-in corpora; stand-ins for the rest.
"""

import pickle
from dataclasses import replace
from pathlib import Path

from espnet_ext.bin import ser_make_mini
from espnet_ext.features.store import FeatureStore
from espnet_ext.jobs.again import force
from espnet_ext.jobs.local import run_steps
from espnet_ext.jobs.recipe import Mini, Recipe, build_plan
from espnet_ext.jobs.step import is_done, mark_done

CONF = Path(__file__).parents[2] / "conf"


def recipe_in(folder, corpus, root, scheme, **changes):
    downloads = folder / "downloads"
    recipe = Recipe(
        corpus=corpus,
        corpus_root=downloads / root,
        scheme=scheme,
        fold=None,
        labels=CONF / "labels" / "paper5.yaml",
        features=CONF / "features" / "mini.yaml",
        models={"multitask": CONF / "train_multitask.yaml"},
        upstream=str(downloads / "hubert_tiny"),
        mini=Mini(scale=0.1),
        datadir=folder / "data",
        dumpdir=folder / "dump",
        expdir=folder / "exp",
    )
    return replace(recipe, **changes)


def iemocap_in(folder):
    return recipe_in(folder, "iemocap", "IEMOCAP_full_release", "iemocap_5fold", fold=1)


def msp_in(folder):
    return recipe_in(folder, "msp_podcast", "MSP-PODCAST-1.8", "msp_podcast")


def make_sets(recipe):
    """Run the real stages up to the sets; return how many utterances are stored."""
    for step in build_plan(recipe):
        if step.stage <= 4:
            run_steps([step], 1)
    return len((recipe.store / "speech_shape").read_text().splitlines())


def pretend_training(recipe):
    for step in build_plan(recipe):
        if step.stage > 4:
            for name in step.products:
                path = step.output / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(f"{name} of {step.name}")
            mark_done(step)


def unfinished(recipe):
    return [step.stage for step in build_plan(recipe) if not is_done(step)]


def files_of(folder):
    return {
        path.relative_to(folder): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }


def test_another_class_map_adds_utterances_and_nothing_is_trained_again(tmp_path):
    recipe = iemocap_in(tmp_path)
    first = make_sets(recipe)
    pretend_training(recipe)
    sets = files_of(recipe.sets)
    assert unfinished(recipe) == []
    reader = FeatureStore(recipe.store)
    four = replace(recipe, labels=CONF / "labels" / "four.yaml")
    assert make_sets(four) > first
    # A training that has the store open, and what it hands to its workers, read on.
    for store in (reader, pickle.loads(pickle.dumps(reader))):
        for utterance in reader:
            assert len(store[utterance]) == store.num_frames(utterance)
    # The extraction looks again, the sets are made again; later steps do not change.
    assert unfinished(recipe) == [3, 4]
    make_sets(recipe)
    assert files_of(recipe.sets) == sets
    assert unfinished(recipe) == []
    # Other features of the same utterances are noticed.
    other = tmp_path / "other"
    ser_make_mini.main(["--output", str(other), "--seed", "1", "--corpora"])
    moved = replace(recipe, upstream=str(other / "hubert_tiny"))
    force(build_plan(moved), {3})
    make_sets(moved)
    assert files_of(recipe.sets).keys() == sets.keys()
    assert unfinished(moved) == [5, 6, 7]


def test_of_several_stores_only_the_sets_own_utterances_count(tmp_path):
    iemocap, msp = iemocap_in(tmp_path), msp_in(tmp_path)
    joint = replace(iemocap, partners=(msp,))
    make_sets(joint)
    pretend_training(joint)
    assert unfinished(joint) == []
    four = replace(iemocap, labels=CONF / "labels" / "four.yaml")
    make_sets(four)
    make_sets(joint)
    assert unfinished(joint) == []
