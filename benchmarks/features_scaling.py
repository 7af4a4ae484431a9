"""Cost and peak memory of extraction against the size of the corpus.

Extracts corpora of doubling size with the tiny upstream of the built-in corpora, each
in a process of its own, fits a straight line to the time and prints how far it is off.

    python benchmarks/features_scaling.py --sizes 50 100 200 400
"""

import argparse
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

from espnet_ext.features.config import FeatureConfig, UpstreamConfig
from espnet_ext.mini.upstream import write_tiny_hubert


def _measure(paths, folder, upstream, results):
    import torch

    from espnet_ext.features.extract import Recording, Resources, extract
    from espnet_ext.features.upstream import load_upstream

    torch.set_num_threads(1)
    config = FeatureConfig(UpstreamConfig("huggingface", str(upstream)))
    load_upstream(config)  # imports and loading are no part of the slope
    recordings = {p.stem: Recording(str(p), 5.0) for p in paths}
    resources = Resources(shard_seconds=100, batch_seconds=20)
    start = time.perf_counter()
    extract(recordings, config, folder, resources)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    results.put((time.perf_counter() - start, memory))


def main():
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[50, 100, 200, 400])
    args = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    rng = np.random.default_rng(0)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_tiny_hubert(folder / "hubert")
        paths = [folder / f"u{i:05d}.wav" for i in range(max(args.sizes))]
        for path in paths:
            soundfile.write(path, 0.1 * rng.standard_normal(80000), 16000)
        for size in args.sizes:
            results = context.Queue()
            arguments = (paths[:size], folder / f"{size}", folder / "hubert", results)
            process = context.Process(target=_measure, args=arguments)
            process.start()
            rows.append((size, *results.get()))
            process.join()
    sizes, seconds, memory = np.array(rows).T
    slope, start = np.polyfit(sizes, seconds, 1)
    error = np.abs(slope * sizes + start - seconds) / seconds
    print("| utterances of 5 s | s | peak memory, MB | off the line |")
    print("|-|-|-|-|")
    for size, second, peak, off in zip(sizes, seconds, memory, error, strict=True):
        print(f"| {size:.0f} | {second:.2f} | {peak:.0f} | {100 * off:.0f} % |")
    print(f"{1000 * slope:.1f} ms an utterance + {start:.2f} s")


if __name__ == "__main__":
    main()
