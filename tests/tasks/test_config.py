import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from espnet2.layers.utterance_mvn import UtteranceMVN

from espnet_ext.bin.ser_train import main as ser_train
from espnet_ext.errors import UserError
from espnet_ext.tasks.config import (
    check_config,
    describe_config,
    merge_configs,
    read_config,
)

CONF = Path(__file__).resolve().parents[2] / "conf"
MODELS = [
    CONF / f"train_{name}.yaml"
    for name in (
        "baseline_c",
        "baseline_d",
        "multitask",
        "hierarchical_dc",
        "hierarchical_cd",
    )
]
OVERLAYS = sorted((CONF / "tuning").glob("*.yaml"))
RELEASED = sorted((CONF / "released").glob("*/train_*.yaml"))
SMALL = sorted((CONF / "small").glob("train_*.yaml"))


def write(folder, name, text):
    path = folder / name
    path.write_text(text)
    return path


def leaves(config, prefix=()):
    found = {}
    for key, value in config.items():
        if isinstance(value, dict):
            found |= leaves(value, (*prefix, key))
        else:
            found[".".join((*prefix, key))] = value
    return found


def differences(a, b):
    a, b = leaves(a), leaves(b)
    return {key for key in a.keys() | b.keys() if a.get(key) != b.get(key)}


# --- the files that are shipped


@pytest.mark.parametrize("path", MODELS + RELEASED, ids=str)
def test_every_model_file_is_valid_and_complete(path):
    config = read_config(path)
    check_config(config, [path])
    for key in ("encoder_conf", "decoder_conf", "loss_conf", "optim_conf"):
        assert config[key]
    for key in ("batch_bins", "max_epoch", "best_model_criterion"):
        assert key in config


@pytest.mark.parametrize("path", SMALL, ids=lambda path: path.stem)
def test_preset_small_differs_from_the_papers_models_in_its_base_alone(path):
    check_config(read_config(path), [path])
    paper = read_config(path.parents[1] / path.name)
    own = read_config(path)
    for key in ("branches", "hierarchy"):
        assert own["decoder_conf"][key] == paper["decoder_conf"][key]


# What the configs of the authors say (DavidLBick/espnet-1, branch emo_rec): corpus,
# model, the end of the file's name, max_epoch, patience, what stops early, dropout of
# encoder and decoder, smoothing, warm-up, number of attribute poolings.
FACTS = """
iemocap baseline_c continuous 50 10 ccc .1 .1 .15 8000 3
iemocap baseline_d discrete 100 none acc .1 .1 .15 8000 -
iemocap multitask mtl 50 10 acc .1 .1 .15 8000 3
iemocap hierarchical_dc mtl_hmtldc 50 10 loss .1 .1 .15 8000 3
iemocap hierarchical_cd mtl_hmtlcd 50 10 loss .1 .1 .15 8000 3
msp_podcast baseline_c continuous 50 10 ccc .1 .1 0 15000 1
msp_podcast baseline_d discrete 100 none loss .1 .1 0 15000 -
msp_podcast multitask mtl 50 none mean .15 .2 0 15000 3
msp_podcast hierarchical_dc mtl_hmtldc 50 10 ccc .1 .1 .15 15000 3
msp_podcast hierarchical_cd mtl_hmtlcd 50 none loss .1 .1 .15 15000 3
"""


@pytest.mark.parametrize("line", FACTS.split("\n")[1:-1])
def test_the_released_files_say_what_the_authors_files_say(line):
    corpus, model, source, *facts = line.split()
    source = source.replace("mtl", "mtl_discrete_continuous", 1)
    epochs, patience, stop, dropout, of_decoder, smoothing, warmup, poolings = facts
    path = CONF / "released" / corpus / f"train_{model}.yaml"
    text, config = path.read_text(), read_config(path)
    folder = {"iemocap": "iemocap", "msp_podcast": "msppodcast"}[corpus]
    assert f"# egs2/{folder}/er1/conf/" in text
    assert f" train_hubert_ll60k_conformer_{source}.yaml\n" in text
    assert config["max_epoch"] == int(epochs)
    assert config["patience"] == (None if patience == "none" else int(patience))
    mode = "min" if stop == "loss" else "max"
    assert config["early_stopping_criterion"] == ["valid", stop, mode]
    assert config["keep_nbest_models"] == 10
    encoder, decoder = config["encoder_conf"], config["decoder_conf"]
    for kind in ("dropout_rate", "positional_dropout_rate", "attention_dropout_rate"):
        assert encoder[kind] == float(dropout)
    assert decoder["dropout_rate"] == float(of_decoder)
    assert decoder["attribute_output"] == "relu"
    assert poolings == "-" or decoder["attribute_poolings"] == int(poolings)
    assert config["loss_conf"]["label_smoothing"] == float(smoothing)
    assert config["scheduler_conf"]["warmup_steps"] == int(warmup)
    # Neither is in their recipe.
    assert config["batch_norm_statistics"] == "running"
    assert "max_steps" not in config


@pytest.mark.parametrize("path", RELEASED, ids=str)
def test_the_released_normalization_subtracts_means_only(path):
    config = read_config(path)
    of_iemocap = path.parent.name == "iemocap" and "baseline_d" not in path.name
    assert config["normalize"] == ("utterance_mvn" if of_iemocap else None)
    assert "normalize_conf" not in config
    normalize = UtteranceMVN()
    assert (normalize.norm_means, normalize.norm_vars) == (True, False)


@pytest.mark.parametrize("path", [*MODELS, CONF / "train_linear_probe.yaml"], ids=str)
def test_the_paper_preset_counts_steps(path):
    config = read_config(path)
    assert config["max_steps"] == 30000
    if path in MODELS:
        assert config["scheduler_conf"]["warmup_steps"] == 15000
        assert config["patience"] == 20
        assert config["batch_norm_statistics"] == "train"


@pytest.mark.parametrize("path", OVERLAYS, ids=str)
def test_every_overlay_changes_something_valid(path):
    base = CONF / "train_multitask.yaml"
    merged = merge_configs([base, path])
    check_config(merged, [base, path])
    assert differences(merged, read_config(base))


def test_the_five_models_differ_in_a_handful_of_lines():
    multitask = read_config(CONF / "train_multitask.yaml")
    expected = {
        "baseline_c": {"decoder_conf.branches"},
        "baseline_d": {
            "decoder_conf.branches",
            "best_model_criterion",
            "early_stopping_criterion",
        },
        "hierarchical_dc": {"decoder_conf.hierarchy"},
        "hierarchical_cd": {"decoder_conf.hierarchy"},
    }
    for name, keys in expected.items():
        other = read_config(CONF / f"train_{name}.yaml")
        assert differences(multitask, other) == keys


def test_the_papers_own_numbers():
    for path in MODELS:
        config = read_config(path)
        assert config["encoder"] == "conformer"
        assert config["encoder_conf"]["num_blocks"] == 4
        assert config["encoder_conf"]["output_size"] == 64
        assert config["decoder_conf"]["hidden_size"] == 64
        assert config["decoder_conf"]["embedding_size"] == 32
        assert config["decoder_conf"]["activation"] == "leaky_relu"
        assert config["decoder_conf"]["dropout_rate"] == 0.2
        assert config["decoder_conf"]["attribute_output"] == "relu"
        assert (config["loss_conf"]["alpha"], config["loss_conf"]["beta"]) == (1, 1)
        assert config["optim"] == "adam"
        assert config["optim_conf"]["lr"] == 1e-3
        assert config["scheduler_conf"]["warmup_steps"] == 15000


# --- merging


def test_later_files_and_overrides_win(tmp_path):
    one = write(tmp_path, "one.yaml", "a: 1\nb: {x: 1, y: [1, 2]}\nc: 3\n")
    two = write(tmp_path, "two.yaml", "a: 2\nb: {y: [3], z: null}\n")
    merged = merge_configs([one, two], {"b": {"x": 5}})
    assert merged == {"a": 2, "b": {"x": 5, "y": [3], "z": None}, "c": 3}


@pytest.mark.parametrize("text", ["- 1\n", "a: [1\n", "text"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path, text):
    path = write(tmp_path, "bad.yaml", text)
    with pytest.raises(UserError, match=r"bad\.yaml"):
        read_config(path)
    with pytest.raises(UserError, match=r"none\.yaml"):
        read_config(tmp_path / "none.yaml")


# --- bases


def make_chain(folder):
    """A model in a subfolder, based on one above, based on a third beside that."""
    (folder / "sub").mkdir()
    write(folder, "root.yaml", "a: 1\nb: {x: 1, y: [1, 2]}\nc: 3\n")
    write(folder, "middle.yaml", "base: root.yaml\nb: {y: [3]}\n")
    return write(folder / "sub", "model.yaml", "base: ../middle.yaml\nc: 4\n")


def test_a_file_is_merged_over_its_bases(tmp_path, monkeypatch):
    model = make_chain(tmp_path)
    overlay = write(tmp_path, "overlay.yaml", "b: {x: 5}\n")
    assert read_config(model) == {"a": 1, "b": {"x": 1, "y": [3]}, "c": 4}
    assert merge_configs([model, overlay], {"c": 6}) == {
        "a": 1,
        "b": {"x": 5, "y": [3]},
        "c": 6,
    }
    # Relative to the file that says it, wherever the user stands.
    monkeypatch.chdir(tmp_path / "sub")
    assert read_config("model.yaml") == read_config(model)


def test_bases_in_a_circle_are_refused(tmp_path):
    for name, base in (("a", "b"), ("b", "c"), ("c", "a"), ("self", "self")):
        write(tmp_path, f"{name}.yaml", f"base: {base}.yaml\n")
    for name in ("a", "self"):
        with pytest.raises(UserError, match=rf"{name}\.yaml: base: .* in a circle"):
            read_config(tmp_path / f"{name}.yaml")


@pytest.mark.parametrize("base", ["gone.yaml", "[a.yaml, b.yaml]", "."])
def test_a_base_that_is_not_there_is_named(tmp_path, base):
    path = write(tmp_path, "model.yaml", f"base: {base}\n")
    with pytest.raises(UserError, match=r"model\.yaml: base: there is no file"):
        read_config(path)


def test_an_unknown_key_names_its_file_of_the_chain(tmp_path):
    typo = write(tmp_path, "typo.yaml", f"base: {CONF / 'train.yaml'}\nmax_epochs: 3\n")
    model = write(tmp_path, "model.yaml", "base: typo.yaml\npatience: 3\n")
    with pytest.raises(UserError) as caught:
        check_config(merge_configs([model, OVERLAYS[0]]), [model, OVERLAYS[0]])
    assert str(caught.value) == (
        f"{typo}: max_epochs is unknown; the nearest key is max_epoch"
    )


def test_a_constant_rate_has_no_warm_up(tmp_path):
    probe = CONF / "train_linear_probe.yaml"
    assert "scheduler_conf" not in merge_configs([probe, CONF / "mini.yaml"])
    described = describe_config([probe, CONF / "mini.yaml"])
    assert "scheduler_conf" not in described


# --- the description


@pytest.mark.parametrize("path", [*MODELS, *RELEASED], ids=str)
def test_the_description_is_the_merged_configuration(path):
    paths, added = [path, CONF / "mini.yaml"], {"seed": 3, "optim_conf": {"lr": 1e-5}}
    text = describe_config(paths, added)
    assert yaml.safe_load(text) == merge_configs(paths, added)


def test_the_description_names_the_source_of_each_value(tmp_path):
    model = make_chain(tmp_path)
    overlay = write(tmp_path, "overlay.yaml", "b: {x: 5}\nd: {}\n")
    lines = describe_config([model, overlay], {"e": {"seed": 0}}).splitlines()
    assert [[part.rstrip() for part in line.split("  # ")] for line in lines] == [
        ["a: 1", str(tmp_path / "root.yaml")],
        ["b:"],
        ["    x: 5", str(overlay)],
        ["    y: [3]", str(tmp_path / "middle.yaml")],
        ["c: 4", str(model)],
        ["d: {}", str(overlay)],
        ["e:"],
        ["    seed: 0", "the recipe"],
    ]


def test_a_description_imports_nothing_heavy():
    code = (
        "import sys; from espnet_ext.tasks.config import describe_config; "
        f"describe_config([{str(MODELS[0])!r}]); "
        "print({'torch', 'espnet2', 'numpy'} & {*sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"


# --- unknown keys


@pytest.mark.parametrize(
    ("text", "key", "nearest"),
    [
        ("max_epochs: 3\n", "max_epochs", "max_epoch"),
        ("encoder_conf: {num_block: 3}\n", "encoder_conf: num_block", "num_blocks"),
        ("decoder_conf: {dropout: 0}\n", "decoder_conf: dropout", "dropout_rate"),
        ("loss_conf: {alhpa: 0}\n", "loss_conf: alhpa", "alpha"),
        ("optim_conf: {learning_rate: 1}\n", "optim_conf: learning_rate", ""),
        ("scheduler_conf: {warmup: 1}\n", "scheduler_conf: warmup", "warmup_steps"),
        (
            "preencoder_conf: {out_size: 1}\n",
            "preencoder_conf: out_size",
            "output_size",
        ),
        ("encoder_conf: {input_size: 3}\n", "encoder_conf: input_size", ""),
    ],
)
def test_unknown_keys_name_file_and_nearest_key(tmp_path, text, key, nearest):
    base = CONF / "train_multitask.yaml"
    overlay = write(tmp_path, "overlay.yaml", text)
    with pytest.raises(UserError) as caught:
        check_config(merge_configs([base, overlay]), [base, overlay])
    message = str(caught.value)
    assert message.startswith(f"{overlay}: {key} is unknown; the nearest key is")
    assert message.endswith(nearest)


def test_a_choice_that_does_not_exist(tmp_path):
    overlay = write(tmp_path, "overlay.yaml", "encoder: conformerr\n")
    with pytest.raises(UserError, match=r"overlay\.yaml: encoder .* conformer, trans"):
        check_config(read_config(overlay), [overlay])


def test_a_number_that_yaml_reads_as_text(tmp_path):
    assert yaml.safe_load("lr: 1e-3") == {"lr": "1e-3"}  # YAML 1.1, as PyYAML reads it
    overlay = write(tmp_path, "overlay.yaml", "optim: adam\noptim_conf: {lr: 1e-3}\n")
    with pytest.raises(UserError, match=r"optim_conf: lr .* 1\.0e-3"):
        check_config(read_config(overlay), [overlay])


def test_ser_train_checks_before_it_trains(tmp_path, capsys):
    path = write(tmp_path, "typo.yaml", "encoder_conf: {num_block: 3}\n")
    with pytest.raises(SystemExit) as ending:
        ser_train(["--config", str(path), "--output_dir", str(tmp_path / "exp")])
    assert ending.value.code == 1
    assert "num_block is unknown; the nearest key is num_blocks" in (
        capsys.readouterr().err
    )
    assert not (tmp_path / "exp").exists()
