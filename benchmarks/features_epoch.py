"""An epoch of training from the store against the frozen upstream inside the model.

Both train the same conformer as SERTask builds it (linear 1024 to 80, then 4 blocks of
64 or 768 units) on the same batches of 32 utterances (log-normal, mean 4.5 s, 1 to
20 s), sorted by length as ESPnet's samplers and `train.sampler` do. One reads cached
features, the other runs s3prl's forward first, as ESPnet's frozen S3prlFrontend does in
every epoch.
Batches from evenly spaced places of the sorted epoch are timed, and their mean is
extrapolated.

The store holds noise: the extraction, which is paid once, is the business of
features_extraction.py. On a CPU, CPU time is given beside wall time: on a machine that
others use too the first is the sounder one. On a GPU, features that lie on it already
and our own frozen upstream inside the model, in bf16, are timed as well.

    python benchmarks/features_epoch.py --batches 5
    python benchmarks/features_epoch.py --batches 20 --device cuda

Fewer --layers of the upstream make a quick look.
"""

import argparse
import contextlib
import itertools
import statistics
import sys
import tempfile
import time
from pathlib import Path

import features_extraction as extraction
import numpy as np
import torch
from espnet2.asr.encoder.conformer_encoder import ConformerEncoder
from torch import nn

from espnet_ext.encoders.block_attention import use_block_attention
from espnet_ext.features.frontend import CachedFeatures
from espnet_ext.features.store import FeatureStore
from espnet_ext.train.dataset import collate

ROWS = 32
STORE = "store"
RESIDENT = "on the GPU already"
ONLINE = "our upstream inside the model, bf16"
S3PRL = "s3prl inside the model"


class Model(nn.Module):
    """Weighted sum, projection, conformer, mean over time, one output."""

    def __init__(self, states, size):
        super().__init__()
        self.reduce = CachedFeatures(1024, states)
        self.project = nn.Linear(1024, 80)
        self.encoder = ConformerEncoder(
            80,
            output_size=size,
            attention_heads=8,
            linear_units=64,
            num_blocks=4,
            input_layer="linear",
            macaron_style=True,
            rel_pos_type="latest",
            cnn_module_kernel=31,
        )
        use_block_attention(self.encoder)
        self.output = nn.Linear(size, 1)

    def forward(self, states, lengths):
        """Predict (B, 1) from hidden states (B, T, L, D) and lengths (B,)."""
        x, lengths = self.reduce(states, lengths)  # (B, T, 1024)
        x, _, _ = self.encoder(self.project(x), lengths)  # (B, T, size)
        return self.output(x.mean(1))


class Clock:
    """CPU seconds of this process, and wall seconds, of each kind of work."""

    def __init__(self, device):
        self.device = device
        self.cpu, self.wall = {}, {}

    def _now(self):
        if self.device == "cuda":
            torch.cuda.synchronize()
        return time.process_time(), time.perf_counter()

    @contextlib.contextmanager
    def time(self, kind):
        """Time what is done inside of the block."""
        cpu, wall = self._now()
        yield
        cpu_end, wall_end = self._now()
        self.cpu.setdefault(kind, []).append(cpu_end - cpu)
        self.wall.setdefault(kind, []).append(wall_end - wall)
        last = f"{cpu_end - cpu:.2f} s of CPU, {wall_end - wall:.2f} s"
        print(f"{kind}: {last}", file=sys.stderr)


def _step(model, optimizer, states, lengths):
    optimizer.zero_grad()
    model(states, lengths).square().mean().backward()
    optimizer.step()


def _write_store(folder, waves, layers):
    """Fill a store with as many numbers as the features of `waves` are."""
    from espnet_ext.features.store_files import Audio
    from espnet_ext.features.store_writer import StoreWriter

    description = {
        "weights": "random",
        "layers": list(range(layers + 1)),
        "dim": 1024,
        "dtype": "float16",
        "compute": "float32",
        "normalize": True,
    }
    filling = StoreWriter(folder, description)
    seconds = {u: len(w) / extraction.RATE for u, w in waves.items()}
    filling.plan(seconds, 512e6 / (100 * (layers + 1) * 1024), 1800)
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((layers + 1, 1000, 1024)).astype(np.float16)
    claimed = filling.claim(waves.keys())
    for ids, writer in itertools.chain.from_iterable(claimed):
        with writer:
            for u in ids:
                frames = 1 + (len(waves[u]) - 400) // 320
                audio = Audio(len(waves[u]), 0, 0, "0" * 32)
                writer.add(u, noise[:, :frames].copy(), None, audio)
    filling.finish()
    return FeatureStore(folder)


def main():
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--batches", type=int, default=5)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--epoch_utterances", type=int, default=3161)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    batches = _draw_batches(args.epoch_utterances, args.batches)
    model = Model(args.layers + 1, args.size).to(args.device).train()
    optimizer = torch.optim.Adam(model.parameters(), 1e-4)
    clock = Clock(args.device)
    with tempfile.TemporaryDirectory() as name:
        expert = extraction.make_s3prl(args.layers, name)
        ours = None if args.device == "cpu" else _make_ours(expert, args.device)
        expert = expert.to(args.device)
        waves = {u: wave for batch in batches for u, wave in batch.items()}
        store = _write_store(Path(name) / "store", waves, args.layers)
        # On a GPU, the first batch once more in front: it chooses kernels.
        warm_up = batches[:1] if args.device == "cuda" else []
        for batch in (*warm_up, *batches):
            _time_batch(clock, model, optimizer, batch, store, expert, ours)
    for times in (clock.cpu, clock.wall):
        for kind in times:
            times[kind] = times[kind][len(warm_up) :]
    print(
        f"{args.batches} batches of {ROWS} utterances timed, an epoch of "
        f"{args.epoch_utterances} extrapolated; {args.layers} layers, conformer of "
        f"{args.size}, {args.threads} thread(s), {args.device}"
    )
    _report(clock, args.epoch_utterances / ROWS)


def _make_ours(expert, device):
    """Our own upstream in bf16 with the weights of s3prl's."""
    from espnet_ext.features import canonical_weights as canonical
    from espnet_ext.features.upstream import ExactUpstream

    architecture, weights = canonical.from_fairseq(expert.model, "benchmark")
    weights = {name: tensor.clone() for name, tensor in weights.items()}
    return ExactUpstream(architecture, weights, True, "bfloat16").to(device)


def _states(ours, waves):
    """Hidden states (B, T, L, D) in fp16, as the online frontend makes them."""
    rows = ours.extract(waves, range(ours.num_states), torch.float16)
    return nn.utils.rnn.pad_sequence([r.transpose(0, 1) for r in rows], True)


def _time_batch(clock, model, optimizer, batch, store, expert, ours):
    """Time a step of each kind on one batch (utterance -> waveform)."""
    device = clock.device
    with clock.time(STORE):
        _, data = collate([(u, {"speech": store[u]}) for u in batch])
        speech = [row.to(device) for row in data["speech"]]  # (T, L, D) fp16
        lengths = data["speech_lengths"].to(device)
        _step(model, optimizer, speech, lengths)
    if ours is not None:
        with clock.time(RESIDENT):
            _step(model, optimizer, speech, lengths)
        with clock.time(ONLINE):
            states = _states(ours, [w.to(device) for w in batch.values()])
            _step(model, optimizer, states, lengths)
    del speech
    with clock.time(S3PRL):
        with torch.no_grad():
            states = expert([w.to(device) for w in batch.values()])["hidden_states"]
        stacked = torch.stack(states, dim=2)  # (B, T, L, D)
        del states
        _step(model, optimizer, stacked, lengths.clamp(max=stacked.shape[1]))


def _draw_batches(utterances, count):
    """Waveforms of `count` batches from evenly spaced places of a sorted epoch."""
    rng = np.random.default_rng(0)
    seconds = np.sort(extraction.draw_seconds(utterances, rng))
    whole = len(seconds) // ROWS
    places = [int((i + 0.5) * whole / count) for i in range(count)]
    return [
        {
            f"u{place:03d}_{row:02d}": 0.1 * torch.randn(int(s * extraction.RATE))
            for row, s in enumerate(seconds[place * ROWS : (place + 1) * ROWS])
        }
        for place in places
    ]


def _report(clock, batches):
    """Print what a batch takes, and an epoch of so many `batches`."""
    print("| features | s of each batch | CPU s an epoch | wall s an epoch |")
    print("|-|-|-|-|")
    each = clock.cpu if clock.device == "cpu" else clock.wall
    for kind in clock.cpu:
        seconds = ", ".join(f"{t:.2f}" for t in each[kind])
        cpu, wall = (
            batches * statistics.mean(times[kind]) for times in (clock.cpu, clock.wall)
        )
        print(f"| {kind} | {seconds} | {cpu:.0f} | {wall:.0f} |")
    for name, times in (("CPU", clock.cpu), ("wall", clock.wall)):
        for kind in times:
            if kind != S3PRL:
                ratio = sum(times[S3PRL]) / sum(times[kind])
                print(f"by {name} time, {kind}: {ratio:.1f} x cheaper than {S3PRL}")


if __name__ == "__main__":
    main()
