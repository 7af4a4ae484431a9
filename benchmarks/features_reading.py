"""Read 32 random utterances: the store against kaldi ark and one npy a file.

HDF5 (a dataset an utterance, not compressed) joins in where h5py is installed
(`pip install h5py`; nothing else here needs it). Every format holds the same fp16
arrays, except kaldi ark, which knows fp32 only. Rounds are interleaved and in another
order each time; files are in the page cache after the first round, so this is the cost
of the formats, not of a disk. Times are CPU seconds of this process, user and system.

    python benchmarks/features_reading.py --utterances 2000 --layers 1
"""

import argparse
import itertools
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from espnet_ext.features.store import FeatureStore
from espnet_ext.features.store_files import Audio
from espnet_ext.features.store_writer import StoreWriter


def _draw(count, layers, dim, seed=0):
    rng = np.random.default_rng(seed)
    seconds = np.clip(rng.lognormal(np.log(4.5) - 0.5 * 0.6**2, 0.6, count), 1, 20)
    pool = rng.standard_normal((layers, 1000, dim)).astype(np.float16)
    for i, value in enumerate(seconds):
        yield f"u{i:06d}", pool[:, : int(value * 50)]


def _write_store(path, items, layers, dim):
    description = {
        "weights": "0",
        "layers": list(range(layers)),
        "dim": dim,
        "dtype": "float16",
        "compute": "float32",
        "normalize": True,
    }
    filling = StoreWriter(path, description)
    seconds = {u: x.shape[1] / 50 for u, x in items.items()}
    filling.plan(seconds, 512e6 / (100 * layers * dim), float("inf"))
    claimed = filling.claim(items.keys())
    for ids, writer in itertools.chain.from_iterable(claimed):
        with writer:
            for u in ids:
                audio = Audio(items[u].shape[1] * 320, 0, 0, "0" * 32)
                writer.add(u, items[u], None, audio)
    filling.finish()


def _open_kaldi(folder, items):
    """One ark in fp32; (T, L * D) where there are several layers."""
    from omniio import kaldi

    scp = folder / "feats.scp"
    with kaldi.WriteHelper(f"ark,scp:{folder / 'feats.ark'},{scp}") as writer:
        for u, x in items.items():
            flat = x.transpose(1, 0, 2).reshape(x.shape[1], -1)
            writer[u] = flat.astype(np.float32)
    return lambda: kaldi.load_scp(str(scp))


class Npy:
    """One file an utterance."""

    def __init__(self, folder):
        self.folder = folder

    def __getitem__(self, utterance):
        return np.load(self.folder / f"{utterance}.npy")


def _open_hdf5(folder, items):
    """One file, a dataset an utterance; None where h5py is missing."""
    try:
        import h5py
    except ImportError:
        return None
    with h5py.File(folder / "feats.h5", "w") as file:
        for u, x in items.items():
            file.create_dataset(u, data=x.transpose(1, 0, 2))

    class Reader:
        def __init__(self):
            self.file = h5py.File(folder / "feats.h5", "r")

        def __getitem__(self, utterance):
            return self.file[utterance][()]

    return Reader


def main():
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--utterances", type=int, default=2000)
    parser.add_argument("--layers", type=int, default=1)
    parser.add_argument("--dim", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=20)
    args = parser.parse_args()
    items = dict(_draw(args.utterances, args.layers, args.dim))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_store(folder / "store", items, args.layers, args.dim)
        (folder / "npy").mkdir()
        for u, x in items.items():
            np.save(folder / "npy" / f"{u}.npy", x.transpose(1, 0, 2))
        openers = {
            "store": lambda: FeatureStore(folder / "store", verify="never"),
            "store, checksums": lambda: FeatureStore(folder / "store"),
            "kaldi ark (fp32)": _open_kaldi(folder, items),
            "npy a file": lambda: Npy(folder / "npy"),
        }
        hdf5 = _open_hdf5(folder, items)
        if hdf5 is not None:
            openers["HDF5"] = hdf5
        readers, opening = {}, {}
        for label, opener in openers.items():
            start = time.perf_counter()
            readers[label] = opener()
            opening[label] = time.perf_counter() - start
        times = {label: [] for label in readers}
        rng = np.random.default_rng(1)
        for _ in range(args.rounds):
            ids = rng.choice(list(items), 32, replace=False)
            for label in rng.permutation(list(readers)).tolist():
                start = time.process_time()
                for u in ids:
                    np.array(readers[label][u])  # a copy, as collation makes
                times[label].append(time.process_time() - start)
    print(f"{args.utterances} utterances, {args.layers} layers of {args.dim}")
    print(
        "| format | open, ms | 32 utterances, CPU ms | utterances a second | store is |"
    )
    print("|-|-|-|-|-|")
    base = statistics.median(times["store"])
    for label, values in times.items():
        middle = statistics.median(values)
        print(
            f"| {label} | {1000 * opening[label]:.1f} | {1000 * middle:.1f} | "
            f"{32 / middle:.0f} | {middle / base:.1f} x as fast |"
        )


if __name__ == "__main__":
    main()
