"""What a training step asks of the device: no waiting, no outer products, precision.

On torch's meta device nothing has a value, so whatever would make the host wait for a
GPU raises there; code that asks for the device takes the path of a GPU.
"""

import contextlib
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from espnet_ext.encoders import recompute
from espnet_ext.ser.model import ESPnetSERModel
from espnet_ext.tasks.config import merge_configs
from espnet_ext.tasks.ser import SERTask

CONF = Path(__file__).resolve().parents[2] / "conf"
NETWORKS = {*CONF.glob("train_*.yaml")} - {CONF / "train_classical.yaml"}
VARIANTS = {
    **{path.stem: [path] for path in sorted(NETWORKS)},
    **{
        "_".join(path.relative_to(CONF).with_suffix("").parts): [path]
        for path in sorted(CONF.glob("released/*/train_*.yaml"))
    },
    **{
        f"tuning_{path.stem}": [CONF / "train_hierarchical_dc.yaml", path]
        for path in sorted(CONF.glob("tuning/*.yaml"))
    },
}
LAYERS, WIDTH, CLASSES = 3, 12, ["neu", "ang", "hap", "sad", "dis"]
AUTOCAST = {"device_type": "cpu", "dtype": torch.bfloat16}


def build(variant: str) -> ESPnetSERModel:
    """The variant on features of a small size."""
    torch.manual_seed(0)
    args = SERTask.get_parser().parse_args([])
    for name, value in merge_configs(VARIANTS[variant]).items():
        setattr(args, name, value)
    layers = 1 if "last_layer" in variant or "msp_podcast" in variant else LAYERS
    args.class_list = CLASSES
    args.frontend_conf = {"input_size": WIDTH, "num_layers": layers}
    if args.loss_conf.get("class_weights") == "balanced":
        args.loss_conf["class_weights"] = [1.0, 2.0, 3.0, 4.0, 5.0]
    return SERTask.build_model(args).train()


def make_batch(model: ESPnetSERModel, device: str = "cpu") -> dict:
    torch.manual_seed(1)
    lengths = [19, 14, 9, 5]
    shape = (model.frontend.num_layers, WIDTH)
    shape = shape if model.frontend.num_layers > 1 else shape[1:]
    rows = [torch.randn(length, *shape).half().to(device) for length in lengths]
    padded = torch.nn.utils.rnn.pad_sequence(rows, True)
    attributes = torch.rand(4, 3) * 4 + 1
    attributes[1, 0] = float("nan")
    return {
        "speech": rows if model.frontend.num_layers > 1 else padded,
        "speech_lengths": torch.tensor(lengths).to(device),
        "emotion": torch.tensor([[0], [-1], [3], [2]]).to(device),
        "attributes": attributes.to(device),
    }


class Watch(TorchDispatchMode):
    """Record every operation and its inputs' shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, list]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.seen.append((func._schema.name.removeprefix("aten::"), list(args)))
        return func(*args, **(kwargs or {}))


def step(model: ESPnetSERModel, batch: dict) -> None:
    loss, _, _ = model(**batch)
    loss.sum().backward()


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_step_never_waits_for_the_gpu(variant, monkeypatch):
    # The meta device knows no autocast.
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())
    model = build(variant)
    batch = make_batch(model, "meta")
    step(model.to("meta"), batch)
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("variant", ["train_hierarchical_dc", "tuning_layer_norm"])
def test_a_long_batch_keeps_less_and_learns_the_same(variant, monkeypatch):
    """As are the parameters, so are the norms' statistics: bit for bit."""

    def steps():
        model = build(variant)
        batch = make_batch(model)
        kept: dict[int, int] = {}

        def pack(tensor):
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        torch.manual_seed(2)
        for _ in range(2):
            with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
                loss, _, _ = model(**batch)
            loss.sum().backward()
        gradients = {n: p.grad for n, p in model.named_parameters()}
        return gradients | dict(model.named_buffers()), sum(kept.values())

    expected, whole = steps()
    monkeypatch.setattr(recompute, "_LONG", 0)
    found, few = steps()
    assert few < whole / 2
    assert found.keys() == expected.keys()
    for name in expected:
        assert torch.equal(found[name], expected[name]), name


def waits(name: str, args: list) -> bool:
    if name == "index":
        return any(i is not None and i.dtype == torch.bool for i in args[1])
    return name in (
        *("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal"),
        "_unique2",
    )


@pytest.mark.parametrize("variant", VARIANTS)
def test_operations_of_a_step(variant):
    """No waiting, and no product that is compiled at run time on a GPU."""
    model = build(variant)
    batch = make_batch(model)
    with Watch() as watch:
        step(model, batch)
    products = [
        (name, *(tuple(a.shape) for a in args[-2:]))
        for name, args in watch.seen
        if name in ("bmm", "mm", "addmm", "baddbmm")
    ]
    assert products
    assert not [p for p in products if p[1][-1] == 1]
    assert not [name for name, args in watch.seen if waits(name, args)]


def on_bfloat16_grid(values: torch.Tensor) -> bool:
    return bool((values.bfloat16().to(values.dtype) == values).all())


@pytest.mark.parametrize("variant", ["train_hierarchical_dc", "train_linear_probe"])
def test_predictions_keep_their_precision_under_autocast(variant):
    model = build(variant).eval()
    batch = make_batch(model)
    with torch.no_grad(), torch.autocast(**AUTOCAST):
        output = model.predict(**batch)
    for values in (output.logits, output.attributes):
        if values is not None:
            assert values.dtype == torch.float32
            assert not on_bfloat16_grid(values)
