"""How far `SpeechEmotion` is from a recipe's ``predictions.csv``, and how fast it is.

The store that ``predictions.csv`` comes from was filled in batches; here each recording
is alone, which changes the last fp16 bit of a few features.

    python benchmarks/inference_agreement.py egs2/mini/ser1/exp/FEATURES_LABELS/SPLIT
"""

import csv
import sys
import time
from pathlib import Path

from espnet_ext import SpeechEmotion
from espnet_ext.corpora.datadir import read_data_dir
from espnet_ext.inference.info import find_data
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


if __name__ == "__main__":
    for found in sorted(Path(sys.argv[1]).glob("*_seed*/test/predictions.csv")):
        compare(found.parents[1])
