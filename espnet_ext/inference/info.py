"""What must be known of a model beside its parameters, and where it is found.

A package holds it as ``ser_info.yaml``. For the folder of a training it is gathered
from the feature store and the training set that its ``config.yaml`` names.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from espnet_ext.corpora.datadir import read_data_dir
from espnet_ext.errors import UserError
from espnet_ext.scoring.names import class_name
from espnet_ext.utils.yaml_files import build, read_yaml

FORMAT = 1


@dataclass(frozen=True)
class Calibration:
    """How far probabilities are from frequencies, and what mends it.

    Attributes:
        temperature: What the logits are divided by for calibrated scores.
        utterances: Validation utterances it was fitted on.
        ece_before: Expected calibration error there, as the model is.
        ece_after: The same with the temperature.
        test: The two errors on the test set, which the fit has not seen.
    """

    temperature: float
    utterances: int
    ece_before: float
    ece_after: float
    test: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Member:
    """One training of an ensemble.

    Attributes:
        name: As `ModelInfo.name`.
        seed: Of the training.
        utterances: Training clips.
        results: Its own scores, on its own test set.
    """

    name: str
    seed: int
    utterances: int
    results: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelInfo:
    """What a model was made of.

    Attributes:
        name: Of the model, for people.
        classes: Names in the order of the logits, as in ``predictions.csv``.
        features: Feature config (``conf/features``): upstream, layers, precision.
        weights: Hash of the upstream's weights.
        scale: Ends of the attributes' scale; None if there are several or none.
        corpora: Trained on these.
        clips: Seconds of the shortest and the longest training clip.
        utterances: Training clips.
        builtin: Whether it was trained on the built-in corpora: a toy.
        results: Scores on the test set: ``{"estimate", "low", "high"}`` by metric.
        calibration: Of the class probabilities.
        members: Of an ensemble, in the order of its parameters.
        folds: Whether members were trained on different sets: together they have then
            seen what each was tested on, so the ensemble has no honest score.
        format: Of this file.
    """

    name: str
    classes: tuple[str, ...]
    features: dict[str, Any]
    weights: str
    scale: tuple[float, float] | None = None
    corpora: tuple[str, ...] = ()
    clips: tuple[float, float] | None = None
    utterances: int = 0
    builtin: bool = False
    results: dict[str, Any] = field(default_factory=dict)
    calibration: Calibration | None = None
    members: tuple[Member, ...] = ()
    folds: bool = False
    format: int = FORMAT

    def labels(self) -> tuple[str, ...]:
        """Names of the classes in full; as they are where two would be the same."""
        full = tuple(class_name(name) for name in self.classes)
        return full if len(set(full)) == len(full) else self.classes

    def as_dict(self) -> dict[str, Any]:
        """Return what YAML and JSON can hold."""
        return json.loads(json.dumps(asdict(self)))


def read_info(path: Path | str) -> ModelInfo:
    """Read ``ser_info.yaml``.

    Raises:
        UserError: A key is unknown, missing or of the wrong type.
    """
    info = build(ModelInfo, read_yaml(path), str(path))
    if info.format != FORMAT:
        raise UserError(
            f"{path}: format {info.format}; this version reads {FORMAT}, install a "
            "newer espnet_ext"
        )
    for key in ("scale", "clips"):
        pair = getattr(info, key)
        if pair is not None and not pair[0] <= pair[1]:
            raise UserError(f"{path}: {key} must be two numbers, the lower one first")
    if not isinstance(info.features.get("upstream"), dict):
        raise UserError(f"{path}: features: upstream must be a mapping")
    for results in (info.results, *(member.results for member in info.members)):
        for key, score in results.items():
            values = score.values() if isinstance(score, dict) else [score]
            numbers = all(v is None or isinstance(v, int | float) for v in values)
            lacks = isinstance(score, dict) and score.get("estimate") is None
            if lacks or not numbers:
                raise UserError(
                    f"{path}: results: {key}: expected numbers, not {score!r}"
                )
    return info


def format_score(score: Any) -> str:
    """Write one of `ModelInfo.results`, with its interval if there is one."""
    if not isinstance(score, dict):
        return f"{score:.3f}"
    text = f"{score['estimate']:.3f}"
    if score.get("low") is None:
        return text
    return f"{text} [{score['low']:.3f}, {score['high']:.3f}]"


def find_data(
    triples: Iterable[tuple[str, str, str]], experiment: Path
) -> dict[str, Path]:
    """Find what a training read, by data name (``speech``, ``emotion``, ...).

    Args:
        triples: Path, name and type, as in its ``config.yaml``. Paths are relative to
            a folder above the experiment's own.
        experiment: Folder of the training.

    Raises:
        UserError: The features are not there any more.
    """
    found = {}
    for path, name, _ in triples:
        for folder in (Path(), *experiment.resolve().parents):
            if (folder / path).exists():
                found[name] = (folder / path).resolve()
                break
    if "speech" not in found:
        raise UserError(
            f"{experiment}: the features it was trained on are not at the place that "
            "its config.yaml names; without them its upstream is not known. Run its "
            "recipe again, or use a package (ser pack)"
        )
    return found


def describe_experiment(config: Mapping[str, Any], experiment: Path) -> ModelInfo:
    """Gather what is known of the model in a training's folder.

    Raises:
        UserError: Its features are not there, or differ among corpora.
    """
    triples = config.get("train_data_path_and_name_and_type") or []
    data = find_data(triples, experiment)
    if config.get("frontend") == "online":
        features, weights = _online_features(config["frontend_conf"], experiment)
    else:
        features, weights = _stored_features(data["speech"])
    upstream = dict(features["upstream"])
    folder = _existing(upstream["name"], experiment)
    if folder is not None:
        upstream["name"] = str(folder)
    about = _training_set(data)
    return ModelInfo(
        name=_model_name(experiment.resolve()),
        classes=tuple(config.get("class_list") or ()),
        features={**features, "upstream": upstream},
        weights=weights,
        builtin=folder is not None and is_builtin(folder),
        results=_read_results(experiment.resolve()),
        **about,
    )


def _model_name(experiment: Path) -> str:
    """Name a model FEATURES_LABELS/SPLIT/MODEL, as a recipe lays its trainings out.

    Elsewhere the folders above may have names that are nobody's business.
    """
    merged = experiment.parent / "conf" / f"{experiment.name}.yaml"
    return "/".join(experiment.parts[-3:]) if merged.is_file() else experiment.name


def is_builtin(folder: Path | str) -> bool:
    """Tell whether a folder holds the tiny upstream of the built-in corpora."""
    from espnet_ext.mini.upstream import CONFIG

    path = Path(folder) / "config.json"
    return path.is_file() and json.loads(path.read_text("utf-8")) == CONFIG


def _existing(name: str, experiment: Path) -> Path | None:
    """Find a folder that is named relative to one above the experiment's."""
    for folder in (Path(), *experiment.resolve().parents):
        if (folder / name).expanduser().is_dir():
            return (folder / name).expanduser().resolve()
    return None


def _stored_features(path: Path) -> tuple[dict[str, Any], str]:
    """Read which features a store holds, or each of the stores that a file lists."""
    stores = [path]
    if path.is_file():
        lines = path.read_text(encoding="utf-8").splitlines()
        stores = [path.parent / line.partition(" ")[2].strip() for line in lines]
    found = []
    for store in stores:
        try:
            content = json.loads((store / "store.json").read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"{store}: no feature store ({error})") from None
        config = dict(content["request"]["config"])
        # What "auto" meant then, so that it means the same now.
        for key in ("layers", "dtype", "compute", "normalize"):
            config[key] = content[key]
        if config["normalize"] is None:  # s3prl's own affair
            config["normalize"] = "auto"
        found.append((config, content["weights"]))
    if any(weights != found[0][1] for _, weights in found):
        raise UserError(f"{path}: its stores come from different upstreams")
    return found[0]


def _online_features(
    conf: Mapping[str, Any], experiment: Path
) -> tuple[dict[str, Any], str]:
    """Read the features of a model that was trained on raw audio."""
    from espnet_ext.features.config import load_feature_config, parse_feature_config

    config = conf["config"]
    if isinstance(config, str):
        places = [f / config for f in (Path(), *experiment.resolve().parents)]
        path = next((p for p in places if p.is_file()), Path(config))
        parsed = load_feature_config(path, conf.get("upstream"))
    else:
        values = dict(config)
        if conf.get("upstream"):
            values["upstream"] = {**values["upstream"], "name": conf["upstream"]}
        parsed = parse_feature_config(values, "frontend_conf: config")
    return parsed.as_dict(), conf.get("weights_hash") or ""


def _training_set(data: Mapping[str, Path]) -> dict[str, Any]:
    """Read corpora, scale and clip lengths of the set that the labels lie in."""
    labels = data.get("attributes") or data.get("emotion")
    if labels is None or not (labels.parent / "wav.scp").is_file():
        return {}
    # utt2class and attributes lie in the set's folder.
    train = read_data_dir(labels.parent)
    scales = set(train.scales.values())
    seconds = [s for s in train.durations.values() if s > 0]
    return {
        "scale": tuple(map(float, scales.pop())) if len(scales) == 1 else None,
        "corpora": tuple(sorted({u.corpus for u in train.utterances.values()})),
        "clips": (min(seconds), max(seconds)) if seconds else None,
        "utterances": len(train.utterances),
    }


def _read_results(experiment: Path) -> dict[str, Any]:
    """Take this model's scores out of the split's ``scores.json``."""
    path = experiment.parent / "results" / "scores.json"
    if not path.is_file():
        return {}
    scores = json.loads(path.read_text("utf-8"))
    mine = f"/{experiment.name}/test/predictions.csv"
    for name, source in scores["sources"].items():
        if f"/{source}".endswith(mine):
            return {k: v for k, v in scores["scores"][name].items() if v is not None}
    return {}
