"""What every test shares."""

import os

# Two threads beside another process are far slower than one on tiny models. Set
# before torch is imported, so that it holds in subprocesses too.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
