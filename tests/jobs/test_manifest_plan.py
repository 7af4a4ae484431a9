"""The plan of a corpus that is a manifest, and of one that is fetched."""

import json
from dataclasses import replace

import pytest

from espnet_ext.corpora import download
from espnet_ext.corpora.labels import load_class_map
from espnet_ext.errors import UserError
from espnet_ext.jobs import front
from espnet_ext.jobs.option_checks import check_arguments, complete
from espnet_ext.jobs.options import get_parser
from espnet_ext.jobs.recipe import build_plan
from espnet_ext.jobs.work import recipe_of


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A recipe's folder, and a manifest of six speakers beside it."""
    recipe = tmp_path / "recipe"
    for name in ("labels", "features"):
        (recipe / "conf" / name).mkdir(parents=True)
    (recipe / "conf" / "features" / "mini.yaml").write_text("upstream: {}\n")
    for name in ("baseline_c", "baseline_d"):
        text = "max_epoch: 1\nbest_model_criterion: [[valid, uar, max]]\n"
        (recipe / "conf" / f"train_{name}.yaml").write_text(text)
    monkeypatch.chdir(recipe)
    write(tmp_path, emotion=True)
    return tmp_path


def write(folder, emotion=False, valence=False, split=False):
    rows = [
        {"file": f"{s}_{e}.wav", "speaker": s}
        | ({"emotion": "ab"[e]} if emotion else {})
        | ({"valence": e} if valence else {})
        | ({"split": ("train", "valid", "test")[s // 2]} if split else {})
        for s in range(6)
        for e in range(2)
    ]
    text = "".join(f"{json.dumps(row)}\n" for row in rows)
    (folder / "speech.jsonl").write_text(text)


def completed(folder, *words):
    manifest = ["--manifest", str(folder / "speech.jsonl")]
    args = get_parser().parse_args([*manifest, "--features", "mini", *words])
    complete(args, {})
    return args


def test_a_manifest_says_what_a_registration_says_of_others(folder):
    args = completed(folder, "--corpus", "my")
    assert (args.corpus, args.scheme, args.fold) == ("my", "my", [1, 2, 3, 4, 5])
    assert args.labels == "data/my.yaml"
    assert load_class_map("data/my.yaml").classes == ("a", "b")
    assert args.model == ["baseline_d"]
    assert completed(folder).corpus == "speech"
    assert completed(folder, "--fold", "2").fold == [2]


def test_the_labels_say_which_models_can_be_trained(folder):
    scale = ("--attribute_scale", "0", "1")
    write(folder, valence=True, split=True)
    args = completed(folder, *scale)
    assert (args.model, args.fold) == (["baseline_c"], [])
    write(folder, emotion=True, valence=True)
    assert len(completed(folder, *scale).model) == 5
    assert completed(folder, *scale, "--model", "baseline_d").model == ["baseline_d"]


@pytest.mark.parametrize(
    ("labels", "branch", "other", "kind"),
    [
        ({"emotion": True}, "continuous", "discrete", "valence, arousal or dominance"),
        ({"valence": True}, "discrete", "continuous", "emotion"),
    ],
)
def test_models_of_labels_that_are_not_there_are_refused(
    folder, labels, branch, other, kind
):
    write(folder, **labels)
    config = folder / "mine.yaml"
    words = ("--train_config", str(config), "--attribute_scale", "0", "1")
    words = words[:2] if "emotion" in labels else words
    config.write_text(f"decoder_conf: {{branches: [{branch}]}}\n")
    with pytest.raises(UserError, match=f"mine.yaml: the manifest has no {kind}"):
        completed(folder, *words)
    config.write_text(f"decoder_conf: {{branches: [{branch}, {other}]}}\n")
    completed(folder, *words)


def test_a_class_map_of_ones_own(folder):
    path = folder / "mine.yaml"
    path.write_text("classes: [x]\nown:\n  my: {a: x, b: null}\n")
    words = ("--corpus", "my", "--labels", str(path))
    assert completed(folder, *words).labels == str(path)
    path.write_text("classes: [x]\nown:\n  other: {a: x}\n")
    with pytest.raises(UserError, match="no entry for my"):
        completed(folder, *words)


def test_the_class_map_is_written_only_when_it_changes(folder):
    completed(folder, "--corpus", "my")
    path = folder / "recipe" / "data" / "my.yaml"
    before = path.stat().st_mtime_ns
    completed(folder, "--corpus", "my")
    assert path.stat().st_mtime_ns == before


@pytest.mark.parametrize("option", [("--dry_run",), ("--status",)])
def test_what_only_shows_the_plan_writes_nothing(folder, option):
    args = completed(folder, "--corpus", "my", *option)
    args.cmd_backend = "local"
    check_arguments(args)
    steps = build_plan(recipe_of(args))
    assert "--labels data/my.yaml" in " ".join(steps[0].args)
    assert not (folder / "recipe" / "data").exists()


def test_folds_are_drawn_by_their_seed(folder):
    def step(*words):
        args = completed(folder, "--corpus", "my", *words)
        args.cmd_backend = "local"
        return build_plan(recipe_of(args))[0]

    plain, drawn = step(), step("--fold_seed", "7")
    assert "--seed" not in plain.args
    assert "--seed 7" in " ".join(drawn.args)
    assert plain.settings != drawn.settings  # so it is prepared again


def test_steps_depend_on_the_manifest_and_not_on_its_folder(folder, monkeypatch):
    monkeypatch.setenv("train_cmd", "run.pl")
    args = completed(folder, "--corpus", "my", "--columns", "speaker=speaker")
    args.cmd_backend = "local"
    check_arguments(args)
    recipe = recipe_of(args)
    recipes = [replace(recipe, fold=fold) for fold in args.fold]
    steps = [step for recipe in recipes for step in build_plan(recipe)]
    prepare = next(step for step in steps if step.stage == 1)
    words = " ".join(prepare.args)
    assert f"--manifest {folder}/speech.jsonl --labels data/my.yaml" in words
    assert "--columns speaker=speaker" in words
    inputs = [str(item.path) for item in prepare.inputs]
    assert inputs == [f"{folder}/speech.jsonl", "data/my.yaml"]
    sets = [step for step in steps if step.stage == 4]
    assert {" ".join(s.args).partition("--fold ")[2].split()[0] for s in sets} == {
        *"12345"
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--manifest", "none.csv"), "there is no such file"),
        (("--table", "1"), "a table names its corpora itself"),
        (("--corpus", "emodb"), "has a reader of its own"),
        (("--attribute_scale", "7", "1"), "scale 7 1: the lowest value comes first"),
        (("--corpus", "my speech"), "name of the file"),
    ],
)
def test_what_cannot_be_is_refused(folder, words, message):
    with pytest.raises(UserError, match=message):
        completed(folder, *words)


@pytest.mark.parametrize("words", [("--scheme", "emodb_5fold"), ("--download", "true")])
def test_what_a_manifest_leaves_without_effect_is_refused(folder, words):
    args = completed(folder, *words)
    with pytest.raises(UserError, match=f"{words[0]} and --manifest: "):
        check_arguments(args)


def test_a_generated_corpus_is_no_manifest(folder):
    with pytest.raises(UserError, match=r"speech\.jsonl: this recipe generates"):
        completed(folder, "--part", "iemocap")


def test_the_front_door_takes_the_recipe_of_manifests(folder, monkeypatch):
    called = []
    monkeypatch.setattr("os.execv", lambda script, words: called.append(words))
    front.main(["--corpus", "my", "--manifest", "speech.csv", "--nj", "2"])
    (script, *words) = called[0]
    assert script.endswith("egs2/manifest/ser1/run.sh")
    assert words == ["--corpus", "my", "--manifest", "speech.csv", "--nj", "2"]


# ---- Corpora that fetch themselves


def test_download_fetches_what_is_not_there(folder, monkeypatch):
    fetched = []
    monkeypatch.setattr(
        download, "download_corpus", lambda s, root: fetched.append(root)
    )
    words = ["--corpus", "emodb", "--download", "true", "--accept_license", "true"]

    def root_of(*more):
        args = get_parser().parse_args([*words, *more])
        complete(args, {})
        return str(args.corpus_root)

    assert root_of() == "downloads/emodb"
    assert root_of("--corpus_root", "there") == "there"
    assert [str(root) for root in fetched] == ["downloads/emodb", "there"]
    root_of("--dry_run")
    (folder / "recipe" / "there").mkdir()
    root_of("--corpus_root", "there")
    assert len(fetched) == 2


def test_download_of_what_nobody_may_give_says_where_it_is(folder):
    args = get_parser().parse_args(["--corpus", "iemocap", "--download", "true"])
    with pytest.raises(UserError, match=r"iemocap cannot be fetched.*https://sail"):
        complete(args, {})
