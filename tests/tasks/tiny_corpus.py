"""A small corpus whose features follow its labels: a real store and real sets."""

import itertools
from pathlib import Path

import numpy as np

from espnet_ext.corpora.datadir import DataDir
from espnet_ext.corpora.labels import load_class_map
from espnet_ext.corpora.sets import write_set
from espnet_ext.corpora.utterance import Utterance
from espnet_ext.features.store_files import Audio
from espnet_ext.features.store_writer import StoreWriter

ROOT = Path(__file__).resolve().parents[2]
LABELS = ROOT / "conf" / "labels" / "paper5.yaml"
EMOTIONS = ("neu", "ang", "hap", "sad", "dis")
DIM = 16


def write_store(path, features, shift=320):
    """Write features {utterance: (T, L, D)}, fp16, a frame every `shift` samples."""
    first = next(iter(features.values()))
    description = {
        "weights": "0" * 32,
        "layers": list(range(first.shape[1])),
        "dim": first.shape[2],
        "dtype": "float16",
        "compute": "float32",
        "normalize": True,
    }
    filling = StoreWriter(path, description)
    filling.plan(dict.fromkeys(features, 1.0), 10**9, 10**9)
    for ids, writer in itertools.chain.from_iterable(filling.claim(set(features))):
        with writer:
            for utt in ids:
                states = features[utt].transpose(1, 0, 2).astype(np.float16)
                audio = Audio(shift * states.shape[1], size=1, mtime=0, digest="0" * 32)
                writer.add(utt, states, None, audio)
    filling.finish()


def make_utterances(count, seed=0, corpora=("iemocap",), prefix="u"):
    """Return records with drawn labels; classes go round."""
    rng = np.random.default_rng(seed)
    records = {}
    for number in range(count):
        id_ = f"{prefix}{number:03d}"
        valence, arousal, dominance = rng.uniform(1.5, 4.5, 3).round(4).tolist()
        records[id_] = Utterance(
            id=id_,
            wav=f"/nowhere/{id_}.wav",
            corpus=corpora[number % len(corpora)],
            speaker=f"spk{number % 4}",
            gender="fm"[number % 2],
            split="Session1",
            emotion=EMOTIONS[number % len(EMOTIONS)],
            valence=valence,
            arousal=arousal,
            dominance=dominance,
        )
    return records


def make_features(records, layers=2, dim=DIM, seed=0, frames=(8, 20), noise=0.3):
    """Draw features (T, L, D) that carry class and attributes."""
    rng = np.random.default_rng(seed)
    of_class = {name: rng.normal(size=dim) for name in EMOTIONS}
    of_attribute = rng.normal(size=(3, dim))
    features = {}
    for utt, record in records.items():
        values = np.array([record.valence, record.arousal, record.dominance])
        center = of_class[record.emotion] + (values - 3) @ of_attribute
        shape = (int(rng.integers(*frames)), layers, dim)
        features[utt] = center + noise * rng.normal(size=shape)
    return features


def write_sets(folder, records, **sets):
    """Write set directories {name: (ids, labels)} of iemocap records."""
    scales = {record.corpus: (1.0, 5.0) for record in records.values()}
    data = DataDir(records, dict.fromkeys(records, 1.0), scales)
    class_map = load_class_map(LABELS)
    for name, (ids, labels) in sets.items():
        write_set(data, ids, class_map, folder / name, labels)


def make_corpus(folder, count=32, **options):
    """Write a store and the sets train, valid and test; return their folder."""
    records = make_utterances(count)
    write_store(folder / "store", make_features(records, **options))
    ids = list(records)
    write_sets(folder, records, train=(ids, "both"), valid=(ids, "both"))
    write_sets(folder, records, test=(ids, "both"))
    return folder


def training_args(folder, output, model, **options):
    """Return the arguments of a training on the sets in `folder`."""
    args = ["--config", str(ROOT / "conf" / f"train_{model}.yaml")]
    args += ["--output_dir", str(output), "--class_list", str(folder / "train/classes")]
    for part in ("train", "valid"):
        for triple in (
            f"{folder}/store,speech,ser_features",
            f"{folder}/{part}/utt2class,emotion,text_int",
            f"{folder}/{part}/attributes,attributes,text_float",
            f"{folder}/{part}/utt2corpus,corpus,text",
        ):
            args += [f"--{part}_data_path_and_name_and_type", triple]
    for name, value in options.items():
        values = value if isinstance(value, list) else [value]
        for item in values:
            args += [f"--{name}", str(item)]
    return args


# A conformer that trains in milliseconds, with no dropout anywhere.
SMALL = {
    "encoder_conf": [
        "output_size=16",
        "linear_units=16",
        "attention_heads=2",
        "num_blocks=1",
        "cnn_module_kernel=7",
        "dropout_rate=0.0",
        "positional_dropout_rate=0.0",
        "attention_dropout_rate=0.0",
    ],
    "decoder_conf": ["dropout_rate=0.0"],
    "preencoder_conf": ["output_size=16"],
    "use_tensorboard": "false",
    "keep_nbest_models": 3,
    "patience": "none",
}


def small(**options):
    """Return `SMALL` with more options; lists are appended."""
    merged = dict(SMALL)
    for name, value in options.items():
        if isinstance(value, list):
            merged[name] = [*merged.get(name, []), *value]
        else:
            merged[name] = value
    return merged
