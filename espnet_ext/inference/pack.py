"""Make a package of a finished training: one zip that holds what is needed to use it.

Inside are no paths of a user's machine, no utterance ids and no parameters of anybody
else's upstream: that one is named with its hash, unless it is the tiny one of the
built-in corpora.
"""

import csv
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from espnet_ext.errors import UserError
from espnet_ext.inference.calibrate import Answers
from espnet_ext.inference.card import model_card
from espnet_ext.inference.info import ModelInfo, find_data, is_builtin
from espnet_ext.inference.members import Training, join_info, require_alike
from espnet_ext.inference.package import META
from espnet_ext.tasks.config import read_config
from espnet_ext.utils.atomic import atomic_file

if TYPE_CHECKING:
    from espnet_ext.inference.emotion import SpeechEmotion

CONFIG, MODEL, INFO, CARD = "config.yaml", "model.pth", "ser_info.yaml", "README.md"
MODELS = "models"  # of an ensemble: a folder of its members' parameters
UPSTREAM = "upstream"
_UPSTREAM_FILES = ("config.json", "preprocessor_config.json", "model.safetensors")
_DATE = (1980, 1, 1, 0, 0, 0)  # the same model gives the same members


def pack_experiment(
    experiment: Path,
    output: Path,
    *,
    others: Sequence[Path] = (),
    licence_ack: bool = False,
) -> None:
    """Write the package of a finished training, or of several as an ensemble.

    Args:
        experiment: Folder of the training.
        output: The zip.
        others: Further trainings of the same model (folds, seeds).
        licence_ack: The licenses of its corpora allow to hand out the model.

    Raises:
        UserError: A training is not finished, its data are gone, two do not fit
            together, or the licenses are not confirmed.
    """
    if output.suffix != ".zip":
        raise UserError(f"--output {output}: a package is a .zip")
    folders = [experiment, *others]
    places = [folder.resolve() for folder in folders]
    for folder, place in zip(folders, places, strict=True):
        if places.count(place) > 1:
            raise UserError(f"{folder} is given twice")
    trainings = [read_training(folder, licence_ack=licence_ack) for folder in folders]
    require_alike(trainings)
    _write(output, trainings, join_info(trainings))


def read_training(folder: Path, *, licence_ack: bool = False) -> Training:
    """Read what a package needs of a finished training.

    Raises:
        UserError: It is not finished, its data are gone, its config names files, or
            the licenses are not confirmed.
    """
    from espnet_ext.inference.emotion import SpeechEmotion

    if not (folder / CONFIG).is_file():
        raise UserError(f"{folder}: no folder of a training ({CONFIG} is missing)")
    ser = SpeechEmotion.from_pretrained(folder, device="cpu")
    require_licence(ser.info, licence_ack=licence_ack)
    config = read_config(folder / CONFIG)
    packed = _packed_config(config, ser)
    _refuse_paths(packed, folder / CONFIG)
    return Training(
        folder=folder,
        config=packed,
        info=without_paths(ser.info),
        parameters=_float32(ser.model.state_dict()),
        upstream=Path(ser.info.features["upstream"]["name"]),
        clips=_training_clips(config, folder),
        valid=_validation_answers(ser, config, folder),
        test=_test_answers(folder, ser.info.classes),
    )


def require_licence(info: ModelInfo, *, licence_ack: bool) -> None:
    """Raise a `UserError` if licenses of the training's corpora are not confirmed."""
    if info.builtin or licence_ack:
        return
    corpora = ", ".join(info.corpora) or "its corpora"
    raise UserError(
        f"this model was trained on {corpora}. Read their license terms: may a "
        "model trained on them be handed out, to whom, for what? If so, say "
        "--licence_ack true"
    )


def _write(output: Path, trainings: Sequence[Training], info: ModelInfo) -> None:
    import torch
    import yaml
    from espnet import __version__

    first = trainings[0]
    files = {"ser_model_file": MODEL if len(trainings) == 1 else MODELS}
    config = dict(first.config)
    if info.members:  # each has its own
        config.pop("seed", None)
    members: dict[str, bytes] = {}
    if is_builtin(first.upstream):
        files["upstream"] = UPSTREAM
        for name in _UPSTREAM_FILES:
            members[f"{UPSTREAM}/{name}"] = (first.upstream / name).read_bytes()
    for number, training in enumerate(trainings, 1):
        content = BytesIO()
        torch.save(dict(training.parameters), content)
        name = f"{MODELS}/{number}.pth" if info.members else MODEL
        members[name] = content.getvalue()
    meta = {
        "files": files,
        "yaml_files": {"ser_train_config": CONFIG, "ser_info": INFO},
        # Of the trainings, so that the same ones give the same bytes.
        "timestamp": max((t.folder / CONFIG).stat().st_mtime for t in trainings),
        "python": sys.version,
        "torch": str(torch.__version__),
        "espnet": __version__,
    }
    members = {
        META: yaml.safe_dump(meta).encode(),
        CONFIG: yaml.safe_dump(config, sort_keys=False).encode(),
        INFO: yaml.safe_dump(info.as_dict(), sort_keys=False).encode(),
        CARD: model_card(info, info.labels(), output.name).encode(),
        **members,
    }
    with (
        atomic_file(output) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for name, content_ in members.items():
            entry = zipfile.ZipInfo(name, _DATE)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content_, zipfile.ZIP_DEFLATED)


def _float32(state: Mapping[str, Any]) -> dict[str, Any]:
    """Bring parameters back to the precision that they were trained in."""
    return {
        name: (value.float() if value.is_floating_point() else value).cpu().clone()
        for name, value in state.items()
    }


def _packed_config(config: Mapping[str, Any], ser: "SpeechEmotion") -> dict[str, Any]:
    """Keep what says how the model is built and was trained."""
    from espnet_ext.tasks.model import PACKED_KEYS

    kept = {k: config[k] for k in PACKED_KEYS if k in config}
    frontend: Any = ser.model.frontend
    kept["frontend"] = "cached"
    kept["frontend_conf"] = {
        "input_size": frontend.input_size,
        "num_layers": frontend.num_layers,
        "layer_norm": frontend.layer_norm,
    }
    return kept


def _refuse_paths(config: Mapping[str, Any], path: Path) -> None:
    """Refuse settings that name a file of this machine.

    Raises:
        UserError: Names the key.
    """
    for key, values in config.items():
        for name, value in values.items() if isinstance(values, dict) else ():
            if isinstance(value, str) and {"/", "\\"} & {*value}:
                raise UserError(
                    f"{path}: {key}: {name} is a file ({value}), which a package "
                    "cannot hold: train without it"
                )


def without_paths(info: ModelInfo) -> ModelInfo:
    """Name the upstream as others know it, not by a folder of this machine."""
    upstream = dict(info.features["upstream"])
    name = str(upstream["name"])
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        upstream["name"] = Path(name).name
    if upstream.get("path"):
        upstream["path"] = None
    return replace(info, features={**info.features, "upstream": upstream})


def _training_clips(config: Mapping[str, Any], experiment: Path) -> frozenset[str]:
    """List what a training was trained on."""
    data = find_data(config.get("train_data_path_and_name_and_type") or [], experiment)
    labels = data.get("emotion") or data.get("attributes")
    lines = labels.read_text("utf-8").splitlines() if labels else []
    return frozenset(line.split()[0] for line in lines)


def _validation_answers(
    ser: "SpeechEmotion", config: Mapping[str, Any], experiment: Path
) -> Answers:
    """Predict the validation clips that have a class."""
    from espnet_ext.corpora.datadir import read_wav_scp
    from espnet_ext.features.joint_store import open_store
    from espnet_ext.train.inference import predict_utterances

    triples = config.get("valid_data_path_and_name_and_type") or []
    data = find_data(triples, experiment)
    if "emotion" not in data:
        return {}
    rows = [line.split() for line in data["emotion"].read_text("utf-8").splitlines()]
    labels = {utt: int(number) for utt, number in rows if int(number) >= 0}
    found: list[np.ndarray | None]
    if config.get("frontend") == "online":
        wavs = read_wav_scp(data["speech"])
        scores = [ser(wavs[utt]).scores for utt in labels]
        found = [None if s is None else np.array([*s.values()]) for s in scores]
    else:
        store: Any = open_store(data["speech"])
        batches = [[utt] for utt in labels]
        answers = predict_utterances(ser.model, store, batches, ser.device)
        found = [answer.probabilities for answer in answers]
    pairs = zip(labels.items(), found, strict=True)
    return {utt: (row, number) for (utt, number), row in pairs if row is not None}


def _test_answers(experiment: Path, names: tuple[str, ...]) -> Answers:
    """Read what a training predicted for its test set."""
    path = experiment / "test" / "predictions.csv"
    if not path.is_file():
        return {}
    with open(path, encoding="utf-8", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["emotion"] in names]
    return {
        row["utterance"]: (
            np.array([float(row[f"prob_{name}"]) for name in names]),
            names.index(row["emotion"]),
        )
        for row in rows
        if row.get("emotion_pred")
    }
