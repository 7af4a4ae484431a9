#!/usr/bin/env python3
"""Predict a set with a trained model and write predictions.csv."""

import argparse
import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from espnet_ext.errors import UserError, exit_on_user_error
from espnet_ext.utils.atomic import atomic_file, atomic_write_text

if TYPE_CHECKING:
    import numpy as np

    from espnet_ext.corpora.utterance import Utterance
    from espnet_ext.ser.model import ESPnetSERModel
    from espnet_ext.train.inference import UtterancePrediction

ATTRIBUTES = ("valence", "arousal", "dominance")


@dataclass(frozen=True)
class PredictionSet:
    """What is known of the utterances to predict.

    Attributes:
        utterances: record of each utterance, ids sorted.
        emotions: class name of each utterance that has one.
        durations: seconds; 0 where not recorded.
    """

    utterances: "Mapping[str, Utterance]"
    emotions: Mapping[str, str]
    durations: Mapping[str, float]


def get_parser() -> argparse.ArgumentParser:
    """Return the parser; cheap."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument(
        "--train_config", type=Path, required=True, help="config.yaml of the training"
    )
    parser.add_argument(
        "--model_file",
        type=Path,
        required=True,
        help="The averaged model, e.g. valid.ccc.ave.pth",
    )
    parser.add_argument(
        "--set", type=Path, required=True, help="Directory of the set to predict"
    )
    parser.add_argument(
        "--store",
        type=Path,
        help="Feature store, or file that lists several; a model with the online "
        "frontend reads wav.scp instead",
    )
    parser.add_argument(
        "--output", type=Path, required=True, help="Folder for predictions.csv"
    )
    parser.add_argument(
        "--batch_size", type=int, default=16, help="Utterances at a time, at most"
    )
    parser.add_argument(
        "--batch_frames",
        type=int,
        default=20_000,
        help="Most utterances x longest one at a time, in frames at 50 a second: it "
        "bounds the memory. A longer utterance goes alone",
    )
    parser.add_argument("--ngpu", type=int, choices=[0, 1], default=0, help="GPUs")
    for part, meaning in (
        ("attention", "attention.npz: SAP weights (T,) as UTTERANCE/BRANCH"),
        ("embeddings", "embeddings.npz: E_D and E_C (32,) as UTTERANCE/BRANCH"),
    ):
        parser.add_argument(
            f"--dump_{part}",
            choices=["true", "false"],
            default="false",
            help=f"Write {meaning}",
        )
    return parser


@exit_on_user_error
def main(cmd: Sequence[str] | None = None) -> None:
    """Load strictly, predict in batches, write.

    Example:
        ``ser_infer.py --train_config exp/run/config.yaml --model_file
        exp/run/valid.ccc.ave.pth --set data/sets/test --store feats --output exp/test``
    """
    args = get_parser().parse_args(cmd)
    for name in ("batch_size", "batch_frames"):
        if getattr(args, name) < 1:
            raise UserError(f"{name} is {getattr(args, name)}; at least 1")
    test_set = read_test_set(args.set)
    model, frontend = load_model(args.train_config, args.model_file)
    check_classes(args.set, model.class_list)
    predictions = predict(model, frontend, args, test_set)

    # Late: numpy is wanted for the dumps only.
    import numpy as np

    args.output.mkdir(parents=True, exist_ok=True)
    for part in ("attention", "embeddings"):
        if getattr(args, f"dump_{part}") == "true":
            arrays: dict[str, Any] = dict(dump_arrays(predictions, part))
            with (
                atomic_file(args.output / f"{part}.npz") as temporary,
                open(temporary, "wb") as stream,
            ):
                np.savez(stream, **arrays)
    table = format_table(predictions, test_set, model.class_list)
    atomic_write_text(args.output / "predictions.csv", table)
    print(f"{len(predictions)} predictions in {args.output / 'predictions.csv'}")


def read_test_set(path: Path) -> PredictionSet:
    """Read a set directory; ``utt2class`` and ``classes`` may be missing."""
    from espnet_ext.corpora.datadir import read_data_dir

    data = read_data_dir(path)
    emotions: dict[str, str] = {}
    if (path / "utt2class").is_file() and (path / "classes").is_file():
        names = (path / "classes").read_text(encoding="utf-8").split()
        for line in (path / "utt2class").read_text(encoding="utf-8").splitlines():
            utt, index = line.split()
            if int(index) >= 0:
                emotions[utt] = names[int(index)]
    utterances = dict(sorted(data.utterances.items()))
    durations = {utt: data.durations.get(utt, 0.0) for utt in utterances}
    return PredictionSet(utterances, emotions, durations)


def check_classes(path: Path, class_list: Sequence[str]) -> None:
    """Make sure that the set's classes are the model's.

    Raises:
        UserError: they differ.
    """
    if not (path / "classes").is_file():
        return
    names = (path / "classes").read_text(encoding="utf-8").split()
    if names != list(class_list):
        raise UserError(
            f"{path / 'classes'} has {names}, but the model was trained on "
            f"{list(class_list)}; make the set with the same class map"
        )


def load_model(train_config: Path, model_file: Path) -> "tuple[ESPnetSERModel, str]":
    """Build the model from its config.yaml and load its parameters strictly.

    Returns:
        The model and the name of its frontend.
    """
    from espnet_ext.tasks.config import read_config
    from espnet_ext.tasks.ser import SERTask, load_parameters

    config = argparse.Namespace(**read_config(train_config))
    try:
        model = SERTask.build_model(config)
    except AttributeError as error:
        raise UserError(
            f"{train_config} is not the config.yaml of a training ({error})"
        ) from error
    load_parameters(model, model_file)
    return model, config.frontend


def predict(
    model: "ESPnetSERModel",
    frontend: str,
    args: argparse.Namespace,
    test_set: PredictionSet,
) -> "list[UtterancePrediction]":
    """Predict the whole set, sorted by utterance."""
    from tqdm import tqdm

    from espnet_ext.train.inference import predict_utterances
    from espnet_ext.train.sampler import BatchRule, draw_batches
    from espnet_ext.utils.device import device_of

    speech, lengths = open_speech(frontend, args.store, test_set)
    ids = list(test_set.utterances)
    rule = BatchRule(args.batch_frames, args.batch_size, min_rows=1)
    batches = draw_batches(lengths, ids, rule)
    results = predict_utterances(model, speech, batches, device_of(args.ngpu))
    progress = tqdm(results, total=len(ids), desc=f"predicting into {args.output}")
    return sorted(progress, key=lambda prediction: prediction.id)


def open_speech(
    frontend: str, store_path: Path | None, test_set: PredictionSet
) -> "tuple[Mapping[str, np.ndarray], Mapping[str, int]]":
    """Return features or audio by utterance, and their frames at 50 a second.

    Raises:
        UserError: there is no store, or it lacks an utterance.
    """
    if frontend == "online":
        from espnet_ext.corpora.audio import Waveforms

        paths = {utt: record.wav for utt, record in test_set.utterances.items()}
        audio = Waveforms(paths)
        return audio, {
            utt: round(50 * seconds) if seconds else len(audio[utt]) // 320
            for utt, seconds in test_set.durations.items()
        }
    if store_path is None:
        raise UserError("--store is missing; the model reads cached features")
    from espnet_ext.features.joint_store import open_store

    store: Any = open_store(store_path)
    for utt in test_set.utterances:
        if utt not in store:
            raise UserError(f"{store_path} has no features of {utt}; extract again")
    return store, {utt: store.num_frames(utt) for utt in test_set.utterances}


def dump_arrays(
    predictions: "Sequence[UtterancePrediction]", part: str
) -> "dict[str, np.ndarray]":
    """Return the arrays of ``attention`` or ``embeddings`` as UTTERANCE/BRANCH."""
    return {
        f"{prediction.id}/{branch}": values
        for prediction in predictions
        for branch, values in getattr(prediction, part).items()
    }


def format_table(
    predictions: "Sequence[UtterancePrediction]",
    test_set: PredictionSet,
    class_list: Sequence[str],
) -> str:
    """Return predictions.csv: a row an utterance, blank where nothing is known."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(
        [
            *("utterance", "corpus", "speaker", "gender", "emotion", "emotion_pred"),
            *(f"prob_{name}" for name in class_list),
            *ATTRIBUTES,
            *(f"{name}_pred" for name in ATTRIBUTES),
        ]
    )
    for prediction in predictions:
        record = test_set.utterances[prediction.id]
        probabilities, attributes = prediction.probabilities, prediction.attributes
        predicted = (
            "" if probabilities is None else class_list[int(probabilities.argmax())]
        )
        writer.writerow(
            [
                record.id,
                *map(_text, (record.corpus, record.speaker, record.gender)),
                test_set.emotions.get(record.id, ""),
                predicted,
                *_numbers(probabilities, len(class_list)),
                *_numbers([getattr(record, name) for name in ATTRIBUTES], 3),
                *_numbers(attributes, len(ATTRIBUTES)),
            ]
        )
    return stream.getvalue()


def _text(value: str) -> str:
    return "" if value == "<unk>" else value


def _numbers(values: Any, count: int) -> list[str]:
    """Format numbers with six decimals; blank for nan, and for all if None."""
    if values is None:
        return [""] * count
    return ["" if math.isnan(value) else f"{value:.6f}" for value in values]


if __name__ == "__main__":
    main()
