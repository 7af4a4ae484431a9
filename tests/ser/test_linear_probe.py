import pytest
import torch
from s3prl.nn.common import UtteranceLevel

from espnet_ext.encoders.linear_probe import LinearEncoder, MeanPoolingDecoder


def test_equals_the_benchmark_s_own_model():
    torch.manual_seed(0)
    theirs = UtteranceLevel(12, 4, hidden_sizes=[6]).eval()
    encoder, decoder = LinearEncoder(12, 6), MeanPoolingDecoder(6, 4)
    linears = [m for m in theirs.modules() if isinstance(m, torch.nn.Linear)]
    encoder.linear.load_state_dict(linears[0].state_dict())
    decoder.output.load_state_dict(linears[1].state_dict())
    features = torch.randn(3, 9, 12)
    lengths = torch.tensor([9, 4, 1])
    hidden, out_lengths, _ = encoder(features, lengths)
    logits = decoder(hidden, out_lengths).logits
    torch.testing.assert_close(logits, theirs(features, lengths))


def test_padding_weighs_nothing():
    decoder = MeanPoolingDecoder(5, 3)
    hidden = torch.randn(2, 8, 5)
    lengths = torch.tensor([8, 3])
    output = decoder(hidden, lengths)
    hidden[1, 3:] = 1e6
    again = decoder(hidden, lengths)
    torch.testing.assert_close(again.logits, output.logits)
    assert output.attributes is None
    weights = output.attention["discrete"]
    assert weights.shape == (2, 1, 8)
    assert weights.sum(dim=-1).flatten().tolist() == pytest.approx([1.0, 1.0])
    torch.testing.assert_close(output.embeddings["discrete"][0], hidden[0].mean(dim=0))
