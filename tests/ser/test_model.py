"""The whole model: padding, batch mates, labels, precision; ESPnet's encoder inside."""

import copy

import pytest
import torch
from espnet2.asr.encoder.conformer_encoder import ConformerEncoder
from espnet2.asr.preencoder.linear import LinearProjection

from espnet_ext.encoders.frame_norm import FrameLayerNorm, replace_batch_norm
from espnet_ext.features.frontend import CachedFeatures
from espnet_ext.ser.decoder import EmotionDecoder
from espnet_ext.ser.losses import JointLoss
from espnet_ext.ser.model import ESPnetSERModel

CLASSES = ["neu", "ang", "hap", "sad", "dis"]
NAN = float("nan")


def build(hierarchy="dc", dropout=0.1, layers=3, conv_norm="batch", seed=0, **decoder):
    torch.manual_seed(seed)
    encoder = ConformerEncoder(
        input_size=8,
        input_layer="linear",
        output_size=16,
        linear_units=16,
        attention_heads=2,
        num_blocks=2,
        cnn_module_kernel=7,
        macaron_style=True,
        rel_pos_type="latest",
        dropout_rate=dropout,
        positional_dropout_rate=dropout,
    )
    if conv_norm == "layer":
        replace_batch_norm(encoder)
    return ESPnetSERModel(
        frontend=CachedFeatures(12, layers),
        specaug=None,
        normalize=None,
        preencoder=LinearProjection(12, 8),
        encoder=encoder,
        decoder=EmotionDecoder(
            16, 5, hierarchy=hierarchy, dropout_rate=dropout, **decoder
        ),
        loss=JointLoss(),
        class_list=CLASSES,
    )


def batch(rows=6, layers=3, seed=1):
    torch.manual_seed(seed)
    lengths = torch.randint(5, 40, (rows,))
    speech = torch.zeros(rows, int(lengths.max()), layers, 12, dtype=torch.float16)
    for row, length in enumerate(lengths):
        speech[row, :length] = torch.randn(int(length), layers, 12).half()
    return {
        "speech": speech,
        "speech_lengths": lengths,
        "emotion": torch.randint(0, 5, (rows, 1)),
        "attributes": torch.rand(rows, 3) * 4 + 1,
    }


def freeze_norms(model):
    """Train, but with BatchNorm's running statistics."""
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.eval()
    return model


def gradients(model, data):
    model.zero_grad()
    loss, _, _ = model(**data)
    loss.backward()
    return {n: p.grad.clone() for n, p in model.named_parameters()}


def take(data, rows):
    data = {name: values[rows] for name, values in data.items()}
    data["speech"] = data["speech"][:, : int(data["speech_lengths"].max())]
    return data


@pytest.mark.parametrize("hierarchy", ["none", "dc", "cd", "mutual"])
@pytest.mark.parametrize("conv_norm", ["batch", "layer"])
def test_predictions_do_not_depend_on_padding_or_batch_mates(hierarchy, conv_norm):
    model = build(hierarchy, conv_norm=conv_norm).eval()
    data = batch()
    together = model.predict(data["speech"], data["speech_lengths"])
    for row in range(6):
        alone = take(data, [row])
        single = model.predict(alone["speech"], alone["speech_lengths"])
        for name in ("logits", "attributes"):
            torch.testing.assert_close(
                getattr(single, name)[0],
                getattr(together, name)[row],
                rtol=0,
                atol=1e-5,
            )


def test_the_encoder_is_espnets_own():
    encoder = build().encoder
    assert type(encoder) is ConformerEncoder
    assert any(isinstance(m, torch.nn.BatchNorm1d) for m in encoder.modules())


def test_layer_norm_replaces_every_batch_norm():
    model = build(conv_norm="layer")
    norms = [type(block.conv_module.norm) for block in model.encoder.encoders]
    assert norms == [FrameLayerNorm, FrameLayerNorm]


def test_layer_norm_makes_training_independent_of_rows_without_a_label():
    # With BatchNorm the same comparison fails: its statistics take in all rows.
    for conv_norm, equal in (("layer", True), ("batch", False)):
        model = build(dropout=0.0, conv_norm=conv_norm).double().train()
        model.frontend.float()
        data = batch(8)
        data["emotion"][5:] = -1
        data["attributes"][5:] = NAN
        everything = gradients(model, data)
        labeled = gradients(model, take(data, slice(0, 5)))
        same = all(
            torch.allclose(everything[n], labeled[n], rtol=1e-4, atol=1e-7)
            for n in everything
        )
        assert same == equal


@pytest.mark.parametrize("hierarchy", ["none", "dc", "cd"])
def test_mismatched_labels(hierarchy):
    # Corpus A has classes only, corpus B attributes only, in one batch.
    model = freeze_norms(build(hierarchy, dropout=0.0))
    data = batch(10)
    data["attributes"][:4] = NAN
    data["emotion"][4:] = -1
    both = gradients(model, data)
    only_a = gradients(model, take(data, slice(0, 4)))
    only_b = gradients(model, take(data, slice(4, 10)))
    for name in both:
        torch.testing.assert_close(
            both[name], only_a[name] + only_b[name], rtol=1e-4, atol=1e-6
        )
    of_a, of_b = "decoder.outputs.discrete.weight", "decoder.outputs.continuous.weight"
    assert both[of_a].abs().sum() > 0
    assert both[of_b].abs().sum() > 0
    torch.testing.assert_close(both[of_a], only_a[of_a], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(both[of_b], only_b[of_b], rtol=1e-4, atol=1e-6)


def test_a_whole_kind_of_labels_may_be_missing():
    model = build().train()
    data = batch()
    del data["emotion"]
    loss, stats, weight = model(**data)
    assert loss.isfinite()
    assert "loss_emotion" not in stats
    assert weight.item() == 6
    found = gradients(model, data)
    assert all(g.isfinite().all() for g in found.values())
    assert found["decoder.outputs.discrete.weight"].abs().sum() == 0


def test_the_loss_is_alive_in_a_later_division():
    # ESPnet divides the loss in place; what was reported must not change with it.
    loss, stats, _ = build().train()(**batch())
    before = stats["loss"].clone()
    with torch.no_grad():
        loss /= 2
    assert torch.equal(stats["loss"], before)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_features_of_either_precision(dtype):
    model = build().eval()
    data = batch()
    data["speech"] = data["speech"].to(dtype)
    wide = model.predict(data["speech"].float(), data["speech_lengths"])
    output = model.predict(data["speech"], data["speech_lengths"])
    torch.testing.assert_close(output.logits, wide.logits)


def test_bfloat16_autocast_has_a_full_precision_loss():
    model = build(dropout=0.0).train()
    data = batch(16)
    exact, _, _ = copy.deepcopy(model)(**data)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, _, _ = model(**data)
    assert loss.dtype == torch.float32
    loss.sum().backward()
    assert loss.item() == pytest.approx(exact.item(), abs=0.1)
    assert all(p.grad.isfinite().all() for p in model.parameters())
