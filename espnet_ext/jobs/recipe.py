"""The plan of a recipe: which steps its seven stages consist of.

===== ===================================== ==========================================
stage what                                  where
===== ===================================== ==========================================
1     (built-in corpora are generated;)     ``data/local/<corpus>``
      labels are read
2     audio is checked                      ``data/<corpus>``
3     frozen features are extracted         ``dump/<corpus>/<features>``
4     train, valid and test sets are made   ``dump/<corpus>/sets/<labels>/<split>``
5     models are trained                    ``exp/<features>_<labels>/<split>/<run>``
6     the test set is predicted             ``.../<run>/test``
7     predictions are scored                ``.../results``
===== ===================================== ==========================================
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from espnet_ext.errors import UserError
from espnet_ext.jobs.step import (
    RECORD,
    Evidence,
    Input,
    Step,
    digest,
    recorded_inputs,
)
from espnet_ext.tasks.config import merge_configs

STAGES = {
    1: "data preparation",
    2: "audio check",
    3: "feature extraction",
    4: "train, valid and test sets",
    5: "training",
    6: "inference",
    7: "scoring",
}

# the paper's five models, in the order of its tables
MODELS = (
    "baseline_c",
    "baseline_d",
    "multitask",
    "hierarchical_dc",
    "hierarchical_cd",
)


# what tells one store's content from another's
STORE_FILES = ("store.json", "index.safetensors")

# in a folder of sets of several corpora: where the features of each are
STORES_FILE = "stores"

# labels that training is to show -> those that it must not see
HIDDEN = {"none": "both", "discrete": "continuous", "continuous": "discrete"}


@dataclass(frozen=True)
class Mini:
    """A built-in corpus: the seed of its generator, and a factor on its size."""

    seed: int = 0
    scale: float = 1.0


@dataclass(frozen=True)
class Recipe:
    """What is to be trained and scored, on what, and where the files go.

    Attributes:
        corpus: A corpus that `espnet_ext.corpora` knows.
        corpus_root: Its folder as distributed.
        scheme: How it is split (``iemocap_5fold``, ...).
        fold: The fold of the scheme; None where it has none.
        labels: Class map, ``conf/labels/*.yaml``.
        features: Feature config, ``conf/features/*.yaml``.
        models: Name of each model and its training YAML.
        upstream: Folder or name of the upstream in place of the feature config's.
        corpus_overlay: YAML merged over each model's: what the corpus changes.
        overlay: YAML merged over both.
        seed: The user's seed.
        mini: How to generate the corpus; None for one that is there.
        datadir: Where data directories go.
        dumpdir: Where features and sets go.
        expdir: Where trainings and results go.
        nj: Processes of a step that can use several.
        ngpu: GPUs of one training or extraction, on each node.
        num_nodes: Nodes of one training.
        workers: Processes that extract features together.
        on_bad_audio: Of recordings that the extraction cannot use: ``fail`` after all
            others, or ``skip`` them.
        resamples: Bootstrap resamples of the scores.
        partners: Other corpora, each as its own recipe would have it, with which this
            one is trained and tested together.
        shown: The labels of each corpus that training shows (see `HIDDEN`); all
            labels of a corpus that is not named.
        subset_like: Corpus whose train and valid sets tell how large those are that
            a subset scheme draws.
        setsdir: Where sets go, if not into `dumpdir`.
        seconds: Shortest and longest clip of train and valid; None for all clips.
    """

    corpus: str
    corpus_root: Path
    scheme: str
    fold: int | None
    labels: Path
    features: Path
    models: Mapping[str, Path]
    upstream: str | None = None
    corpus_overlay: Path | None = None
    overlay: Path | None = None
    seed: int = 0
    mini: Mini | None = None
    datadir: Path = Path("data")
    dumpdir: Path = Path("dump")
    expdir: Path = Path("exp")
    nj: int = 1
    ngpu: int = 0
    num_nodes: int = 1
    workers: int = 1
    on_bad_audio: str = "fail"
    resamples: int = 1000
    partners: tuple["Recipe", ...] = ()
    shown: Mapping[str, str] = field(default_factory=dict)
    subset_like: str | None = None
    setsdir: Path | None = None
    seconds: tuple[float, float] | None = None

    @property
    def corpora(self) -> tuple["Recipe", ...]:
        """The recipe and its partners."""
        return (self, *self.partners)

    @property
    def split(self) -> str:
        """Folder name of the split, with the labels shown where some are hidden."""
        names = []
        for part in self.corpora:
            fold = "" if part.fold is None else f"_{part.fold}"
            labels = self.shown.get(part.corpus, "")
            names.append(f"{part.scheme}{fold}" + (f"_{labels}" if labels else ""))
        if self.seconds is not None:
            names[-1] += "_{:g}-{:g}s".format(*self.seconds)
        return "+".join(names)

    @property
    def data(self) -> Path:
        """The checked data directory."""
        return self.datadir / self.corpus

    @property
    def store(self) -> Path:
        """The feature store."""
        return self.dumpdir / self.corpus / self.features.stem

    @property
    def sets(self) -> Path:
        """The folder of the train, valid and test sets."""
        corpora = "+".join(part.corpus for part in self.corpora)
        home = self.dumpdir if self.setsdir is None else self.setsdir
        return home / corpora / "sets" / self.labels.stem / self.split

    @property
    def speech(self) -> Path:
        """What models read: the store, or the list of several corpora's stores."""
        return self.sets / STORES_FILE if self.partners else self.store

    @property
    def runs(self) -> Path:
        """The folder of the trainings of this split."""
        return self.expdir / f"{self.features.stem}_{self.labels.stem}" / self.split

    def run(self, model: str) -> Path:
        """The folder of one training."""
        return self.runs / f"{model}_seed{self.seed}"


def build_plan(recipe: Recipe) -> list[Step]:
    """List the steps of a recipe, in an order in which they can run.

    Raises:
        UserError: If a config file is missing or malformed.
    """
    for path in (recipe.labels, recipe.features, *recipe.models.values()):
        if not path.is_file():
            raise UserError(f"no such config file: {path}")
    found: dict[str, Step] = {}  # by name: corpora share the upstream's
    for part in recipe.corpora:
        if part.mini is not None:
            found |= {s.name: s for s in generate_steps(part, part.mini)}
        for make in (prepare_step, check_step, extract_step):
            step = make(part)
            found[step.name] = step
    steps = sorted(found.values(), key=lambda step: step.stage)
    steps.append(sets_step(recipe))
    configs = {name: training_config(recipe, name) for name in recipe.models}
    trained = [name for name in recipe.models if not is_classical(configs[name])]
    steps += [train_step(recipe, name, configs[name]) for name in trained]
    steps += [
        infer_step(recipe, name, configs[name])
        if name in trained
        else classical_step(recipe, name, configs[name])
        for name in recipe.models
    ]
    steps.append(score_step(recipe, configs))
    return steps


def generate_steps(recipe: Recipe, mini: Mini) -> list[Step]:
    """Generate a built-in corpus, and beside it the tiny upstream."""
    folder = recipe.corpus_root.parent
    corpus = Step(
        name=f"generate {recipe.corpus_root}",
        stage=1,
        module="espnet_ext.bin.ser_make_mini",
        args=(
            *("--output", str(folder), "--seed", str(mini.seed)),
            *("--corpora", recipe.corpus, "--upstream", "false"),
            *("--scale", str(mini.scale)),
        ),
        output=recipe.corpus_root,
        products=("LICENSE.txt",),
        settings={"seed": mini.seed, "scale": mini.scale},
    )
    upstream = Step(
        name=f"generate {folder / 'hubert_tiny'}",
        stage=1,
        module="espnet_ext.bin.ser_make_mini",
        args=("--output", str(folder), "--seed", str(mini.seed), "--corpora"),
        output=folder / "hubert_tiny",
        products=("config.json", "model.safetensors"),
        settings={"seed": mini.seed},
    )
    return [corpus, upstream]


def prepare_step(recipe: Recipe) -> Step:
    """Read the corpus' labels into a data directory."""
    output = recipe.datadir / "local" / recipe.corpus
    return Step(
        name=f"prepare {recipe.corpus}",
        stage=1,
        module="espnet_ext.bin.ser_prepare",
        args=(
            *("--corpus", recipe.corpus, "--root", str(recipe.corpus_root)),
            *("--output", str(output), "--check_audio", "false"),
            # A built-in corpus is small: that its counts differ is no news.
            *("--compare_counts", "true" if recipe.mini is None else "false"),
        ),
        output=output,
        products=("wav.scp", "utt2spk", "emotion", "attributes"),
        inputs=(Input(recipe.corpus_root, Evidence.LISTING),),
        # wav.scp holds absolute paths: a corpus that was moved is read again.
        settings={
            "corpus": recipe.corpus,
            "root": str(recipe.corpus_root.absolute()),
        },
    )


def check_step(recipe: Recipe) -> Step:
    """Check every wav and keep the usable utterances."""
    source = recipe.datadir / "local" / recipe.corpus
    return Step(
        name=f"check the audio of {recipe.corpus}",
        stage=2,
        module="espnet_ext.bin.ser_check_audio",
        args=(
            *("--data", str(source), "--output", str(recipe.data)),
            *("--nj", str(recipe.nj)),
        ),
        output=recipe.data,
        products=("wav.scp", "utt2dur", "emotion", "attributes"),
        inputs=(Input(source), Input(recipe.corpus_root, Evidence.LISTING)),
    )


def extract_step(recipe: Recipe) -> Step:
    """Extract the frozen features of the utterances that the class map keeps."""
    args = [
        *("--data", str(recipe.data), "--config", str(recipe.features)),
        *("--output", str(recipe.store), "--labels", str(recipe.labels)),
        *("--ngpu", str(min(recipe.ngpu, 1))),
    ]
    if recipe.on_bad_audio == "skip":
        args += ["--on_bad_audio", "skip"]
    inputs = [Input(recipe.data), Input(recipe.features), Input(recipe.labels)]
    if recipe.upstream is not None:
        args += ["--upstream", recipe.upstream]
        if Path(recipe.upstream).exists() or recipe.mini is not None:
            inputs.append(Input(Path(recipe.upstream)))
    return Step(
        name=f"extract {recipe.features.stem} features of {recipe.corpus}",
        stage=3,
        module="espnet_ext.bin.ser_extract",
        args=tuple(args),
        output=recipe.store,
        products=STORE_FILES,
        inputs=tuple(inputs),
        settings={"upstream": recipe.upstream},
        grows=True,
        gpus=min(recipe.ngpu, 1),
        workers=recipe.workers,
    )


def sets_step(recipe: Recipe) -> Step:
    """Apply the class map and the split."""
    parts = recipe.corpora
    args = [
        *("--data", *(str(part.data) for part in parts)),
        *("--labels", str(recipe.labels)),
        *("--scheme", *(part.scheme for part in parts)),
        *("--output", str(recipe.sets)),
        *("--store", *(str(part.store) for part in parts)),
    ]
    folds = [part.fold for part in parts if part.fold is not None]
    if folds:
        args += ["--fold", str(folds[0])]
    hidden = {
        corpus: HIDDEN[labels]
        for corpus, labels in recipe.shown.items()
        if labels in HIDDEN
    }
    if hidden:
        args += ["--hide", *(f"{corpus}={mode}" for corpus, mode in hidden.items())]
    if recipe.subset_like is not None:
        args += ["--subset_like", recipe.subset_like]
    if recipe.seconds is not None:
        shortest, longest = map(str, recipe.seconds)
        args += ["--min_seconds", shortest, "--max_seconds", longest]
    settings: dict[str, Any] = {"scheme": recipe.scheme, "fold": recipe.fold}
    if recipe.partners or hidden:
        settings = {
            "schemes": [[part.scheme, part.fold] for part in parts],
            "hidden": hidden,
            "subset_like": recipe.subset_like,
        }
    if recipe.seconds is not None:
        settings["seconds"] = recipe.seconds
    names = (
        *("wav.scp", "utt2class", "attributes", "classes", "speech_shape"),
        "features.digest",
    )
    return Step(
        name=f"make the sets of {recipe.split}",
        stage=4,
        module="espnet_ext.bin.ser_make_sets",
        args=tuple(args),
        output=recipe.sets,
        products=(
            *(f"{s}/{n}" for s in ("train", "valid", "test") for n in names),
            *([STORES_FILE] if recipe.partners else []),
        ),
        inputs=(
            *(Input(part.data) for part in parts),
            Input(recipe.labels),
            # They change when another class map adds utterances. The sets made again
            # are then the same to the byte, so nothing after them changes.
            *(Input(part.store / name) for part in parts for name in STORE_FILES),
        ),
        settings=settings,
    )


def training_config(recipe: Recipe, model: str) -> dict[str, Any]:
    """Merge a model's YAML with the overlays."""
    config = merge_configs([recipe.models[model]], {})
    if is_classical(config):
        return config
    paths = [recipe.models[model], recipe.corpus_overlay, recipe.overlay]
    config = merge_configs([path for path in paths if path is not None], {})
    if config.get("scheduler", "") is None:
        # An overlay's warm-up says nothing to a training at a constant rate.
        config.pop("scheduler_conf", None)
    return config


def train_step(recipe: Recipe, model: str, config: Mapping[str, Any]) -> Step:
    """Train one model; the merged YAML goes beside its folder."""
    output = recipe.run(model)
    merged = output.parent / "conf" / f"{output.name}.yaml"
    args = [
        *("--config", str(merged), "--output_dir", str(output)),
        *("--seed", str(recipe.seed), "--ngpu", str(recipe.ngpu), "--resume", "true"),
        *("--class_list", str(recipe.sets / "train" / "classes")),
    ]
    for part in ("train", "valid"):
        folder = recipe.sets / part
        for triple in data_triples(recipe, folder):
            args += [f"--{part}_data_path_and_name_and_type", triple]
        args += [f"--{part}_shape_file", str(folder / "speech_shape")]
    return Step(
        name=f"train {model} on {recipe.split} (seed {recipe.seed})",
        stage=5,
        module="espnet_ext.bin.ser_train",
        args=tuple(args),
        output=output,
        products=("config.yaml", selected_model(config)),
        # Each set holds the digest of its own utterances' features: what else is in
        # the store does not count.
        inputs=(Input(recipe.sets / "train"), Input(recipe.sets / "valid")),
        settings={"config": config, "seed": recipe.seed},
        keeps_partial_work=True,
        preload=("espnet_ext.tasks.ser",),
        epochs=int(config.get("max_epoch", 0)),
        files=((merged, yaml.safe_dump(dict(config), sort_keys=False)),),
        gpus=recipe.ngpu,
        nodes=recipe.num_nodes,
    )


def data_triples(recipe: Recipe, folder: Path) -> list[str]:
    """ESPnet's ``path,name,type`` of each thing a model reads from a set."""
    triples = [
        f"{recipe.speech},speech,ser_features",
        f"{folder / 'utt2class'},emotion,text_int",
        f"{folder / 'attributes'},attributes,text_float",
    ]
    if recipe.partners:  # metrics of each corpus, and their mean
        triples.append(f"{folder / 'utt2corpus'},corpus,text")
    return triples


def selected_model(config: Mapping[str, Any]) -> str:
    """Name of the averaged model that the first selection criterion makes.

    Raises:
        UserError: If the config names no criterion.
    """
    criteria = config.get("best_model_criterion")
    if not criteria:
        raise UserError("best_model_criterion is missing in the training config")
    phase, name, _ = criteria[0]
    return f"{phase}.{name}.ave.pth"


def infer_step(recipe: Recipe, model: str, config: Mapping[str, Any]) -> Step:
    """Predict the test set."""
    run = recipe.run(model)
    return Step(
        name=f"predict with {model} on {recipe.split} (seed {recipe.seed})",
        stage=6,
        module="espnet_ext.bin.ser_infer",
        args=(
            *("--train_config", str(run / "config.yaml")),
            *("--model_file", str(run / selected_model(config))),
            *("--set", str(recipe.sets / "test"), "--store", str(recipe.speech)),
            *("--output", str(run / "test"), "--dump_attention", "true"),
            *("--ngpu", str(min(recipe.ngpu, 1))),
        ),
        output=run / "test",
        products=("predictions.csv",),
        inputs=(
            Input(run / "config.yaml"),
            Input(run / selected_model(config)),
            Input(recipe.sets / "test"),
        ),
        preload=("espnet_ext.tasks.ser",),
        gpus=min(recipe.ngpu, 1),
    )


def is_classical(config: Mapping[str, Any]) -> bool:
    """Whether a configuration is of the classical baseline, which has no training."""
    return "functionals" in config


def classical_step(recipe: Recipe, model: str, config: Mapping[str, Any]) -> Step:
    """Fit the classical baseline and predict the test set: seconds, and no seed."""
    output = recipe.run(model) / "test"
    merged = output.parent.parent / "conf" / f"{output.parent.name}.yaml"
    args = ["--config", str(merged), "--store", str(recipe.speech)]
    parts = ("train", "valid", "test")
    for part in parts:
        args += [f"--{part}", str(recipe.sets / part)]
    return Step(
        name=f"fit and predict with {model} on {recipe.split}",
        stage=6,
        module="espnet_ext.bin.ser_classical",
        args=(*args, "--output", str(output)),
        output=output,
        products=("predictions.csv",),
        inputs=tuple(Input(recipe.sets / part) for part in parts),
        settings={"config": dict(config)},
        files=((merged, yaml.safe_dump(dict(config), sort_keys=False)),),
    )


def score_step(recipe: Recipe, configs: Mapping[str, Mapping[str, Any]]) -> Step:
    """Score this recipe's models, and beside them those that were finished before."""
    output = recipe.runs / "results"
    runs = {name: recipe.run(name) for name in scored_models(recipe, configs)}
    args = ["--output", str(output), "--title", recipe.split]
    args += ["--reference", str(recipe.sets / "test")]
    args += ["--wav_scp", str(recipe.sets / "test" / "wav.scp")]
    args += ["--resamples", str(recipe.resamples)]
    inputs = []
    for name, run in runs.items():
        args += ["--predictions", f"{name}={run / 'test' / 'predictions.csv'}"]
        if name not in configs or not is_classical(configs[name]):
            args += ["--train_log", f"{name}={run / 'train.log'}"]
            args += ["--attention", f"{name}={run / 'test' / 'attention.npz'}"]
        # The record tells which code made the predictions, and so do the results.
        inputs += [Input(run / "test"), Input(run / "test" / RECORD)]
    return Step(
        name=f"score {recipe.split}",
        stage=7,
        module="espnet_ext.bin.ser_score",
        args=tuple(args),
        output=output,
        products=("RESULTS.md", "scores.json"),
        inputs=(*inputs, Input(recipe.sets / "test")),
        settings={"models": list(runs), "resamples": recipe.resamples},
    )


def scored_models(
    recipe: Recipe, configs: Mapping[str, Mapping[str, Any]]
) -> Sequence[str]:
    """List the models that the table shows, in the paper's order.

    These are the recipe's own and, beside them, the ones whose predictions of the same
    test set were finished before.
    """
    names = dict.fromkeys([*MODELS, *configs])
    return [n for n in names if n in configs or _predicted_before(recipe, n)]


def _predicted_before(recipe: Recipe, model: str) -> bool:
    """Whether finished predictions of today's test set lie there."""
    test = recipe.sets / "test"
    recorded = recorded_inputs(recipe.run(model) / "test").get(str(test))
    return recorded is not None and test.is_dir() and recorded == digest(Input(test))
