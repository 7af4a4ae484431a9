"""Time of the paired bootstrap at the size of MSP-Podcast's test1.

Run: python benchmarks/bootstrap.py [resamples] [utterances] [models]
The default, 10,000 x 10,000 x 5, must stay under a minute on 2 cores.
"""

import sys
import time

import numpy as np

from espnet_ext.scoring import bootstrap


def main(resamples: int = 10_000, rows: int = 10_000, models: int = 5) -> None:
    """Resample random predictions for all seven scores and print seconds."""
    rng = np.random.default_rng(0)
    true = rng.normal(4, 1, (rows, 3))
    pred = 0.6 * true + rng.normal(1.6, 0.6, (models, rows, 3))
    classes = rng.integers(0, 5, rows)
    right = rng.random((models, rows)) < 0.6
    said = np.where(right, classes, rng.integers(0, 5, (models, rows)))

    start = time.perf_counter()
    scores = bootstrap.ccc_distribution(
        true, pred, bootstrap.resample_utterances(rows, resamples, rng)
    )
    ccc_time = time.perf_counter() - start
    start = time.perf_counter()
    bootstrap.class_distribution(
        classes, said, bootstrap.resample_within(classes, resamples, rng)
    )
    class_time = time.perf_counter() - start
    print(
        f"{resamples} resamples x {rows} utterances x {models} models: "
        f"CCC {ccc_time:.1f} s, classes {class_time:.1f} s, "
        f"together {ccc_time + class_time:.1f} s"
    )
    print(f"standard error of the first CCC: {scores[:, 0, 0].std():.4f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
