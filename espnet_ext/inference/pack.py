"""Make a package of a finished training: one zip that holds what is needed to use it.

Inside are no paths of a user's machine, no utterance ids and no parameters of anybody
else's upstream: that one is named with its hash, unless it is the tiny one of the
built-in corpora.
"""

import csv
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from espnet_ext.errors import UserError
from espnet_ext.inference.calibrate import (
    apply_temperature,
    calibration_error,
    fit_temperature,
)
from espnet_ext.inference.card import model_card
from espnet_ext.inference.info import Calibration, ModelInfo, find_data, is_builtin
from espnet_ext.inference.package import META
from espnet_ext.tasks.config import read_config
from espnet_ext.utils.atomic import atomic_file

if TYPE_CHECKING:
    from espnet_ext.inference.emotion import SpeechEmotion

CONFIG, MODEL, INFO, CARD = "config.yaml", "model.pth", "ser_info.yaml", "README.md"
UPSTREAM = "upstream"
_UPSTREAM_FILES = ("config.json", "preprocessor_config.json", "model.safetensors")
_DATE = (1980, 1, 1, 0, 0, 0)  # the same model gives the same members


def pack_experiment(
    experiment: Path, output: Path, *, licence_ack: bool = False
) -> None:
    """Write the package of a finished training.

    Args:
        experiment: Folder of the training.
        output: The zip.
        licence_ack: The licenses of its corpora allow to hand out the model.

    Raises:
        UserError: The training is not finished, its data are gone, or the licenses
            are not confirmed.
    """
    from espnet_ext.inference.emotion import SpeechEmotion

    if output.suffix != ".zip":
        raise UserError(f"--output {output}: a package is a .zip")
    if not (experiment / CONFIG).is_file():
        raise UserError(f"{experiment}: no folder of a training ({CONFIG} is missing)")
    ser = SpeechEmotion.from_pretrained(experiment, device="cpu")
    require_licence(ser.info, licence_ack=licence_ack)
    config = read_config(experiment / CONFIG)
    folder = Path(ser.info.features["upstream"]["name"])
    calibration = _calibrate(ser, config, experiment)
    info = without_paths(replace(ser.info, calibration=calibration))
    _write(output, ser, _packed_config(config, ser), info, folder)


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


def _write(
    output: Path,
    ser: "SpeechEmotion",
    config: Mapping[str, Any],
    info: ModelInfo,
    upstream: Path,
) -> None:
    import torch
    import yaml
    from espnet import __version__

    members: dict[str, bytes] = {}
    yaml_files = {"ser_train_config": CONFIG, "ser_info": INFO}
    files = {"ser_model_file": MODEL}
    if is_builtin(upstream):
        files["upstream"] = UPSTREAM
        for name in _UPSTREAM_FILES:
            members[f"{UPSTREAM}/{name}"] = (upstream / name).read_bytes()
    parameters = BytesIO()
    torch.save(_float32(ser.model.state_dict()), parameters)
    meta = {
        "files": files,
        "yaml_files": yaml_files,
        "timestamp": datetime.now(UTC).timestamp(),
        "python": sys.version,
        "torch": str(torch.__version__),
        "espnet": __version__,
    }
    members = {
        META: yaml.safe_dump(meta).encode(),
        CONFIG: yaml.safe_dump(dict(config), sort_keys=False).encode(),
        INFO: yaml.safe_dump(info.as_dict(), sort_keys=False).encode(),
        CARD: model_card(info, ser.labels).encode(),
        MODEL: parameters.getvalue(),
        **members,
    }
    with (
        atomic_file(output) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for name, content in members.items():
            entry = zipfile.ZipInfo(name, _DATE)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED)


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


def without_paths(info: ModelInfo) -> ModelInfo:
    """Name the upstream as others know it, not by a folder of this machine."""
    upstream = dict(info.features["upstream"])
    if Path(upstream["name"]).is_absolute():
        upstream["name"] = Path(upstream["name"]).name
    if upstream.get("path"):
        upstream["path"] = None
    return replace(info, features={**info.features, "upstream": upstream})


def _calibrate(
    ser: "SpeechEmotion", config: Mapping[str, Any], experiment: Path
) -> Calibration | None:
    """Fit the temperature on the validation set; None where that cannot be done."""
    from espnet_ext.corpora.datadir import read_wav_scp
    from espnet_ext.features.joint_store import open_store
    from espnet_ext.train.inference import predict_utterances

    triples = config.get("valid_data_path_and_name_and_type") or []
    data = find_data(triples, experiment)
    if "emotion" not in data:
        return None
    rows = [line.split() for line in data["emotion"].read_text("utf-8").splitlines()]
    labels = {utt: int(number) for utt, number in rows if int(number) >= 0}
    if config.get("frontend") == "online":
        wavs = read_wav_scp(data["speech"])
        scores = [ser(wavs[utt]).scores for utt in labels]
        found = [np.array([*s.values()]) for s in scores if s is not None]
    else:
        store: Any = open_store(data["speech"])
        answers = predict_utterances(
            ser.model, store, [[utt] for utt in labels], ser.device
        )
        found = [a.probabilities for a in answers if a.probabilities is not None]
    if not found:
        return None
    probabilities = np.stack(found)  # (N, K)
    classes = np.array([*labels.values()])
    temperature = fit_temperature(probabilities, classes)
    after = apply_temperature(probabilities, temperature)
    return Calibration(
        temperature=temperature,
        utterances=len(classes),
        ece_before=calibration_error(probabilities, classes),
        ece_after=calibration_error(after, classes),
        test=_test_errors(experiment, ser.info.classes, temperature),
    )


def _test_errors(
    experiment: Path, names: tuple[str, ...], temperature: float
) -> dict[str, float]:
    """Calibration error on the test set, before and after."""
    path = experiment / "test" / "predictions.csv"
    if not path.is_file():
        return {}
    with open(path, encoding="utf-8", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["emotion"] in names]
    if not rows:
        return {}
    probabilities = np.array([[float(r[f"prob_{n}"]) for n in names] for r in rows])
    classes = np.array([names.index(row["emotion"]) for row in rows])
    after = apply_temperature(probabilities, temperature)
    return {
        "ece_before": calibration_error(probabilities, classes),
        "ece_after": calibration_error(after, classes),
    }
