"""A recipe's folder as a finished run leaves it, its models untrained."""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml

from espnet_ext.bin import ser_extract, ser_infer
from espnet_ext.corpora.datadir import read_data_dir, write_data_dir
from espnet_ext.corpora.labels import load_class_map
from espnet_ext.corpora.sets import write_set
from espnet_ext.corpora.utterance import Utterance
from espnet_ext.mini.upstream import write_tiny_hubert
from espnet_ext.tasks.config import merge_configs
from espnet_ext.tasks.ser import SERTask

ROOT = Path(__file__).resolve().parents[2]
CLASSES = ["neu", "ang", "hap", "sad", "dis"]
MODELS = ("baseline_c", "baseline_d", "hierarchical_cd")


@dataclass
class Recipe:
    folder: Path
    wavs: dict[str, Path]

    def experiment(self, model="hierarchical_cd", seed=0, split=1):
        folder = self.folder / f"exp/mini_paper5/split_{split}"
        return folder / f"{model}_seed{seed}"


def voice(rng, seconds, rate=16000):
    """Loud and soft by turns, as speech is; never silent."""
    time = np.arange(round(seconds * rate)) / rate
    tone = sum(np.sin(2 * np.pi * f * time + f) for f in rng.uniform(100, 900, 4))
    wave = 0.1 * tone * (1.2 + np.sin(2 * np.pi * 3 * time))
    return (wave + 0.01 * rng.standard_normal(len(time))).astype(np.float32)


@pytest.fixture(scope="session")
def recipe(tmp_path_factory):
    folder = tmp_path_factory.mktemp("zebedee") / "recipe"
    rng = np.random.default_rng(3)
    records, wavs, seconds = [], {}, {}
    for number in range(12):
        id_ = f"Ses01F_secret{number:02d}"
        wave = voice(rng, 0.8 + 0.15 * number)
        wavs[id_] = folder / "audio" / f"{id_}.wav"
        wavs[id_].parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(wavs[id_], wave, 16000)
        seconds[id_] = len(wave) / 16000
        v, a, d = rng.uniform(1, 5, 3).round(3).tolist()
        who = ("iemocap", f"spk{number % 3}", "f", "Session1")
        emotion = CLASSES[number % 5]
        records.append(Utterance(id_, str(wavs[id_]), *who, emotion, v, a, d))
    write_data_dir(folder / "data", records, seconds, {"iemocap": (1.0, 5.0)})
    write_tiny_hubert(folder / "downloads/hubert_tiny")
    features = {"source": "huggingface", "name": "downloads/hubert_tiny"}
    (folder / "mini.yaml").write_text(yaml.safe_dump({"upstream": features}))
    store = folder / "dump/iemocap/mini"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        # Alone, as ser computes them: batch mates change the last bit of some.
        ser_extract.main(
            [
                *("--data", "data", "--config", "mini.yaml", "--output", str(store)),
                *("--batch_seconds", "0.1"),
            ]
        )
    sets = folder / "dump/iemocap/sets/paper5/split_1"
    data, labels = read_data_dir(folder / "data"), ROOT / "conf/labels/paper5.yaml"
    for name in ("train", "valid", "test"):
        write_set(data, list(wavs), load_class_map(labels), sets / name)
    made = Recipe(folder, wavs)
    for model in MODELS:
        train(made, model)
    return made


def train(recipe, model, seed=0, split=1):
    """Write what a training leaves: config.yaml and parameters, drawn here."""
    sets = recipe.folder / f"dump/iemocap/sets/paper5/split_{split}"
    files = [ROOT / f"conf/train_{model}.yaml", ROOT / "conf/mini.yaml"]
    defaults, _ = SERTask.get_parser().parse_known_args([])
    config = {**vars(defaults), **merge_configs(files)}
    for part in ("train", "valid"):
        triples = [["dump/iemocap/mini", "speech", "ser_features"]]
        for name, kind in (("utt2class", "text_int"), ("attributes", "text_float")):
            data_name = {"utt2class": "emotion"}.get(name, name)
            path = (sets / part / name).relative_to(recipe.folder)
            triples.append([str(path), data_name, kind])
        config[f"{part}_data_path_and_name_and_type"] = triples
    run = recipe.experiment(model, seed, split)
    config |= {"class_list": list(CLASSES), "output_dir": "exp", "seed": seed}
    config["frontend_conf"] = {"input_size": 64, "num_layers": 3}
    torch.manual_seed(5 + seed + 10 * (split - 1))
    built = SERTask.build_model(argparse.Namespace(**config))
    with torch.no_grad():  # answers that differ
        for parameter in built.decoder.parameters():
            parameter.mul_(2)
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    metric = config["best_model_criterion"][0][1]
    torch.save(built.state_dict(), run / f"valid.{metric}.ave.pth")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(recipe.folder)
        ser_infer.main(
            [
                *("--train_config", str(run / "config.yaml")),
                *("--model_file", str(run / f"valid.{metric}.ave.pth")),
                *("--set", str(sets / "test"), "--store", "dump/iemocap/mini"),
                *("--output", str(run / "test")),
                *("--dump_attention", "true", "--dump_embeddings", "true"),
            ]
        )


@pytest.fixture(scope="session")
def ser(recipe):
    from espnet_ext import SpeechEmotion

    return SpeechEmotion.from_pretrained(recipe.experiment(), device="cpu")


@pytest.fixture(scope="session")
def wav(recipe):
    return recipe.wavs["Ses01F_secret05"]


@pytest.fixture(scope="session")
def package(recipe, tmp_path_factory):
    from espnet_ext.inference.pack import pack_experiment

    path = tmp_path_factory.mktemp("packed") / "model.zip"
    pack_experiment(recipe.experiment(), path)
    return path
