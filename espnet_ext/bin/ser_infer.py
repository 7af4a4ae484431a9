#!/usr/bin/env python3
"""Predict a set with a trained model and write predictions.csv."""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from espnet_ext.attributes import ATTRIBUTES
from espnet_ext.errors import UserError, exit_on_user_error
from espnet_ext.utils.arguments import boolean, make_parser
from espnet_ext.utils.atomic import atomic_file

if TYPE_CHECKING:
    import numpy as np
    from espnet2.asr.frontend.abs_frontend import AbsFrontend

    from espnet_ext.corpora.datadir import DataDir
    from espnet_ext.scoring.predictions import Reference
    from espnet_ext.ser.model import ESPnetSERModel
    from espnet_ext.train.inference import UtterancePrediction


def get_parser() -> argparse.ArgumentParser:
    """Return the parser; cheap."""
    parser = make_parser(__doc__)
    for name, meaning in (
        ("train_config", "config.yaml of the training"),
        ("model_file", "The averaged model, e.g. valid.ccc.ave.pth"),
        ("set", "Directory of the set to predict"),
        ("output", "Folder for predictions.csv"),
    ):
        parser.add_argument(f"--{name}", type=Path, required=True, help=meaning)
    parser.add_argument(
        "--store",
        type=Path,
        help="Feature store, or file that lists several; a model with the online "
        "frontend reads wav.scp instead",
    )
    parser.add_argument(
        "--batch_size", type=int, default=16, help="Utterances at a time, at most"
    )
    parser.add_argument(
        "--batch_frames",
        type=int,
        default=20_000,
        help="Most utterances x longest one at a time, in frames of the features: "
        "it bounds the memory. A longer utterance goes alone",
    )
    parser.add_argument("--ngpu", type=int, choices=[0, 1], default=0, help="GPUs")
    for part, meaning in (
        ("attention", "attention.npz: SAP weights (T,) as UTTERANCE/BRANCH"),
        ("embeddings", "embeddings.npz: E_D and E_C (32,) as UTTERANCE/BRANCH"),
    ):
        parser.add_argument(
            f"--dump_{part}",
            type=boolean,
            default=False,
            metavar="{true,false}",
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

    # Late: they take seconds.
    import numpy as np

    from espnet_ext.corpora.datadir import read_data_dir
    from espnet_ext.scoring.predictions import FILE, write_predictions
    from espnet_ext.scoring.reference import read_reference

    data, labels = read_data_dir(args.set), read_reference(args.set)
    model = load_model(args.train_config, args.model_file)
    classes = tuple(model.class_list)
    if labels.classes not in (None, classes):
        raise UserError(
            f"{args.set / 'classes'} has {list(labels.classes)}, but the model was "
            f"trained on {list(classes)}; make the set with the same class map"
        )
    predictions = predict(model, args, data)
    args.output.mkdir(parents=True, exist_ok=True)
    for part in ("attention", "embeddings"):
        if getattr(args, f"dump_{part}"):
            arrays: dict[str, Any] = {
                f"{prediction.id}/{branch}": values
                for prediction in predictions
                for branch, values in getattr(prediction, part).items()
            }
            with (
                atomic_file(args.output / f"{part}.npz") as temporary,
                open(temporary, "wb") as stream,
            ):
                np.savez(stream, **arrays)
    rows = table_rows(predictions, data, labels, classes)
    write_predictions(args.output / FILE, classes, rows)
    print(f"{len(predictions)} predictions in {args.output / FILE}")


def load_model(train_config: Path, model_file: Path) -> "ESPnetSERModel":
    """Build the model from its config.yaml."""
    from espnet_ext.tasks.config import read_config
    from espnet_ext.tasks.model import load_trained

    return load_trained(read_config(train_config), train_config, model_file)


def predict(
    model: "ESPnetSERModel", args: argparse.Namespace, data: "DataDir"
) -> "list[UtterancePrediction]":
    """Predict the whole set, sorted by utterance."""
    from tqdm import tqdm

    from espnet_ext.train.inference import predict_utterances
    from espnet_ext.train.sampler import BatchRule, draw_batches
    from espnet_ext.utils.device import device_of

    speech, lengths = open_speech(model.frontend, args.store, data)
    ids = list(data.utterances)
    rule = BatchRule(args.batch_frames, args.batch_size, min_rows=1)
    batches = draw_batches(lengths, ids, rule)
    results = predict_utterances(model, speech, batches, device_of(args.ngpu))
    progress = tqdm(results, total=len(ids), desc=f"predicting into {args.output}")
    return sorted(progress, key=lambda prediction: prediction.id)


def open_speech(
    frontend: "AbsFrontend", store_path: Path | None, data: "DataDir"
) -> "tuple[Mapping[str, np.ndarray], Mapping[str, int]]":
    """Return features or audio by utterance, and how many frames they have."""
    from espnet_ext.features.frontend import OnlineUpstream

    if isinstance(frontend, OnlineUpstream):
        from espnet_ext.corpora.audio import RATE, Waveforms

        audio = Waveforms({utt: record.wav for utt, record in data.utterances.items()})
        seconds, shift = data.durations, frontend.frame_shift
        rate = RATE / shift
        frames = {utt: round(rate * seconds.get(utt, 0)) for utt in data.utterances}
        return audio, {utt: n or len(audio[utt]) // shift for utt, n in frames.items()}
    if store_path is None:
        raise UserError("--store is missing; the model reads cached features")
    from espnet_ext.features.joint_store import open_store

    store: Any = open_store(store_path)
    for utt in data.utterances:
        if utt not in store:
            raise UserError(f"{store_path} has no features of {utt}; extract again")
    return store, {utt: store.num_frames(utt) for utt in data.utterances}


def table_rows(
    predictions: "Sequence[UtterancePrediction]",
    data: "DataDir",
    labels: "Reference",
    classes: Sequence[str],
) -> Iterator[dict[str, str | float]]:
    """Yield what predictions.csv has of each utterance, by column."""
    columns = ("corpus", "speaker", "gender", *ATTRIBUTES)
    for prediction in predictions:
        record = data.utterances[prediction.id]
        row = {"utterance": record.id} | {c: getattr(record, c) for c in columns}
        row["emotion"] = labels.emotion.get(record.id, "")
        if prediction.probabilities is not None:
            row["emotion_pred"] = classes[int(prediction.probabilities.argmax())]
            names = [f"prob_{name}" for name in classes]
            row |= zip(names, prediction.probabilities, strict=True)
        if prediction.attributes is not None:
            names = [f"{name}_pred" for name in ATTRIBUTES]
            row |= zip(names, prediction.attributes, strict=True)
        yield row


if __name__ == "__main__":
    main()
