"""The paper: pooling, decoder, losses and the ESPnet model."""

from torch import nn

from espnet_ext.ser.decoder import EmotionDecoder
from espnet_ext.ser.losses import JointLoss

# What `decoder:` and `loss:` of a training configuration may name.
DECODERS: dict[str, type[nn.Module]] = {"emotion": EmotionDecoder}
LOSSES: dict[str, type[nn.Module]] = {"joint": JointLoss}
