"""An epoch of training from the store against the frozen upstream inside the model.

Both train the same ESPnet conformer (linear 1024 to 80, then 4 blocks of 64 or 768
units) on batches of 32 utterances (log-normal, mean 4.5 s, 1 to 20 s). One reads cached
features, the other runs s3prl's padded forward first, as ESPnet's frozen S3prlFrontend
does in every epoch. Timed batches are extrapolated to an epoch; the extraction, which
is paid once, is printed beside it. Both CPU and wall time are given: on a machine that
others use too the first is the sounder one.

    python benchmarks/features_epoch.py --batches 5

Fewer --layers of the upstream make a quick look.
"""

import argparse
import contextlib
import statistics
import sys
import tempfile
import time
from pathlib import Path

import features_extraction as extraction
import torch
from espnet2.asr.encoder.conformer_encoder import ConformerEncoder
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from espnet_ext.features import convert
from espnet_ext.features.config import FeatureConfig, UpstreamConfig
from espnet_ext.features.frontend import CachedFeatures
from espnet_ext.features.packed import PackedUpstream
from espnet_ext.features.store import FeatureStore

ROWS = 32


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
        self.output = nn.Linear(size, 1)

    def forward(self, states, lengths):
        """Predict (B, 1) from hidden states (B, T, L, D) and lengths (B,)."""
        x, lengths = self.reduce(states, lengths)  # (B, T, 1024)
        x, _, _ = self.encoder(self.project(x), lengths)  # (B, T, size)
        return self.output(x.mean(1))


class Clock:
    """CPU seconds of this process, and wall seconds, of each kind of work."""

    def __init__(self):
        self.cpu, self.wall = {}, {}

    @contextlib.contextmanager
    def time(self, kind):
        """Time what is done inside of the block."""
        cpu, wall = time.process_time(), time.perf_counter()
        yield
        self.cpu.setdefault(kind, []).append(time.process_time() - cpu)
        self.wall.setdefault(kind, []).append(time.perf_counter() - wall)
        last = f"{self.cpu[kind][-1]:.1f} s of CPU, {self.wall[kind][-1]:.1f} s"
        print(f"{kind}: {last}", file=sys.stderr)


def _step(model, optimizer, states, lengths):
    optimizer.zero_grad()
    model(states, lengths).square().mean().backward()
    optimizer.step()


def _write_store(folder, upstream, waves, layers):
    """Fill a store with the features of `waves`, without audio files."""
    from espnet_ext.features.filling import Filling
    from espnet_ext.features.format import Audio

    config = FeatureConfig(UpstreamConfig("s3prl", "random"))
    description = {
        "weights": "random",
        "layers": list(range(layers + 1)),
        "dim": 1024,
        "dtype": config.dtype,
        "compute": config.compute,
        "normalize": True,
    }
    filling = Filling(folder, description)
    filling.plan(
        {u: len(w) / extraction.RATE for u, w in waves.items()}, 512_000_000, 1800
    )
    for ids, writer in filling.claim(waves.keys()):
        with writer:
            for u in ids:
                states = torch.stack(
                    [x.half() for x in upstream.states([waves[u]], layers)]
                )
                audio = Audio(len(waves[u]), 0, 0, "0" * 32)
                writer.add(u, states.numpy(), None, audio)
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
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    drawn = extraction.draw_waves(ROWS * args.batches)
    waves = {f"u{i:04d}": wave for i, wave in enumerate(drawn)}
    ids = list(waves)
    model = Model(args.layers + 1, args.size).train()
    optimizer = torch.optim.Adam(model.parameters(), 1e-4)
    clock = Clock()
    with tempfile.TemporaryDirectory() as name:
        expert = extraction.make_s3prl(args.layers, name)
        upstream = PackedUpstream(*convert.from_fairseq(expert.model, ""), True)
        with clock.time("extraction, once"):
            store = _write_store(Path(name) / "store", upstream, waves, args.layers)
        for i in range(0, len(ids), ROWS):
            with clock.time("store"):
                arrays = [torch.from_numpy(store[u].copy()) for u in ids[i : i + ROWS]]
                lengths = torch.tensor([len(x) for x in arrays])
                _step(model, optimizer, pad_sequence(arrays, batch_first=True), lengths)
            with clock.time("s3prl inside the model"):
                batch = [waves[u] for u in ids[i : i + ROWS]]
                with torch.no_grad():
                    states = expert(batch)["hidden_states"]
                stacked = torch.stack(states, dim=2)  # (B, T, L, D)
                del states
                _step(model, optimizer, stacked, lengths.clamp(max=stacked.shape[1]))
    print(
        f"{args.batches} batches of {ROWS} utterances timed, an epoch of "
        f"{args.epoch_utterances} extrapolated; {args.layers} layers, conformer of "
        f"{args.size}, {args.threads} thread(s)"
    )
    _report(clock, args.batches, args.epoch_utterances / ROWS)


def _report(clock, timed, batches):
    """Print medians of a batch, and what an epoch of `batches` takes."""
    clock.cpu["extraction, once"][0] /= timed
    clock.wall["extraction, once"][0] /= timed
    print("| features | CPU s a batch | wall s a batch | CPU s an epoch |")
    print("|-|-|-|-|")
    for kind in ("store", "s3prl inside the model", "extraction, once"):
        cpu = statistics.median(clock.cpu[kind])
        wall = statistics.median(clock.wall[kind])
        print(f"| {kind} | {cpu:.2f} | {wall:.2f} | {cpu * batches:.0f} |")
    for name, times in (("CPU", clock.cpu), ("wall", clock.wall)):
        ratios = [
            slow / fast
            for slow, fast in zip(
                times["s3prl inside the model"], times["store"], strict=True
            )
        ]
        print(
            f"by {name} time the store is {statistics.median(ratios):.1f} x cheaper an "
            f"epoch (batches: {', '.join(f'{r:.0f}' for r in ratios)})"
        )


if __name__ == "__main__":
    main()
