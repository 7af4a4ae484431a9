"""Random models of transformers, small ones and of the large architecture's shape."""

import torch
from transformers import (
    HubertConfig,
    HubertModel,
    PreTrainedModel,
    Wav2Vec2Config,
    Wav2Vec2Model,
    WavLMConfig,
    WavLMModel,
)

FAMILIES = {
    "hubert": (HubertConfig, HubertModel),
    "wav2vec2": (Wav2Vec2Config, Wav2Vec2Model),
    "wavlm": (WavLMConfig, WavLMModel),
}
SMALL = {
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "conv_dim": [32] * 7,
}
# HuBERT-large, WavLM-large and wav2vec 2.0 large but for the number of layers: 24 of
# them are 300M parameters, and each is the same code.
LARGE = {
    "hidden_size": 1024,
    "num_hidden_layers": 2,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
}
FORMS = {
    "layer": {
        "feat_extract_norm": "layer",
        "do_stable_layer_norm": True,
        "conv_bias": True,
    },
    "group": {"feat_extract_norm": "group", "do_stable_layer_norm": False},
}


def random_model(family: str, form: str, shape: dict, seed: int = 0) -> PreTrainedModel:
    """Make a model whose norms, biases and attention are far from trivial."""
    config_class, model_class = FAMILIES[family]
    torch.manual_seed(seed)
    model = model_class(config_class(**shape, **FORMS[form])).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter += 0.1 * torch.randn_like(parameter)
            elif parameter.dim() == 2:
                parameter *= 2
    return model


def random_waves(lengths: tuple[int, ...], seed: int = 1) -> list[torch.Tensor]:
    """Make noise of different levels; (n,) each."""
    generator = torch.Generator().manual_seed(seed)
    return [
        (0.02 + 0.03 * i) * torch.randn(n, generator=generator)
        for i, n in enumerate(lengths)
    ]


@torch.no_grad()
def reference_states(model: PreTrainedModel, wave: torch.Tensor) -> torch.Tensor:
    """Hidden states of one utterance alone, by transformers: (L, T, D).

    In s3prl's count: the last one is taken after the final norm, which transformers'
    `hidden_states` of pre-norm models is not.
    """
    output = model(wave[None], output_hidden_states=True)
    states = [*output.hidden_states[:-1], output.last_hidden_state]
    return torch.cat(states)


def worst_frame(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest relative L2 error of a frame, over all states."""
    assert found.shape == expected.shape
    error = (found - expected).norm(dim=-1) / expected.norm(dim=-1)
    return error.max().item()
