"""Extraction speed on the large architecture with random weights.

Compares the packed path with what people use: s3prl in padded batches of 8 (what
ESPnet's S3prlFrontend runs), and transformers one utterance at a time. All take the
same utterances (log-normal durations, mean 4.5 s, 1 to 20 s) and are interleaved, so
that a busy machine slows all of them; the median of the rounds counts. The machine's
own matrix-product peak is measured in between.

    python benchmarks/features_extraction.py --utterances 24 --rounds 3

Fewer --layers make a quick look; the convolutions then weigh more than in 24.
"""

import argparse
import dataclasses
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

RATE = 16000


def draw_waves(count, seed=0):
    """Draw waveforms of realistic lengths."""
    rng = np.random.default_rng(seed)
    seconds = np.clip(rng.lognormal(np.log(4.5) - 0.5 * 0.6**2, 0.6, count), 1, 20)
    generator = torch.Generator().manual_seed(seed)
    return [0.1 * torch.randn(int(s * RATE), generator=generator) for s in seconds]


def matrix_peak(dtype):
    """GFLOP/s of a product of the feed-forward layer's shape."""
    a, b = torch.randn(2048, 1024).to(dtype), torch.randn(1024, 4096).to(dtype)
    torch.mm(a, b)
    start = time.perf_counter()
    for _ in range(5):
        torch.mm(a, b)
    return 5 * 2 * 2048 * 1024 * 4096 / (time.perf_counter() - start) / 1e9


def flops(architecture, waves):
    """Operations of the linear layers, the convolutions and the attention."""
    total = 0
    for wave in waves:
        n, width = len(wave), 1
        for channels, kernel, stride in architecture.conv_layers:
            n = (n - kernel) // stride + 1
            total += 2 * n * channels * width * kernel
            width = channels
        hidden = architecture.hidden
        total += 2 * n * width * hidden
        total += (
            2
            * n
            * hidden
            * hidden
            // architecture.pos_groups
            * (architecture.pos_kernel)
        )
        layer = 4 * hidden * hidden + 2 * hidden * architecture.ffn + 2 * n * hidden
        total += 2 * n * layer * architecture.layers
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

    from espnet_ext.features import convert
    from espnet_ext.features.packed import PackedUpstream

    torch.manual_seed(0)
    expert = make_s3prl(args.layers, folder)
    architecture, weights = convert.from_fairseq(expert.model, "benchmark")
    fast = PackedUpstream(architecture, weights, normalize=True)
    rough = PackedUpstream(
        architecture, weights, normalize=True, compute=torch.bfloat16
    )
    config = transformers.HubertConfig(**convert.to_huggingface_config(architecture))
    theirs = transformers.HubertModel(config).eval()
    waves = draw_waves(args.utterances)

    def packed(model):
        batch, total = [], 0
        for i, wave in enumerate(waves):
            batch.append(wave)
            total += len(wave)
            if total > args.batch_seconds * RATE or i + 1 == len(waves):
                for _ in model.states(batch, architecture.layers):
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
            "transformers, one at a time": transformers_single,
            "s3prl, padded batches of 8": s3prl_padded,
        },
        flops(architecture, waves),
        sum(map(len, waves)) / RATE,
    )


def main():
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--utterances", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch_seconds", type=float, default=60)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        runs, operations, seconds = _make_runs(args, folder)
    times = {name: [] for name in runs}
    peaks = {"fp32": [], "bf16": []}
    for _ in range(args.rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
            peaks["fp32"].append(matrix_peak(torch.float32))
            peaks["bf16"].append(matrix_peak(torch.bfloat16))
    print(
        f"{args.utterances} utterances, {seconds:.0f} s of speech, {args.layers} "
        f"layers, {args.threads} thread(s), torch {torch.__version__}, "
        f"{operations / 1e9:.0f} GFLOP"
    )
    print("| path | s | x real time | packed fp32 is | share of the fp32 peak |")
    print("|-|-|-|-|-|")
    base = statistics.median(times["packed fp32"])
    peak = statistics.median(peaks["fp32"])
    for name, values in times.items():
        middle = statistics.median(values)
        share = operations / middle / 1e9 / peak
        print(
            f"| {name} | {middle:.1f} | {seconds / middle:.1f} | "
            f"{middle / base:.2f} x as fast | {100 * share:.0f} % |"
        )
    bf16 = statistics.median(peaks["bf16"])
    print(f"matrix products: {peak:.0f} GFLOP/s in fp32, {bf16:.0f} in bf16")


if __name__ == "__main__":
    main()
