"""How far `SpeechEmotion` is from a recipe's ``predictions.csv``, and how fast it is.

The store that ``predictions.csv`` comes from was filled in batches; here each recording
is alone, which changes the last fp16 bit of a few features. The last lines show how
much of the difference is the rounding: the same model on features computed alone and
12 at a time, kept in fp16 and in fp32.

    python benchmarks/inference_agreement.py egs2/mini/ser1/exp/FEATURES_LABELS/SPLIT
"""

import csv
import itertools
import sys
import time
from pathlib import Path

import numpy as np
import torch

from espnet_ext import SpeechEmotion
from espnet_ext.corpora.audio import load_waveform
from espnet_ext.corpora.datadir import read_data_dir
from espnet_ext.features.config import parse_feature_config
from espnet_ext.features.upstream import load_upstream
from espnet_ext.inference.info import find_data
from espnet_ext.train.inference import predict_utterances
from espnet_ext.utils.yaml_files import read_yaml

ATTRIBUTES = ("valence", "arousal", "dominance")


def compare(experiment: Path) -> None:
    """Print the largest differences of one model, and the time a recording takes."""
    ser = SpeechEmotion.from_pretrained(experiment)
    config = read_yaml(experiment / "config.yaml")
    data = find_data(config["train_data_path_and_name_and_type"], experiment)
    test = read_data_dir(data["attributes"].parents[1] / "test").utterances
    scores, attributes = [0.0], [0.0]
    with open(experiment / "test/predictions.csv", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    start = time.process_time()
    for row in rows:
        answer = ser(test[row["utterance"]].wav)
        if answer.scores is not None:
            told = (float(row[f"prob_{name}"]) for name in ser.info.classes)
            pairs = zip(answer.scores.values(), told, strict=True)
            scores += [abs(mine - value) for mine, value in pairs]
        if answer.valence is not None:
            attributes += [
                abs(getattr(answer, n) - float(row[f"{n}_pred"])) for n in ATTRIBUTES
            ]
    seconds = (time.process_time() - start) / len(rows)
    print(
        f"{experiment.name}: probabilities {max(scores):.1e}, attributes "
        f"{max(attributes):.1e}, {1000 * seconds:.0f} ms of CPU a recording"
    )


def compare_batches(experiment: Path) -> None:
    """Print the largest differences between features computed alone and together."""
    ser = SpeechEmotion.from_pretrained(experiment)
    data = read_yaml(experiment / "config.yaml")["train_data_path_and_name_and_type"]
    labels = find_data(data, experiment)["attributes"]
    records = read_data_dir(labels.parents[1] / "test").utterances.values()
    waves = [torch.from_numpy(load_waveform(r.wav)) for r in records]
    upstream = load_upstream(parse_feature_config(ser.info.features, "features"))
    layers = range(upstream.num_states)
    for dtype in (torch.float16, torch.float32):
        answers = []
        for size in (1, 12):
            states = [
                state.transpose(0, 1).contiguous().numpy()
                for batch in itertools.batched(waves, size)
                for state in upstream.extract(batch, layers, dtype)
            ]
            ids = [[i] for i in range(len(states))]
            answers.append([*predict_utterances(ser.model, states, ids, ser.device)])
        pairs = [*zip(*answers, strict=True)]
        scores = max(np.ptp([a.probabilities for a in p], 0).max() for p in pairs)
        values = max(np.ptp([a.attributes for a in p], 0).max() for p in pairs)
        print(f"{dtype}: probabilities {scores:.1e}, attributes {values:.1e}")


if __name__ == "__main__":
    for found in sorted(Path(sys.argv[1]).glob("*_seed*/test/predictions.csv")):
        compare(found.parents[1])
    compare_batches(Path(sys.argv[1]) / "hierarchical_cd_seed0")
