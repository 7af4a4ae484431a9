import io
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from sklearn.calibration import calibration_curve

from espnet_ext import SpeechEmotion
from espnet_ext.errors import UserError
from espnet_ext.inference.calibrate import (
    apply_temperature,
    calibration_error,
    fit_temperature,
)
from espnet_ext.inference.card import model_card
from espnet_ext.inference.info import Calibration, _model_name
from espnet_ext.inference.pack import _refuse_paths, pack_experiment
from espnet_ext.mini.upstream import write_tiny_hubert


def rewrite(package, target, change):
    """Copy a package, with `change(members)` of {name: bytes}."""
    with zipfile.ZipFile(package) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return target


def edit(name, change):
    def apply(members):
        content = yaml.safe_load(members[name])
        change(content)
        members[name] = yaml.safe_dump(content).encode()

    return apply


def saved(content):
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


def test_a_package_answers_as_its_training(ser, package, wav, tmp_path):
    moved = tmp_path / "elsewhere.zip"
    moved.write_bytes(package.read_bytes())
    packed = SpeechEmotion.from_pretrained(moved)
    assert packed(wav).to_dict() == ser(wav).to_dict()
    with zipfile.ZipFile(moved) as archive:
        archive.extractall(tmp_path / "folder")
    unpacked = SpeechEmotion.from_pretrained(tmp_path / "folder")
    assert unpacked(wav).to_dict() == ser(wav).to_dict()
    assert packed.info.scale == (1, 5)
    assert packed.info.builtin


def test_espnets_own_loaders_take_it(ser, package, wav, tmp_path):
    import espnet
    from espnet_model_zoo.downloader import ModelDownloader

    with pytest.warns(UserWarning, match="local model"):
        files = ModelDownloader(str(tmp_path)).unpack_local_file(str(package))
    assert SpeechEmotion(**files)(wav).to_dict() == ser(wav).to_dict()
    loaded = espnet.load(str(package), task="ser", device="cpu")
    assert isinstance(loaded, SpeechEmotion)
    assert loaded(wav).scores == ser(wav).scores


def test_a_tag_of_the_hub(ser, package, wav, tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    cached = tmp_path / "models--somebody--ser"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("a" * 40)
    with zipfile.ZipFile(package) as archive:
        archive.extractall(cached / "snapshots" / ("a" * 40))
    import huggingface_hub

    original = huggingface_hub.snapshot_download
    monkeypatch.setattr(
        huggingface_hub,
        "snapshot_download",
        lambda *args, **kwargs: original(*args, cache_dir=tmp_path, **kwargs),
    )
    found = SpeechEmotion.from_pretrained("somebody/ser", local_files_only=True)
    assert found(wav).scores == ser(wav).scores
    with pytest.raises(UserError, match="nobody/ser: no such folder or package"):
        SpeechEmotion.from_pretrained("nobody/ser", local_files_only=True)


def test_nothing_private_is_inside(recipe, package):
    with zipfile.ZipFile(package) as archive:
        whole = b"".join(archive.read(name) for name in archive.namelist())
        card = archive.read("README.md").decode()
        names = archive.namelist()
    assert str(recipe.folder).encode() not in whole
    assert b"zebedee" not in whole
    assert b"secret" not in whole
    assert b"/tmp" not in whole
    assert b"utt2class" not in whole
    assert "A toy" in card
    assert "hubert_tiny" in card
    assert "upstream/model.safetensors" in names  # tiny, and this project's own


def test_other_models_need_the_licenses_and_name_their_upstream(
    recipe, wav, tmp_path, monkeypatch, ser
):
    for module in ("info", "pack"):
        path = f"espnet_ext.inference.{module}.is_builtin"
        monkeypatch.setattr(path, lambda folder: False)
    target = tmp_path / "model.zip"
    with pytest.raises(UserError, match=r"trained on iemocap.*licence_ack"):
        pack_experiment(recipe.experiment(), target)
    assert not target.exists()
    pack_experiment(recipe.experiment(), target, licence_ack=True)
    with zipfile.ZipFile(target) as archive:
        assert not any("upstream" in name for name in archive.namelist())
        assert "license terms" in archive.read("README.md").decode()
    with pytest.raises(UserError, match="hubert_tiny"):
        SpeechEmotion.from_pretrained(target)
    upstream = recipe.folder / "downloads/hubert_tiny"
    found = SpeechEmotion.from_pretrained(target, upstream=upstream)
    assert found(wav).scores == ser(wav).scores
    assert found(wav).warnings == ()


def test_a_model_of_raw_audio(recipe, ser, package, wav, tmp_path):
    cached, run = recipe.experiment(), tmp_path / "exp/features/split/online_seed0"
    run.mkdir(parents=True)
    config = yaml.safe_load((cached / "config.yaml").read_text())
    features = {"upstream": {"source": "huggingface", "name": "hubert_tiny"}}
    upstream = str(recipe.folder / "downloads/hubert_tiny")
    config |= {
        "frontend": "online",
        "frontend_conf": {"config": features, "upstream": upstream},
    }
    for part in ("train", "valid"):
        triples = config[f"{part}_data_path_and_name_and_type"]
        for triple in triples:
            triple[0] = str(recipe.folder / triple[0])
        wavs = str(
            recipe.folder / "dump/iemocap/sets/paper5/split_1" / part / "wav.scp"
        )
        triples[0] = [wavs, "speech", "sound"]
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    (model,) = cached.glob("*.pth")
    state = torch.load(model, weights_only=True)
    state["frontend.reduce.weights"] = state.pop("frontend.weights")
    torch.save(state, run / model.name)
    assert SpeechEmotion.from_pretrained(run)(wav).scores == ser(wav).scores
    pack_experiment(run, tmp_path / "m.zip")
    packed = SpeechEmotion.from_pretrained(tmp_path / "m.zip")
    assert packed(wav).scores == ser(wav).scores
    expected = SpeechEmotion.from_pretrained(package).info.calibration
    assert packed.info.calibration.utterances == expected.utterances == 12
    assert packed.info.calibration.temperature == pytest.approx(
        expected.temperature, abs=1e-4
    )
    write_tiny_hubert(tmp_path / "other", seed=1)
    other = SpeechEmotion.from_pretrained(run, upstream=tmp_path / "other")
    assert other(wav).scores != ser(wav).scores


def test_the_same_training_gives_the_same_bytes(recipe, package, tmp_path):
    pack_experiment(recipe.experiment(), tmp_path / "model.zip")
    assert (tmp_path / "model.zip").read_bytes() == package.read_bytes()


def inside(package, folder):
    """All that is in a package, also in the archives that parameters are."""
    with zipfile.ZipFile(package) as archive:
        archive.extractall(folder)
    names = [str(p.relative_to(folder)) for p in folder.rglob("*")]
    contents = [p.read_bytes() for p in folder.rglob("*") if p.is_file()]
    for path in folder.rglob("*.pth"):
        with zipfile.ZipFile(path) as parameters:
            names += parameters.namelist()
            contents += [parameters.read(name) for name in parameters.namelist()]
    return "\n".join(names).encode() + b"".join(contents)


@pytest.mark.parametrize("others", [(), ("seed",)], ids=["one", "ensemble"])
def test_a_licensed_corpus_leaves_no_id_and_no_path(
    recipe, tmp_path, monkeypatch, others
):
    for module in ("info", "pack"):
        path = f"espnet_ext.inference.{module}.is_builtin"
        monkeypatch.setattr(path, lambda folder: False)
    home = tmp_path / "zebedee" / "thesis"
    members = [home / f"model{n}" for n in range(1 + len(others))]
    data = recipe.folder
    for member in members:
        shutil.copytree(recipe.experiment(), member)
        config = yaml.safe_load((member / "config.yaml").read_text())
        config |= {"output_dir": str(home), "init_param": [str(home / "old.pth")]}
        for part in ("train", "valid"):
            key = f"{part}_data_path_and_name_and_type"
            config[key] = [[str(data / p), n, k] for p, n, k in config[key]]
        (member / "config.yaml").write_text(yaml.safe_dump(config))
    (member / "train.log").write_text(f"reading {data}/Ses01F_secret00.wav")
    monkeypatch.chdir(data)  # where downloads/hubert_tiny is
    target = tmp_path / "m.zip"
    pack_experiment(members[0], target, others=members[1:], licence_ack=True)
    found = inside(target, tmp_path / "unpacked")
    private = {
        *("zebedee", "thesis", "recipe", "/tmp", "downloads", "dump", "old.pth"),
        *(p for wav in recipe.wavs.values() for p in wav.parts if len(p) > 5),
        *recipe.wavs,
        *("spk0", "spk1", "spk2", "Session1", "utt2class", "train.log"),
    }
    assert [word for word in sorted(private) if word.encode() in found] == []


def test_a_setting_that_names_a_file_is_refused():
    config = {"seed": 1, "normalize_conf": {"stats_file": "/home/zebedee/stats.npz"}}
    with pytest.raises(UserError, match=r"c\.yaml: normalize_conf: stats_file is a fi"):
        _refuse_paths(config, Path("c.yaml"))


def test_only_folders_of_a_recipe_name_a_model(tmp_path):
    run = tmp_path / "home" / "zebedee" / "multitask_seed0"
    run.mkdir(parents=True)
    assert _model_name(run) == "multitask_seed0"
    (run.parent / "conf").mkdir()
    (run.parent / "conf" / "multitask_seed0.yaml").write_text("")
    assert _model_name(run) == "home/zebedee/multitask_seed0"


BAD = {
    "an unknown key of meta.yaml": (
        edit("meta.yaml", lambda m: m.update(fils=1)),
        "fils is unknown.*files",
    ),
    "an unknown file": (
        edit("meta.yaml", lambda m: m["files"].update(ser_modl="model.pth")),
        "ser_modl is unknown",
    ),
    "a file outside": (
        edit("meta.yaml", lambda m: m["files"].update(upstream="../../etc")),
        "leads out of the package",
    ),
    "an absolute file": (
        edit("meta.yaml", lambda m: m["files"].update(ser_model_file="/etc/passwd")),
        "leads out of the package",
    ),
    "a missing file": (lambda m: m.pop("model.pth"), "ser_model_file.*missing"),
    "no meta.yaml": (lambda m: m.pop("meta.yaml"), "no meta.yaml"),
    "an unknown key of the config": (
        edit("config.yaml", lambda c: c["encoder_conf"].update(num_blocs=4)),
        "num_blocs is unknown",
    ),
    "an unknown key at the top of the config": (
        edit("config.yaml", lambda c: c.update(encodr="linear")),
        "encodr is unknown.*encoder",
    ),
    "an encoder that does not exist": (
        edit("config.yaml", lambda c: c.update(encoder="conformerr")),
        r"config\.yaml: encoder is 'conformerr'; choose from conformer",
    ),
    "an unknown key of ser_info": (
        edit("ser_info.yaml", lambda c: c.update(colour="red")),
        "colour is unknown",
    ),
    "another model": (
        edit("config.yaml", lambda c: c["decoder_conf"].update(embedding_size=16)),
        "does not fit",
    ),
    "other classes": (
        edit("ser_info.yaml", lambda c: c["classes"].reverse()),
        "classes are not",
    ),
    "a scale upside down": (
        edit("ser_info.yaml", lambda c: c.update(scale=[5.0, 1.0])),
        "scale must be",
    ),
    "a later format": (
        edit("ser_info.yaml", lambda c: c.update(format=99)),
        "format 99",
    ),
    "a zip slip": (
        lambda m: m.update({"../outside.txt": b"x"}),
        "outside of its folder",
    ),
    "an absolute member": (lambda m: m.update({"/tmp/ser_slip": b""}), "outside"),
    "files in a list": (
        edit("meta.yaml", lambda m: m.update(files=["model.pth"])),
        "files must be a mapping",
    ),
    "an upstream that is a word": (
        edit("ser_info.yaml", lambda c: c["features"].update(upstream="hubert")),
        "upstream must be a mapping",
    ),
    "scores that are words": (
        edit("ser_info.yaml", lambda c: c.update(results={"ccc": "good"})),
        "results: ccc: expected numbers",
    ),
    "scores without an estimate": (
        edit("ser_info.yaml", lambda c: c.update(results={"ccc": {"low": 1}})),
        "results: ccc: expected numbers",
    ),
    "a size that torch refuses": (
        edit("config.yaml", lambda c: c["encoder_conf"].update(output_size=63)),
        "no model can be built",
    ),
    "a file that is a folder too": (
        lambda m: m.update({"config.yaml/x": b""}),
        "no package",
    ),
    "a member without a name": (lambda m: m.update({"./": b""}), "no package"),
    "parameters in a list": (
        lambda m: m.update({"model.pth": saved([1, 2])}),
        "does not fit",
    ),
    "cut parameters": (
        lambda m: m.update({"model.pth": m["model.pth"][:5000]}),
        "cannot be read",
    ),
}


@pytest.mark.parametrize("fault", BAD)
def test_bad_packages_are_refused_and_leave_nothing(
    package, tmp_path, monkeypatch, fault
):
    change, reason = BAD[fault]
    scratch = tmp_path / "in" / "scratch"
    scratch.mkdir(parents=True)
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    bad = rewrite(package, tmp_path / "bad.zip", change)
    with pytest.raises(UserError, match=reason):
        SpeechEmotion.from_pretrained(bad)
    assert not list(scratch.iterdir())
    assert {p.name for p in tmp_path.rglob("*")} == {"in", "scratch", "bad.zip"}


def test_the_card_says_that_nothing_is_calibrated(ser):
    card = model_card(ser.info, ser.labels)  # of a training's folder, not packed
    assert "they are not calibrated" in " ".join(card.split())
    calibration = Calibration(1.5, 10, 0.2, 0.1)
    card = model_card(replace(ser.info, calibration=calibration), ser.labels)
    assert "Temperature 1.500" in card
    assert "not calibrated" not in card


def test_a_package_may_have_every_option_of_espnets(package, ser, wav, tmp_path):
    more = edit("config.yaml", lambda c: c.update(ngpu=0))
    found = SpeechEmotion.from_pretrained(rewrite(package, tmp_path / "a.zip", more))
    assert found(wav).scores == ser(wav).scores


def test_code_in_parameters_is_never_run(package, tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"x": Evil()}, tmp_path / "evil.pth")
    evil = (tmp_path / "evil.pth").read_bytes()
    bad = rewrite(package, tmp_path / "b.zip", lambda m: m.update({"model.pth": evil}))
    with pytest.raises(UserError, match="cannot be read"):
        SpeechEmotion.from_pretrained(bad)
    assert not (tmp_path / "ran").exists()


def test_links_bombs_and_cut_zips_are_refused(package, tmp_path):
    link = zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as archive:
        archive.writestr(link, "/etc")
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(50_000_000))
    with zipfile.ZipFile(package) as archive:
        place = archive.getinfo("config.yaml").header_offset
    damaged = bytearray(package.read_bytes())
    damaged[place + 41 : place + 61] = b"\xff" * 20  # where its content begins
    (tmp_path / "damaged.zip").write_bytes(damaged)
    (tmp_path / "cut.zip").write_bytes(package.read_bytes()[:-5000])
    (tmp_path / "text.zip").write_text("not a zip")
    for name, reason in [
        ("link", "is a link"),
        ("bomb", "unpacks to too much"),
        ("cut", "cut"),
        ("damaged", "cut"),
        ("text", "no package"),
    ]:
        with pytest.raises(UserError, match=reason):
            SpeechEmotion.from_pretrained(tmp_path / f"{name}.zip")


def test_things_that_are_no_model(recipe, tmp_path):
    for what, reason in [
        (tmp_path, "neither a package"),
        (tmp_path / "not_there", "no such folder"),
        ("word", "nor a tag"),
    ]:
        with pytest.raises(UserError, match=reason):
            SpeechEmotion.from_pretrained(what)
    with pytest.raises(UserError, match="device"):
        SpeechEmotion.from_pretrained(recipe.experiment(), device="gpu")


def test_calibrated_scores(package, wav):
    raw = SpeechEmotion.from_pretrained(package)
    calibrated = SpeechEmotion.from_pretrained(package, scores="calibrated")
    temperature = raw.info.calibration.temperature
    probabilities = torch.tensor(list(raw(wav).scores.values())).double()
    expected = torch.softmax(probabilities.log() / temperature, dim=0)
    assert list(calibrated(wav).scores.values()) == pytest.approx(
        expected.tolist(), abs=1e-6
    )


def test_temperature_and_error_against_torch_and_sklearn():
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(4000, 5, generator=generator, dtype=torch.float64)
    classes = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    sharp = (3 * logits).softmax(1)  # three times as sure as it should be
    found = fit_temperature(sharp.numpy(), classes.numpy())
    assert found == pytest.approx(3, rel=0.08)
    mended = apply_temperature(sharp.numpy(), found)
    assert mended == pytest.approx((3 * logits / found).softmax(1).numpy(), abs=1e-9)
    for probabilities in (sharp.numpy(), mended):
        shares, means = calibration_curve(
            probabilities.argmax(1) == classes.numpy(),
            probabilities.max(1),
            n_bins=15,
            strategy="quantile",
        )
        # 4,000 rows in 15 bins: of 266 and of 267
        expected = np.abs(shares - means).mean()
        mine = calibration_error(probabilities, classes.numpy())
        assert mine == pytest.approx(expected, abs=2e-3)
    assert calibration_error(mended, classes.numpy()) < 0.03
