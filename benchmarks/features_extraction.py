"""Extraction speed on the large architecture with random weights.

Compares the packed path with what people use: s3prl in padded batches of 8 (what
ESPnet's S3prlFrontend runs), and transformers one utterance at a time. All take the
same utterances (log-normal durations, mean 4.5 s, 1 to 20 s) and are interleaved, in
another order every round. What counts on a CPU is CPU time, which other work on the
machine touches least (it still shares caches, memory and clock), on a GPU wall time;
and the ratio within a round, of which the median is given. The device's matrix-product
peak is measured right before and after each run.

    python benchmarks/features_extraction.py --utterances 16 --rounds 3
    python benchmarks/features_extraction.py --utterances 400 --device cuda

Fewer --layers make a quick look; the convolutions then weigh more than in 24.
"""

import argparse
import dataclasses
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

RATE = 16000
SINGLE = "transformers, one at a time"
PADDED = "s3prl, padded batches of 8"


def draw_seconds(count, rng):
    """Draw durations: log-normal with mean 4.5 s, cut at 1 and 20 s."""
    return np.clip(rng.lognormal(np.log(4.5) - 0.5 * 0.6**2, 0.6, count), 1, 20)


def draw_waves(count, seed=0):
    """Draw waveforms of realistic lengths."""
    rng = np.random.default_rng(seed)
    seconds = draw_seconds(count, rng)
    generator = torch.Generator().manual_seed(seed)
    return [0.1 * torch.randn(int(s * RATE), generator=generator) for s in seconds]


class Clock:
    """Seconds of the thread's CPU time on a CPU, of wall time on a GPU.

    Args:
        device: ``cpu`` or ``cuda``.
    """

    def __init__(self, device):
        self.device = device

    def now(self):
        """Seconds since some moment, when all that was asked for is done."""
        if self.device == "cpu":
            return time.process_time()
        torch.cuda.synchronize()
        return time.perf_counter()


def matrix_peak(dtype, clock):
    """GFLOP/s of torch's product of the feed-forward layer's shape, large on a GPU."""
    rows, times = (2048, 3) if clock.device == "cpu" else (32768, 20)
    a = torch.randn(rows, 1024, device=clock.device).to(dtype)
    b = torch.randn(1024, 4096, device=clock.device).to(dtype)
    torch.mm(a, b)
    start = clock.now()
    for _ in range(times):
        torch.mm(a, b)
    return times * 2 * rows * 1024 * 4096 / (clock.now() - start) / 1e9


def flops(architecture, waves):
    """Operations of the linear layers, the convolutions and the attention."""
    total = 0
    for wave in waves:
        n, width = len(wave), 1
        for channels, kernel, stride in architecture.conv_layers:
            n = (n - kernel) // stride + 1
            total += 2 * n * channels * width * kernel
            width = channels
        hidden = architecture.hidden_size
        total += 2 * n * width * hidden
        groups = architecture.num_conv_pos_embedding_groups
        taps = architecture.num_conv_pos_embeddings
        total += 2 * n * hidden * hidden // groups * taps
        inner = architecture.intermediate_size
        layer = 4 * hidden * hidden + 2 * hidden * inner + 2 * n * hidden
        total += 2 * n * layer * architecture.num_hidden_layers
    return total


def make_s3prl(layers, folder):
    """s3prl's own HuBERT-large with random weights, and its checkpoint file."""
    from s3prl.upstream.hubert import hubconf
    from s3prl.upstream.hubert.hubert_model import (
        HubertConfig,
        HubertModel,
        HubertPretrainingConfig,
    )

    config = HubertConfig(
        label_rate=50,
        extractor_mode="layer_norm",
        encoder_layers=layers,
        encoder_embed_dim=1024,
        encoder_ffn_embed_dim=4096,
        encoder_attention_heads=16,
        layer_norm_first=True,
    )
    task = HubertPretrainingConfig(normalize=True)
    symbols = [[str(i) for i in range(8)]]
    path = Path(folder) / "hubert.pt"
    torch.save(
        {
            "task_cfg": dataclasses.asdict(task),
            "model_cfg": dataclasses.asdict(config),
            "model_weight": HubertModel(config, task, symbols).state_dict(),
            "dictionaries_symbols": symbols,
        },
        path,
    )
    return hubconf.hubert_local(ckpt=str(path)).eval()


def _make_runs(args, folder):
    """Name -> function that runs all utterances once, and the architecture."""
    import transformers

    from espnet_ext.features import canonical_weights as canonical
    from espnet_ext.features.packed_encoder import PackedEncoder

    torch.manual_seed(0)
    expert = make_s3prl(args.layers, folder)
    architecture, weights = canonical.from_fairseq(expert.model, "benchmark")
    # s3prl's and the exact upstream share tensors, which the latter may rearrange.
    weights = {name: tensor.clone() for name, tensor in weights.items()}
    expert = expert.to(args.device)

    def make_ours(**precision):
        return PackedEncoder(architecture, weights, True, **precision).to(args.device)

    bf16 = torch.bfloat16
    fast, rough = make_ours(), make_ours(compute=bf16)
    rougher = make_ours(compute=bf16, convolutions=bf16)
    config = transformers.HubertConfig(**canonical.to_huggingface_config(architecture))
    theirs = transformers.HubertModel(config).eval().to(args.device)
    waves = [w.to(args.device) for w in draw_waves(args.utterances, args.seed)]

    def packed(model):
        batch, total = [], 0
        for i, wave in enumerate(waves):
            batch.append(wave)
            total += len(wave)
            if total > args.batch_seconds * RATE or i + 1 == len(waves):
                for _ in model.states(batch, architecture.num_hidden_layers):
                    pass
                batch, total = [], 0

    @torch.no_grad()
    def s3prl_padded():
        for i in range(0, len(waves), 8):
            expert(waves[i : i + 8])

    @torch.no_grad()
    def transformers_single():
        for wave in waves:
            theirs(F.layer_norm(wave, wave.shape)[None], output_hidden_states=True)

    return (
        {
            "packed fp32": lambda: packed(fast),
            "packed bf16": lambda: packed(rough),
            "packed bf16 with bf16 convolutions": lambda: packed(rougher),
            SINGLE: transformers_single,
            PADDED: s3prl_padded,
        },
        flops(architecture, waves),
        waves,
    )


def main():
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--utterances", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=2, help="of the lengths")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--batch_seconds", type=float, help="60, on a GPU 240")
    args = parser.parse_args()
    args.batch_seconds = args.batch_seconds or (60 if args.device == "cpu" else 240)
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        runs, operations, waves = _make_runs(args, folder)
    seconds = sum(map(len, waves)) / RATE
    clock = Clock(args.device)
    taken = {name: [] for name in runs}
    shares = {name: [] for name in runs}
    order = np.random.default_rng(0)
    for number in range(args.rounds):
        for name in order.permutation(list(runs)).tolist():
            dtype = torch.bfloat16 if "bf16" in name else torch.float32
            before = matrix_peak(dtype, clock)
            start = clock.now()
            runs[name]()
            taken[name].append(clock.now() - start)
            peak = (before + matrix_peak(dtype, clock)) / 2
            shares[name].append(operations / taken[name][-1] / 1e9 / peak)
            print(
                f"round {number + 1}, {name}: {taken[name][-1]:.1f} s, "
                f"peak {peak:.0f} GFLOP/s",
                file=sys.stderr,
            )
    where = (
        f"{args.threads} thread(s), CPU time"
        if args.device == "cpu"
        else f"{torch.cuda.get_device_name()}, wall time"
    )
    print(
        f"{args.utterances} utterances, {seconds:.0f} s of speech, {args.layers} "
        f"layers, {where}, torch {torch.__version__}, "
        f"{operations / 1e9:.0f} GFLOP, medians of {args.rounds} rounds"
    )
    print(
        f"padded batches of 8 compute {_padding(waves):.2f} x the samples (2.1 x in "
        "the long run of such lengths)"
    )
    print(
        "| path | s | times real time | speed against s3prl (least to most) | "
        "against transformers | share of torch's peak in this precision |"
    )
    print("|-|-|-|-|-|-|")
    for name in runs:
        middle = statistics.median(taken[name])
        print(
            f"| {name} | {middle:.1f} | {seconds / middle:.1f} | "
            f"{_ratio(taken[PADDED], taken[name])} | "
            f"{_ratio(taken[SINGLE], taken[name])} | "
            f"{100 * statistics.median(shares[name]):.0f} % |"
        )


def _padding(waves):
    """Samples in padded batches of 8, relative to those of the waveforms."""
    batches = [[len(w) for w in waves[i : i + 8]] for i in range(0, len(waves), 8)]
    return sum(len(b) * max(b) for b in batches) / sum(map(sum, batches))


def _ratio(slow, fast):
    """Median, least and most of the ratios within rounds."""
    ratios = [a / b for a, b in zip(slow, fast, strict=True)]
    middle = statistics.median(ratios)
    return f"{middle:.2f} x ({min(ratios):.2f} to {max(ratios):.2f})"


if __name__ == "__main__":
    main()
