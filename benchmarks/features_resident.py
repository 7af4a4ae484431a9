"""Batches of an epoch from features held in memory against the store.

A synthetic store of the paper's shape (25 hidden states of 1024 in fp16), batches of 32
utterances of similar length. The store's files are in the page cache, so this is what
is left to gain on one machine; from a network file system or with more data than
memory it is more. Epochs are interleaved; the first of each, which checks checksums,
is not counted. Times are CPU seconds of this process, user and system.

    python benchmarks/features_resident.py --utterances 200
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import features_epoch
import features_extraction as extraction
import numpy as np
import torch

from espnet_ext.features.resident import ResidentFeatures, size_of
from espnet_ext.train.dataset import collate


def main():
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--utterances", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    seconds = np.sort(
        extraction.draw_seconds(args.utterances, np.random.default_rng(0))
    )
    waves = {
        f"u{i:04d}": torch.empty(int(s * extraction.RATE))
        for i, s in enumerate(seconds)
    }
    ids = list(waves)
    batches = [ids[i : i + 32] for i in range(0, len(ids), 32)]
    with tempfile.TemporaryDirectory() as folder:
        store = features_epoch._write_store(Path(folder) / "store", waves, 24)
        start = time.process_time()
        held = ResidentFeatures(store, ids, torch.device("cpu"), "train")
        loading = time.process_time() - start
        times = {"store": [], "held in memory": []}
        for _ in range(args.rounds + 1):
            for source, speech in (("store", store), ("held in memory", held)):
                start = time.process_time()
                for batch in batches:
                    collate([(u, {"speech": speech[u]}) for u in batch])
                times[source].append(time.process_time() - start)
        gigabytes = size_of(store, ids) / 1e9
    print(
        f"{args.utterances} utterances, {gigabytes:.2f} GB, loaded in {loading:.1f} s"
    )
    print("| features | CPU s an epoch |")
    print("|-|-|")
    for source, values in times.items():
        print(f"| {source} | {statistics.median(values[1:]):.2f} |")


if __name__ == "__main__":
    main()
