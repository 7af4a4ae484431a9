"""The first ten minutes on a GPU: are its numbers right, and what is it worth?

Compares a GPU with the CPU of the same machine: frozen features in each precision, a
training step's loss and gradient, features that stay on the GPU, and distributed
training. Then the speed of each, against torch's own matrix products where that says
something. Weights and data are random, of HuBERT-large's size. A line begins with
``ok`` or ``BAD`` where there is something to be right; the status is 1 if one is bad.

    python benchmarks/gpu_check.py                        # everything, ten minutes
    python benchmarks/gpu_check.py training_numbers ddp   # parts of it
    python benchmarks/gpu_check.py --device cpu --small   # a dry run without a GPU
"""

import argparse
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import transformers
from features_extraction import draw_seconds, flops

from espnet_ext.features.canonical_weights import from_huggingface
from espnet_ext.features.resident import ResidentFeatures
from espnet_ext.features.upstream import ExactUpstream
from espnet_ext.tasks.ser import SERTask
from espnet_ext.train.dataset import collate

ROOT = Path(__file__).resolve().parents[1]
COMPUTE = {"float32": 2e-5, "bfloat16": 2e-2, "bfloat16_all": 4e-2}  # worst frame
CLASSES = "neu ang hap sad dis"


@dataclass
class Check:
    """What is checked where, and whether all was well so far."""

    device: str
    small: bool
    failed: bool = False

    @property
    def states(self) -> int:
        """Hidden states of the features that trainings read."""
        return 3 if self.small else 25

    @property
    def width(self) -> int:
        """Their dimension."""
        return 64 if self.small else 1024

    def synchronize(self) -> None:
        """Wait until the GPU has done what it was given."""
        if self.device == "cuda":
            torch.cuda.synchronize()

    def seconds(self, call: Callable[[], object], rounds: int = 3) -> float:
        """Median time of a call, after one that warms up."""
        call()
        taken = []
        for _ in range(rounds):
            self.synchronize()
            start = time.perf_counter()
            call()
            self.synchronize()
            taken.append(time.perf_counter() - start)
        return statistics.median(taken)

    def compare(self, name: str, error: float, bound: float) -> None:
        """Print an error, and whether it is small enough."""
        self.failed |= not error < bound
        verdict = "ok " if error < bound else "BAD"
        print(f"{verdict} {name}: off by {error:.1e}, at most {bound:.0e}", flush=True)


def make_upstream(check: Check, compute: str) -> ExactUpstream:
    """A randomly initialized HuBERT-large, the same at each call."""
    size = {"hidden_size": 1024, "num_attention_heads": 16, "intermediate_size": 4096}
    layers = 24
    if check.small:
        size = {"hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 128}
        size["conv_dim"] = [32] * 7
        layers = 2
    torch.manual_seed(0)
    config = transformers.HubertConfig(
        **size,
        num_hidden_layers=layers,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
        conv_bias=True,
    )
    model = transformers.HubertModel(config)
    parts = from_huggingface(config.to_dict(), model.state_dict(), "random")
    return ExactUpstream(*parts, True, compute)


def make_waves(seconds: Sequence[float]) -> list[torch.Tensor]:
    """Noise of the given lengths at 16 kHz."""
    draw = torch.Generator().manual_seed(0)
    return [0.1 * torch.randn(int(16000 * s), generator=draw) for s in seconds]


def worst_frame(found: list[torch.Tensor], expected: list[torch.Tensor]) -> float:
    """Largest relative distance of a frame: max |x - y| / |y|."""
    return max(
        ((x.cpu() - y.cpu()).norm(dim=-1) / y.cpu().norm(dim=-1)).max().item()
        for x, y in zip(found, expected, strict=True)
    )


def extraction_numbers(check: Check) -> None:
    """Features on the device against those of the CPU in fp32, alone and in a batch."""
    waves = make_waves((4, 3.5, 3.1, 1.2, 6))
    reference = make_upstream(check, "float32")
    states = range(reference.num_states)
    expected = reference.extract(waves, states, torch.float32)
    there = [wave.to(check.device) for wave in waves]
    for compute, bound in COMPUTE.items():
        upstream = make_upstream(check, compute).to(check.device)
        found = upstream.extract(there, states, torch.float32)
        check.compare(f"{compute} features", worst_frame(found, expected), bound)
        alone = upstream.extract(there[1:2], states, torch.float32)
        error = worst_frame(alone, found[1:2])
        check.compare(f"{compute} features alone and in a batch", error, bound)


def extraction_speed(check: Check) -> None:
    """Seconds of speech a second, and the share of torch's own matrix products."""
    draw = np.random.default_rng(0)
    total = 4 if check.small else 240
    batches = []
    for _ in range(2):
        lengths: list[float] = []
        while sum(lengths) < total:
            lengths.append(float(draw_seconds(1, draw)[0]))
        batches.append([wave.to(check.device) for wave in make_waves(lengths)])
    for compute in COMPUTE:
        dtype = torch.float32 if compute == "float32" else torch.bfloat16
        rows = 32768 if check.device == "cuda" else 32
        left = torch.randn(rows, 1024, device=check.device, dtype=dtype)
        right = torch.randn(1024, 4096, device=check.device, dtype=dtype)
        times = 20 if check.device == "cuda" else 1
        product = check.seconds(
            lambda x=left, y=right, n=times: [x @ y for _ in range(n)]
        )
        peak = 2 * times * rows * 1024 * 4096 / product
        upstream = make_upstream(check, compute).to(check.device)
        states = range(upstream.num_states)
        upstream.extract(batches[0], states, torch.float16)
        check.synchronize()
        start = time.perf_counter()
        upstream.extract(batches[1], states, torch.float16)
        check.synchronize()
        first = time.perf_counter() - start
        again = check.seconds(
            lambda u=upstream, s=states: u.extract(batches[1], s, torch.float16)
        )
        work = flops(upstream.architecture, batches[1]) / again
        print(
            f"    {compute}: new lengths {first:.3f} s, again {again:.3f} s: "
            f"{total / again:.0f} s of speech a second, {work / 1e12:.1f} TFLOP/s, "
            f"{100 * work / peak:.0f} % of a matrix product's",
            flush=True,
        )


def make_model(
    check: Check, name: str = "hierarchical_dc", **options: object
) -> tuple[torch.nn.Module, argparse.Namespace]:
    """A model of the paper at full size, without dropout unless `options` say so."""
    with tempfile.TemporaryDirectory() as folder:
        classes = Path(folder, "classes")
        classes.write_text(CLASSES)
        args = SERTask.get_parser().parse_args(
            [
                *("--config", str(ROOT / f"conf/train_{name}.yaml")),
                *("--output_dir", folder, "--class_list", str(classes)),
            ]
        )
        args.frontend_conf = {"input_size": check.width, "num_layers": check.states}
        for part, conf in (("encoder", args.encoder_conf), ("", args.decoder_conf)):
            rates = ["dropout_rate"]
            if part:
                rates += ["positional_dropout_rate", "attention_dropout_rate"]
            conf.update(dict.fromkeys(rates, 0.0))
        for key, value in options.items():
            setattr(args, key, value)
        torch.manual_seed(0)
        return SERTask.build_model(args).train(), args


def make_batch(check: Check, rows: int, frames: int) -> dict[str, torch.Tensor]:
    """Random features with labels; the shortest row has half of the frames."""
    draw = torch.Generator().manual_seed(0)
    lengths = torch.tensor([frames - i * frames // (2 * rows) for i in range(rows)])
    shape = (rows, frames, check.states, check.width)
    speech = torch.randn(shape, generator=draw).half()  # (B, T, L, D)
    for row, length in enumerate(lengths):
        speech[row, length:] = 0
    return {
        "speech": speech,
        "speech_lengths": lengths,
        "emotion": torch.randint(0, 5, (rows, 1), generator=draw),
        "attributes": 1 + 4 * torch.rand(rows, 3, generator=draw),
    }


def loss_and_gradient(
    model: torch.nn.Module,
    batch: dict[str, torch.Tensor],
    device: str,
    dtype: torch.dtype = torch.float32,
) -> tuple[float, torch.Tensor]:
    """One step's loss and all gradients as one vector, under autocast to `dtype`."""
    model.to(device).zero_grad()
    batch = {name: value.to(device) for name, value in batch.items()}
    with torch.autocast(device, dtype=dtype, enabled=dtype != torch.float32):
        loss = model(**batch)[0]
    loss.sum().backward()
    parts = [p.grad.flatten().cpu() for p in model.parameters() if p.grad is not None]
    return loss.item(), torch.cat(parts)


def distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Relative L2."""
    return ((found - expected).norm() / expected.norm()).item()


def training_numbers(check: Check) -> None:
    """A step's gradient on the device against the CPU's, also under autocast."""
    batch = make_batch(check, 16, 128)
    _, expected = loss_and_gradient(make_model(check)[0], batch, "cpu")
    kinds = {"fp32": (torch.float32, 1e-3), "bf16": (torch.bfloat16, 0.2)}
    if check.device == "cuda":
        kinds["fp16"] = (torch.float16, 0.2)
    for name, (dtype, bound) in kinds.items():
        model, _ = make_model(check)
        _, found = loss_and_gradient(model, batch, check.device, dtype)
        check.compare(f"gradient in {name}", distance(found, expected), bound)


def training_speed(check: Check) -> None:
    """Milliseconds a step in fp32 and with AMP, and what long batches need."""
    steps, frames = (2, 64) if check.small else (20, 256)
    batch = {k: v.to(check.device) for k, v in make_batch(check, 16, frames).items()}
    for dtype in (torch.float32, torch.bfloat16):
        model, args = make_model(check)
        model.to(check.device)
        (optimizer,) = SERTask.build_optimizers(args, model=model)

        def run(model=model, optimizer=optimizer, dtype=dtype):
            amp = dtype != torch.float32
            for _ in range(steps):
                with torch.autocast(check.device, dtype=dtype, enabled=amp):
                    loss = model(**batch)[0]
                loss.sum().backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
                optimizer.step()
                optimizer.zero_grad()

        taken = check.seconds(run) / steps
        print(f"    {dtype}: {1e3 * taken:.1f} ms a step of 16 rows of {frames} frames")
    if check.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        batch = make_batch(check, 16, 1700)
        loss_and_gradient(make_model(check)[0], batch, check.device)
        peak = torch.cuda.max_memory_allocated() / 2**30
        print(f"    16 rows of 34 s: {peak:.1f} GB at most")


class RandomStore:
    """As many utterances of one content as `ResidentFeatures` asks for."""

    def __init__(self, check: Check) -> None:
        shape = (300, check.states, check.width)  # (T, L, D)
        draw = np.random.default_rng(0)
        self.content = draw.standard_normal(shape).astype(np.float16)

    def __getitem__(self, utterance: str) -> np.ndarray:
        return self.content

    def num_frames(self, utterance: str) -> int:
        """Frames of any utterance."""
        return len(self.content)


def residency(check: Check) -> None:
    """Features that stay on the device: unchanged, and how fast they get there."""
    store = RandomStore(check)
    names = [f"u{n}" for n in range(16 if check.small else 200)]
    start = time.perf_counter()
    resident = ResidentFeatures(store, names, torch.device(check.device), "test")
    check.synchronize()
    taken = time.perf_counter() - start
    same = torch.equal(resident["u1"].cpu(), torch.from_numpy(store.content))
    check.compare("resident features", 0.0 if same else 1.0, 1e-9)
    size = len(names) * store.content.nbytes
    rows = [(name, {"speech": resident[name]}) for name in names[:16]]
    batch = check.seconds(lambda: collate(rows))
    print(
        f"    loaded at {size / taken / 1e9:.2f} GB/s, a batch in {1e3 * batch:.1f} ms"
    )


def run_rank(
    rank: int, check: Check, port: int, backend: str, world: int, place: str
) -> None:
    """One rank of `ddp`: its rows of the batch; rank 0 saves loss and gradient."""
    address = f"tcp://127.0.0.1:{port}"
    dist.init_process_group(backend, address, rank=rank, world_size=world)
    model, _ = make_model(check, conv_norm="layer")
    devices = [0] if check.device == "cuda" else None
    wrapped = torch.nn.parallel.DistributedDataParallel(
        model.to(check.device), device_ids=devices
    )
    batch = {k: v[rank::world] for k, v in make_batch(check, 15, 64).items()}
    batch["speech"] = batch["speech"][:, : int(batch["speech_lengths"].max())]
    found = loss_and_gradient(wrapped, batch, check.device)
    if rank == 0:
        torch.save(found, place)
    dist.barrier()
    dist.destroy_process_group()


def ddp(check: Check) -> None:
    """Loss and gradient over ranks against one process: NCCL, and gloo with two."""
    batch = make_batch(check, 15, 64)
    model, _ = make_model(check, conv_norm="layer")
    loss, expected = loss_and_gradient(model, batch, check.device)
    kinds = [("gloo", 2)]  # two ranks can share one GPU with gloo only
    if check.device == "cuda":
        kinds.append(("nccl", 1))
    for backend, world in kinds:
        with socket.socket() as probe, tempfile.NamedTemporaryFile() as file:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
            probe.close()
            torch.multiprocessing.spawn(
                run_rank, (check, port, backend, world, file.name), world
            )
            its_loss, found = torch.load(file.name)
        error = max(distance(found, expected), abs(its_loss - loss))
        check.compare(f"{world} ranks over {backend}", error, 1e-3)


PARTS = {
    part.__name__: part
    for part in (
        *(extraction_numbers, training_numbers, residency, ddp),
        *(training_speed, extraction_speed),
    )
}


def main() -> None:
    """Run the parts that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {list(PARTS)}")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--small", action="store_true", help="tiny models, as a trial")
    args = parser.parse_args()
    check = Check(args.device, args.small)
    name = torch.cuda.get_device_name() if args.device == "cuda" else "CPU"
    print(f"torch {torch.__version__}, {name}")
    for part in args.parts or PARTS:
        start = time.perf_counter()
        print(f"{part}: {PARTS[part].__doc__}", flush=True)
        try:
            PARTS[part](check)
        except RuntimeError as error:  # the other parts are worth seeing too
            check.failed = True
            print(f"BAD {part}: {error}")
        print(f"    {time.perf_counter() - start:.0f} s", flush=True)
    sys.exit(int(check.failed))


if __name__ == "__main__":
    main()
