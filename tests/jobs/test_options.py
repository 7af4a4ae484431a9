"""Options as a user gives them: through run.sh and a recipe's own run.sh."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from espnet_ext.errors import UserError
from espnet_ext.jobs.option_checks import check_arguments, chosen_stages, complete
from espnet_ext.jobs.options import get_parser

ROOT = Path(__file__).parents[2]
ENVIRON = {**os.environ, "VIRTUAL_ENV": sys.prefix}
for name in ("IEMOCAP", "MSP_PODCAST", "EMODB", "cmd_backend"):
    ENVIRON.pop(name, None)


def run(folder, *options, script=ROOT / "run.sh", **environ):
    return subprocess.run(
        [script, *options],
        cwd=folder,
        env=ENVIRON | environ,
        capture_output=True,
        text=True,
        timeout=120,
    )


def commands(done):
    """The words of each step that --dry_run has printed."""
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    return [line.split() for line in lines if line.startswith("    python")]


def value(words, option):
    return words[words.index(option) + 1]


SPELLINGS = pytest.mark.parametrize("equals", [True, False], ids=["=", "blank"])


def spell(equals, **options):
    if equals:
        return [f"--{name}={text}" for name, text in options.items()]
    return [word for name, text in options.items() for word in (f"--{name}", text)]


@SPELLINGS
def test_a_corpus_that_is_not_there_is_no_reason_to_take_the_built_in_one(
    tmp_path, equals
):
    done = run(tmp_path, *spell(equals, table="1", root="iemocap=/no/such"))
    assert done.returncode == 1
    assert "--root iemocap=/no/such: no such folder" in done.stderr


@SPELLINGS
@pytest.mark.parametrize("door", ["front", "recipe"])
def test_paths_are_meant_from_where_the_user_stands(tmp_path, equals, door):
    (tmp_path / "mine").mkdir()
    for kind, name in (
        ("labels", "paper5.yaml"),
        ("features", "mini.yaml"),
        (".", "mini.yaml"),
        (".", "train.yaml"),
        (".", "train_multitask.yaml"),
    ):
        target = tmp_path / "mine" / f"{kind}_{name}".removeprefix("._")
        shutil.copy(ROOT / "conf" / kind / name, target)
    script = ROOT / "run.sh"
    options = {"corpus": "emodb"}
    if door == "recipe":
        script, options = ROOT / "egs2" / "emodb" / "ser1" / "run.sh", {}
    options |= {
        "corpus_root": "mine",
        "labels": "mine/labels_paper5.yaml",
        "features": "mine/features_mini.yaml",
        "overlay": "mine/mini.yaml",
        "train_config": "mine/train_multitask.yaml",
        "upstream": "./mine",
        "datadir": "d",
        "dumpdir": "../f",
        "expdir": "~/e",
    }
    options = [*spell(equals, **options), "--fold", "1", "--dry_run"]
    done = run(tmp_path, *options, script=script, HOME="/home/of me")
    here = tmp_path
    prepare, extract, sets, train, *_ = commands(done)
    assert value(prepare, "--root") == f"{here}/mine"
    assert value(prepare, "--output") == f"{here}/d/emodb"
    assert value(extract, "--config") == f"{here}/mine/features_mini.yaml"
    assert value(extract, "--upstream") == f"{here}/mine"
    assert value(sets, "--labels") == f"{here}/mine/labels_paper5.yaml"
    assert value(sets, "--output").startswith(f"{here}/../f/emodb/sets/labels_paper5/")
    assert "'/home/of me/e/features_mini_labels_paper5/" in " ".join(train)


def test_one_place_has_one_spelling(tmp_path):
    recipe = ROOT / "egs2" / "mini" / "ser1"
    plain = run(recipe, "--dry_run", script=recipe / "run.sh")
    for options in (["--expdir", "exp"], [f"--expdir={recipe}/exp"]):
        spelled = run(recipe, *options, "--dry_run", script=recipe / "run.sh")
        assert commands(spelled) == commands(plain)
    front = run(ROOT, "--expdir=egs2/mini/ser1/exp", "--dry_run")
    assert commands(front) == commands(plain)


def test_of_an_option_given_twice_the_last_one_counts():
    words = ["--expdir=a", "--expdir", "b", "--model", "x", "y", "--model=z"]
    args = get_parser().parse_args(words)
    assert (args.expdir, args.model) == (Path("b"), ["z"])


def test_several_values_in_either_spelling():
    for words in (["--fold=1", "2"], ["--fold", "1", "2"]):
        assert get_parser().parse_args(words).fold == [1, 2]


def refused(capsys, *words):
    with pytest.raises(SystemExit) as stop:
        get_parser().parse_args([*words])
    assert stop.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--expidr=x"], "no option --expidr; did you mean --expdir?"),
        (["--corpus-root", "x"], "no option --corpus-root; did you mean --corpus_root"),
        (["--expd=x"], "no option --expd; did you mean --expdir"),
        (["--expd", "x"], "no option --expd; did you mean --expdir"),
        (["--zzzzzz"], "no option --zzzzzz ("),
        (["--expdir="], "--expdir: the value is empty"),
        (["--expdir", ""], "--expdir: the value is empty"),
        (["--model="], "--model: the value is empty"),
        (["--corpus", ""], "--corpus: the value is empty"),
        (["--mem="], "--mem: the value is empty"),
        (["--expdir", "-x"], "begins with - is written --name=VALUE"),
        (["--stage", "5", "6"], "'6' belongs to no option"),
        (["--on_bad_audio", "maybe"], "--on_bad_audio: invalid choice"),
        (["--home", "iemocap"], "'iemocap' is not CORPUS=DIR"),
        (["--max_mem", "1K"], "--max_mem: 1K is less than 1M"),
        (["--mem", "much"], "'much' is no size of memory"),
        (["--dry_run", "maybe"], "--dry_run: 'maybe' is neither true nor false"),
    ],
)
def test_what_cannot_be_meant_is_named(capsys, words, said):
    assert said in refused(capsys, *words)


@pytest.mark.parametrize(
    ("option", "name", "said"),
    [
        ("--dumpdir", "a,b", "--dumpdir '/here/a,b': holds a comma"),
        ("--labels", "a,b.yaml", "--labels 'a,b': holds a comma"),
        ("--features", "a,b", "--features 'a,b': holds a comma"),
        ("--home", "iemocap=a,b", "--home '/here/a,b': holds a comma"),
        ("--datadir", "a\nb", r"--datadir '/here/a\nb': holds a line break"),
        ("--expdir", "a\rb", r"--expdir '/here/a\rb': holds a line break"),
        ("--corpus_root", "a\nb", r"--corpus_root '/here/a\nb': holds a line break"),
        ("--train_config", "a\nb", r"'/here/a\nb': holds a line break"),
        ("--expdir", os.fsdecode(b"\xe9"), r"--expdir '/here/\udce9': is not UTF-8"),
    ],
)
def test_names_that_would_be_taken_apart_later(option, name, said):
    words = ["--paths_from=/here", "--table=1", f"{option}={name}"]
    with pytest.raises(UserError) as error:
        check_arguments(get_parser().parse_args(words))
    assert said in str(error.value)


def test_any_other_name_is_allowed():
    odd = "é日 a=b:c%d'\"*?[x]{y};&|<>#~$!\\p+(r)^@\t "
    words = ["--paths_from=/here", "--table=1", f"--expdir={odd},", f"--datadir={odd},"]
    words += [f"--dumpdir={odd}", "--corpus_root=a,b"]
    check_arguments(get_parser().parse_args(words))


def test_a_comma_is_refused_before_anything_is_done(tmp_path):
    done = run(tmp_path, "--dumpdir=a,b", "--stop_stage=1", "--datadir=data")
    assert done.returncode == 1
    assert f"--dumpdir '{tmp_path}/a,b': holds a comma" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_value_may_begin_with_a_dash():
    args = get_parser().parse_args(["--paths_from", "/here", "--expdir=-x"])
    assert args.expdir == Path("/here/-x")


def test_the_name_of_an_upstream_is_no_path(tmp_path):
    name = "facebook/hubert-large-ll60k"
    words = [f"--paths_from={tmp_path}", f"--upstream={name}"]
    assert get_parser().parse_args(words).upstream == name
    (tmp_path / name).mkdir(parents=True)
    assert get_parser().parse_args(words).upstream == f"{tmp_path}/{name}"


def test_a_corpus_for_a_table_is_never_passed_over(tmp_path):
    root = f"iemocap={tmp_path}"
    alone = run(tmp_path, "--root", root)
    assert alone.returncode == 1
    assert "--root: belongs to --table (of a corpus: --corpus_root)" in alone.stderr
    both = run(tmp_path, "--corpus=mini", "--table=1", "--root", root)
    assert both.returncode == 1
    assert "this recipe generates its corpora" in both.stderr


def test_places_of_a_table_add_up():
    words = ["--paths_from=/here", "--root", "a=x", "b=y", "--root=a=/z"]
    assert get_parser().parse_args(words).root == {
        "a": Path("/z"),
        "b": Path("/here/y"),
    }


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--table=1", "--fold=1"), "--fold: a table's YAML says that itself"),
        (("--table=1", "--model", "x"), "--model: a table's YAML says that itself"),
        (("--seeds=2",), "--seeds: belongs to --table"),
        (
            ("--train_config=conf/train.yaml", "--model=multitask"),
            "--model and --train_config: a YAML is trained in place of a model",
        ),
        (
            ("--train_config=conf/train.yaml", "--corpus_overlay=conf/mini.yaml"),
            "--corpus_overlay and --train_config: it is for the YAMLs of --model",
        ),
        (("--fold_seed=3",), "--fold_seed: belongs to --manifest FILE"),
        (("--shared_speakers",), "--shared_speakers: belongs to --manifest FILE"),
        (("--columns", "who=speaker"), "--columns: belongs to --manifest FILE"),
        (("--attribute_scale", "1", "5"), "--attribute_scale: belongs to --manifest"),
        (
            ("--table=1", "--root=iemo=."),
            "no corpus is named 'iemo'; there are ",
        ),
        (
            ("--scheme=six",),
            "--scheme six: iemocap has none of this name; there",
        ),
        (("--fold=6",), "--fold 6: iemocap_5fold has folds 1 to 5"),
        (("--model=x",), "--model: there is no conf/train_x.yaml; conf has baseline_c"),
        (
            ("--print_config=x",),
            "--print_config: there is no conf/train_x.yaml",
        ),
        (
            ("--features=x",),
            "no conf/features/x.yaml; conf/features has egemaps, fbank, functionals,",
        ),
        (
            ("--corpus=iemocap", "--corpus_root=.", "--skip_packing=false"),
            "--licence_ack true",
        ),
        (("--pack_seeds=0",), "--pack_seeds: nothing is packed"),
        (("--table=1", "--stop_stage=8"), "--table: stages 8 and 9"),
        (
            ("--licence_ack=true", "--stop_stage=9", "--hf_repo=x"),
            "--hf_repo x: a repository is OWNER/NAME",
        ),
        (
            ("--licence_ack=true", "--stop_stage=9", "--hf_repo=a/b", "--fold=1"),
            "--hf_repo a/b: a repository holds one package, and there would be 5",
        ),
        (("--skip_train", "--force=5"), "--force 5: --stage 1 --stop_stage 7 leave"),
    ],
)
def test_what_cannot_be_is_named_before_anything_is_done(tmp_path, words, said):
    done = run(tmp_path, "--expdir", tmp_path / "exp", *words)
    assert done.returncode == 1
    assert said in done.stderr.replace("--root iemo=.", "")
    assert not (tmp_path / "exp").exists()


@pytest.mark.parametrize(
    ("words", "stages"),
    [
        ((), "134567"),
        (("--stage=2", "--stop_stage", "5"), "345"),
        (("--skip_data_prep", "true"), "567"),
        (("--skip_train", "--skip_eval"), "134"),
        (("--skip_train", "--skip_eval", "false"), "13467"),
        (("--stage=8", "--stop_stage=8"), "8"),
        (("--stage=8", "--stop_stage=9"), "89"),
        (("--skip_packing", "false"), "1345678"),
        (("--stage=9", "--stop_stage=9"), "9"),
        (("--stage=7", "--stop_stage=9", "--skip_packing"), "79"),
        (("--skip_packing=false", "--skip_upload_hf=false", "--stage=7"), "789"),
    ],
)
def test_stages_are_left_out_as_in_espnet(words, stages):
    chosen = chosen_stages(get_parser().parse_args(words))
    assert "".join(map(str, chosen)) == stages


def test_the_recipe_of_a_table_of_ones_own(tmp_path):
    text = (ROOT / "conf" / "tables" / "table3.yaml").read_text()
    (tmp_path / "my.yaml").write_text(
        text.replace("recipe: msp_podcast", 'recipe:   "msp_podcast" # quoted')
    )
    done = run(tmp_path, "--table=my.yaml", "--root=msp_podcast=.", "--dry_run")
    prepare = commands(done)[0]
    assert value(prepare, "--root") == str(tmp_path)
    assert "conf/msp_podcast" not in done.stderr


@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["unix", "windows"])
def test_db_sh_and_cmd_sh_as_an_editor_leaves_them(tmp_path, end):
    setup = ROOT / "egs2" / "TEMPLATE" / "ser1" / "setup.sh"
    recipe = tmp_path / "a recipe"
    subprocess.run([setup, recipe], check=True, capture_output=True)
    shutil.copy(ROOT / "egs2" / "emodb" / "ser1" / "run.sh", recipe / "run.sh")
    (tmp_path / "Emo DB").mkdir()
    for name, old, new in (
        ("db.sh", "EMODB=${EMODB:-}", f"EMODB='{tmp_path}/Emo DB'"),
        ("cmd.sh", "run.pl --mem 4G", "run.pl --mem 5G"),
    ):
        text = (recipe / name).read_text()
        assert old in text
        (recipe / name).write_bytes(text.replace(old, new).replace("\n", end).encode())
    done = run(tmp_path, "--fold", "1", "--dry_run", script=recipe / "run.sh")
    assert done.returncode == 0, done.stderr
    assert f"--root '{tmp_path}/Emo DB' --output" in done.stdout


def test_the_back_end_is_taken_from_the_option_in_either_spelling(tmp_path):
    for words in (["--cmd_backend=pbs"], ["--cmd_backend", "pbs"]):
        done = run(tmp_path, *words, "--dry_run")
        assert done.returncode == 1
        assert done.stderr.startswith("error: cmd.sh: cmd_backend=pbs is not known")


def test_bad_audio_reaches_the_extraction(tmp_path):
    recipe, table = ["--on_bad_audio=skip"], ["--on_bad_audio", "skip", "--table=1"]
    for words in (recipe, table):
        done = run(tmp_path, *words, "--dry_run")
        (extract,) = [
            words
            for words in commands(done)
            if words[2] == "espnet_ext.bin.ser_extract"
        ]
        assert value(extract, "--on_bad_audio") == "skip"


def test_gpus_reach_the_training_in_either_spelling(tmp_path):
    plans = []
    for words in (
        ["--ngpu=2", "--model=multitask"],
        ["--ngpu", "2", "--model", "multitask"],
    ):
        plans.append(commands(run(tmp_path, *words, "--dry_run")))
        (train,) = [w for w in plans[-1] if w[2] == "espnet_ext.bin.ser_train"]
        assert value(train, "--ngpu") == "2"
    assert plans[0] == plans[1]


def test_built_in_corpora_are_completed():
    args = get_parser().parse_args(["--part=msp_podcast", "--mini_seed=3"])
    complete(args, {"MSP_PODCAST": "/real", "IEMOCAP": "/real"})
    assert args.corpus_root == Path("downloads/seed3/MSP-PODCAST-1.8")
    assert (args.scheme, args.fold) == ("msp_podcast", [])
    assert args.upstream == "downloads/seed3/hubert_tiny"
    assert args.root == {}


def test_a_corpus_is_never_where_its_data_would_go(tmp_path):
    corpus = tmp_path / "emodb"
    corpus.mkdir()
    done = run(tmp_path, "--corpus=emodb", "--corpus_root=emodb", "--datadir=.")
    assert done.returncode == 1
    assert "emodb there would be replaced" in done.stderr
    assert list(tmp_path.iterdir()) == [corpus]


def test_help_needs_nothing_heavy(tmp_path):
    (tmp_path / "yaml.py").write_text("raise SystemExit('the folder\\'s own')")
    done = run(tmp_path, "--help")
    assert done.returncode == 0, done.stderr
    assert "--on_bad_audio" in done.stdout
    code = (
        "import sys; import espnet_ext.jobs.front;"
        "print({'torch', 'espnet2', 'numpy', 'tqdm'} & set(sys.modules))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert shown.stdout.strip() == "set()", shown.stderr
