"""The plan of a recipe: which steps its stages consist of, a function each.

``egs2/TEMPLATE/ser1/ser.sh`` lists the stages with what they read and write.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from espnet_ext.classical import is_classical
from espnet_ext.errors import UserError
from espnet_ext.jobs.stages import CLASSICAL, MODELS
from espnet_ext.jobs.step import (
    RECORD,
    Evidence,
    Input,
    Step,
    command_line,
    digest,
    recorded_inputs,
)
from espnet_ext.tasks.config import merge_configs, read_config

STORE_FILES = ("store.json", "index.safetensors")  # what tells stores apart
# in a folder of sets of several corpora: where the features of each are
STORES_FILE = "stores"


@dataclass(frozen=True)
class Mini:
    """A built-in corpus: the seed of its generator, and a factor on its size."""

    seed: int = 0
    scale: float = 1.0


@dataclass(frozen=True)
class Recipe:
    """What is to be trained and scored, on what, and where the files go."""

    corpus: str  # that `espnet_ext.corpora` knows
    corpus_root: Path  # as distributed
    scheme: str  # how it is split (``iemocap_5fold``, ...)
    fold: int | None  # None where the scheme has none
    labels: Path  # class map, ``conf/labels/*.yaml``
    features: Path  # feature config, ``conf/features/*.yaml``
    models: Mapping[str, Path]  # training YAML of each model
    upstream: str | None = None  # folder or name in place of the feature config's
    corpus_overlay: Path | None = None  # YAML over each model's, for the corpus
    overlay: Path | None = None  # YAML over both
    seed: int = 0  # of the training
    mini: Mini | None = None  # how to generate the corpus; None: it is there
    datadir: Path = Path("data")
    dumpdir: Path = Path("dump")
    expdir: Path = Path("exp")
    nj: int = 1  # processes of a step that can use several
    ngpu: int = 0  # GPUs of one training or extraction
    workers: int = 1  # processes that extract features together
    on_bad_audio: str = "fail"  # or ``skip``: recordings that extraction cannot use
    resamples: int = 1000  # of the bootstrap
    # Other corpora, each as its own recipe would have it, with which this one is
    # trained and tested together.
    partners: tuple["Recipe", ...] = ()
    # Labels that training shows: none, continuous, discrete or both by corpus; both
    # where a corpus is not named.
    train_labels: Mapping[str, str] = field(default_factory=dict)
    subset_like: str | None = None  # corpus whose sets have the sizes of a subset's
    setsdir: Path | None = None  # where sets go, if not into `dumpdir`
    seconds: tuple[float, float] | None = None  # shortest, longest clip but in test
    unit_attributes: bool = False  # map each corpus' scale to [0, 1]
    manifest: Path | None = None  # the corpus as a file; None: a known corpus
    # How the manifest is read: options of ``ser_prepare``.
    manifest_options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def corpora(self) -> tuple["Recipe", ...]:
        """The recipe and its partners."""
        return (self, *self.partners)

    @property
    def split(self) -> str:
        """Folder name of the split, with the labels that training shows."""
        names = []
        for part in self.corpora:
            fold = "" if part.fold is None else f"_{part.fold}"
            labels = self.train_labels.get(part.corpus, "")
            names.append(f"{part.scheme}{fold}" + (f"_{labels}" if labels else ""))
        if self.seconds is not None:
            names[-1] += "_{:g}-{:g}s".format(*self.seconds)
        if self.unit_attributes:
            names[-1] += "_unit"
        return "+".join(names)

    @property
    def data(self) -> Path:
        """The data directory."""
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
    made = recipe.manifest is not None  # its class map may be written when steps run
    needed = (recipe.features, *recipe.models.values())
    for path in needed if made else (recipe.labels, *needed):
        if not path.is_file():
            raise UserError(f"no such config file: {path}")
    steps = []
    for part in recipe.corpora:
        if part.mini is not None:
            steps += generate_steps(part, part.mini)
        steps += [prepare_step(part), extract_step(part)]
    by_name = {step.name: step for step in steps}  # corpora share the upstream's
    steps = [*sorted(by_name.values(), key=lambda step: step.stage), sets_step(recipe)]
    configs = {name: training_config(recipe, name) for name in recipe.models}
    networks = {n: c for n, c in configs.items() if not is_classical(c)}
    fitted = {n: c for n, c in configs.items() if is_classical(c)}
    steps += [train_step(recipe, *item) for item in networks.items()]
    steps += [infer_step(recipe, *item) for item in networks.items()]
    steps += [classical_step(recipe, *item) for item in fitted.items()]
    return [*steps, score_step(recipe, configs)]


def generate_steps(recipe: Recipe, mini: Mini) -> list[Step]:
    """Generate a built-in corpus, and beside it the tiny upstream."""
    root = recipe.corpus_root
    of_corpus = {"corpora": recipe.corpus, "upstream": False, "scale": mini.scale}
    corpus = Step(
        name=f"generate {root}",
        stage=1,
        module="espnet_ext.bin.ser_make_mini",
        args=command_line(output=root.parent, seed=mini.seed, **of_corpus),
        output=root,
        products=("LICENSE.txt",),
        settings={"seed": mini.seed, "scale": mini.scale},
    )
    upstream = replace(
        corpus,
        name=f"generate {root.parent / 'hubert_tiny'}",
        args=command_line(output=root.parent, seed=mini.seed, corpora=[]),
        output=root.parent / "hubert_tiny",
        products=("config.json", "model.safetensors"),
        settings={"seed": mini.seed},
    )
    return [corpus, upstream]


def prepare_step(recipe: Recipe) -> Step:
    """Read the corpus' labels, check its audio, write the data directory."""
    own: dict[str, Any] = {}
    inputs: tuple[Input, ...] = (Input(recipe.corpus_root, Evidence.LISTING),)
    if recipe.manifest is not None:  # its folder may hold anything
        own = {"manifest": recipe.manifest, "labels": recipe.labels}
        own |= recipe.manifest_options
        inputs = (Input(recipe.manifest), Input(recipe.labels))
    return Step(
        name=f"prepare {recipe.corpus}",
        stage=1,
        module="espnet_ext.bin.ser_prepare",
        args=command_line(
            corpus=recipe.corpus,
            root=recipe.corpus_root,
            output=recipe.data,
            nj=recipe.nj,
            # A built-in corpus is small: that its counts differ is no news.
            compare_counts=recipe.mini is None,
            **own,
        ),
        output=recipe.data,
        products=("wav.scp", "utt2spk", "utt2dur", "emotion", "attributes"),
        inputs=inputs,
        # wav.scp holds absolute paths: a corpus that was moved is read again.
        settings={
            "corpus": recipe.corpus,
            "root": str(recipe.corpus_root.absolute()),
            **({"manifest": command_line(**own)} if own else {}),
        },
    )


def extract_step(recipe: Recipe) -> Step:
    """Extract the frozen features of the utterances that the class map keeps."""
    inputs = [Input(recipe.data), Input(recipe.features), Input(recipe.labels)]
    upstream = recipe.upstream
    if upstream is not None and (Path(upstream).exists() or recipe.mini is not None):
        inputs.append(Input(Path(upstream)))
    return Step(
        name=f"extract {recipe.features.stem} features of {recipe.corpus}",
        stage=3,
        module="espnet_ext.bin.ser_extract",
        args=command_line(
            data=recipe.data,
            config=recipe.features,
            output=recipe.store,
            labels=recipe.labels,
            ngpu=min(recipe.ngpu, 1),
            on_bad_audio="skip" if recipe.on_bad_audio == "skip" else None,
            upstream=upstream,
        ),
        output=recipe.store,
        products=STORE_FILES,
        inputs=tuple(inputs),
        settings={"upstream": upstream},
        grows=True,
        gpus=min(recipe.ngpu, 1),
        workers=recipe.workers,
    )


def sets_step(recipe: Recipe) -> Step:
    """Apply the class map and the split."""
    parts = recipe.corpora
    shortest, longest = recipe.seconds or (None, None)
    labels = [f"{c}={kind}" for c, kind in recipe.train_labels.items()] or None
    settings: dict[str, Any] = {"scheme": recipe.scheme, "fold": recipe.fold}
    if recipe.partners or recipe.train_labels:
        settings = {
            "schemes": [[part.scheme, part.fold] for part in parts],
            "train_labels": dict(recipe.train_labels),
            "subset_like": recipe.subset_like,
        }
    if recipe.seconds is not None:
        settings["seconds"] = recipe.seconds
    if recipe.unit_attributes:
        settings["attribute_scale"] = "unit"
    folds = [part.fold for part in parts if part.fold is not None]
    several = len(folds) > 1  # a fold for each; a scheme without folds ignores its 1
    names = (
        *("wav.scp", "utt2class", "attributes", "classes", "speech_shape"),
        "features.digest",
    )
    return Step(
        name=f"make the sets of {recipe.split}",
        stage=4,
        module="espnet_ext.bin.ser_make_sets",
        args=command_line(
            data=[part.data for part in parts],
            labels=recipe.labels,
            scheme=[part.scheme for part in parts],
            output=recipe.sets,
            store=[part.store for part in parts],
            fold=[p.fold or 1 for p in parts] if several else next(iter(folds), None),
            train_labels=labels,
            subset_like=recipe.subset_like,
            min_seconds=shortest,
            max_seconds=longest,
            attribute_scale="unit" if recipe.unit_attributes else None,
        ),
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


def config_files(recipe: Recipe, model: str) -> list[Path]:
    """List the YAMLs that make a model's training, in the order in which they win."""
    paths = (recipe.models[model], recipe.corpus_overlay, recipe.overlay)
    return [path for path in paths if path is not None]


def training_config(recipe: Recipe, model: str) -> dict[str, Any]:
    """Merge a model's YAML with the overlays."""
    config = read_config(recipe.models[model])
    if is_classical(config):
        return config
    return merge_configs(config_files(recipe, model))


def train_step(recipe: Recipe, model: str, config: Mapping[str, Any]) -> Step:
    """Train one model; the merged YAML goes beside its folder."""
    output = recipe.run(model)
    merged = output.parent / "conf" / f"{output.name}.yaml"
    args = command_line(
        config=merged,
        output_dir=output,
        seed=recipe.seed,
        ngpu=recipe.ngpu,
        resume=True,
        class_list=recipe.sets / "train" / "classes",
    )
    for part in ("train", "valid"):
        folder = recipe.sets / part
        triples = [
            f"{recipe.speech},speech,ser_features",
            f"{folder / 'utt2class'},emotion,text_int",
            f"{folder / 'attributes'},attributes,text_float",
        ]
        if recipe.partners:  # metrics of each corpus, and their mean
            triples.append(f"{folder / 'utt2corpus'},corpus,text")
        for triple in triples:
            args += (f"--{part}_data_path_and_name_and_type", triple)
        args += (f"--{part}_shape_file", str(folder / "speech_shape"))
    return Step(
        name=f"train {model} on {recipe.split} (seed {recipe.seed})",
        stage=5,
        module="espnet_ext.bin.ser_train",
        args=args,
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
    )


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
    trained = (run / "config.yaml", run / selected_model(config))
    test = recipe.sets / "test"
    return Step(
        name=f"predict with {model} on {recipe.split} (seed {recipe.seed})",
        stage=6,
        module="espnet_ext.bin.ser_infer",
        args=command_line(
            train_config=trained[0],
            model_file=trained[1],
            set=test,
            store=recipe.speech,
            output=run / "test",
            dump_attention=True,
            ngpu=min(recipe.ngpu, 1),
        ),
        output=run / "test",
        products=("predictions.csv",),
        inputs=tuple(map(Input, (*trained, test))),
        preload=("espnet_ext.tasks.ser",),
        gpus=min(recipe.ngpu, 1),
    )


def classical_step(recipe: Recipe, model: str, config: Mapping[str, Any]) -> Step:
    """Fit the classical baseline and predict the test set: seconds, and no seed."""
    run = recipe.run(model)
    merged = run.parent / "conf" / f"{run.name}.yaml"
    parts = {part: recipe.sets / part for part in ("train", "valid", "test")}
    return Step(
        name=f"fit and predict with {model} on {recipe.split}",
        stage=6,
        module="espnet_ext.bin.ser_classical",
        args=command_line(
            config=merged, store=recipe.speech, **parts, output=run / "test"
        ),
        output=run / "test",
        products=("predictions.csv",),
        inputs=tuple(map(Input, parts.values())),
        settings={"config": dict(config)},
        files=((merged, yaml.safe_dump(dict(config), sort_keys=False)),),
    )


def score_step(recipe: Recipe, configs: Mapping[str, Mapping[str, Any]]) -> Step:
    """Score this recipe's models, and beside them those that were finished before."""
    output, test = recipe.runs / "results", recipe.sets / "test"
    runs = {name: recipe.run(name) for name in scored_models(recipe, configs)}
    fitted = {CLASSICAL, *(n for n, config in configs.items() if is_classical(config))}
    args = command_line(
        output=output,
        title=recipe.split,
        reference=test,
        wav_scp=test / "wav.scp",
        resamples=recipe.resamples,
    )
    for name, run in runs.items():
        args += command_line(predictions=f"{name}={run / 'test' / 'predictions.csv'}")
        if name not in fitted:  # which have neither a training log nor attention
            args += command_line(
                train_log=f"{name}={run / 'train.log'}",
                attention=f"{name}={run / 'test' / 'attention.npz'}",
            )
    # The record tells which code made the predictions, and so do the results.
    read = [f / name for f in runs.values() for name in ("test", f"test/{RECORD}")]
    return Step(
        name=f"score {recipe.split}",
        stage=7,
        module="espnet_ext.bin.ser_score",
        args=args,
        output=output,
        products=("RESULTS.md", "scores.json"),
        inputs=(*map(Input, read), Input(test)),
        settings={"models": list(runs), "resamples": recipe.resamples},
    )


def scored_models(recipe: Recipe, models: Iterable[str]) -> Sequence[str]:
    """List the models that the results show, in the paper's order.

    The recipe's own, and those that have predicted the same test set before.
    """
    own = list(models)
    test = recipe.sets / "test"
    today = digest(Input(test)) if test.is_dir() else ""

    def shown(model: str) -> bool:
        read = recorded_inputs(recipe.run(model) / "test").get(str(test), "no such set")
        return model in own or read == today

    return [n for n in dict.fromkeys([*MODELS, CLASSICAL, *own]) if shown(n)]
