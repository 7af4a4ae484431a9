"""ESPnetSERModel: features to emotion, and the loss that ESPnet's trainer asks for."""

from collections.abc import Sequence

import torch
from espnet2.asr.encoder.abs_encoder import AbsEncoder
from espnet2.asr.frontend.abs_frontend import AbsFrontend
from espnet2.asr.preencoder.abs_preencoder import AbsPreEncoder
from espnet2.asr.specaug.abs_specaug import AbsSpecAug
from espnet2.layers.abs_normalize import AbsNormalize
from espnet2.torch_utils.device_funcs import force_gatherable
from espnet2.train.abs_espnet_model import AbsESPnetModel
from torch import Tensor

from espnet_ext.attributes import ATTRIBUTES
from espnet_ext.ser.decoder import EmotionDecoder, EmotionOutput
from espnet_ext.ser.distributed import gather_rows
from espnet_ext.ser.losses import MISSING_CLASS, JointLoss, at_least_float32
from espnet_ext.ser.pooling import frame_mask


class ESPnetSERModel(AbsESPnetModel):
    """Frontend, specaug, normalize, preencoder, encoder, decoder, loss, in that order.

    Names in `class_list` are in the order of the logits.
    """

    def __init__(
        self,
        frontend: AbsFrontend,
        specaug: AbsSpecAug | None,
        normalize: AbsNormalize | None,
        preencoder: AbsPreEncoder | None,
        encoder: AbsEncoder,
        decoder: EmotionDecoder,
        loss: JointLoss,
        class_list: list[str],
    ) -> None:
        super().__init__()
        self.frontend = frontend
        self.specaug = specaug
        self.normalize = normalize
        self.preencoder = preencoder
        self.encoder = encoder
        self.decoder = decoder
        self.loss = loss
        self.class_list = list(class_list)

    def forward(
        self,
        speech: Tensor | Sequence[Tensor],
        speech_lengths: Tensor,
        emotion: Tensor | None = None,
        attributes: Tensor | None = None,
        **_ignored: object,
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Return loss, statistics and weight of a batch, as ESPnet's trainer wants.

        In distributed training they are those of the global batch on every rank.

        Args:
            speech: (B, T, D), (B, T, L, D) features or (B, n) audio, zero-padded; or
                B arrays (T, L, D) of hidden states as they are.
            speech_lengths: (B,) true lengths.
            emotion: (B, 1) class, -1 where missing; None if nobody has one.
            attributes: (B, 3) valence, arousal, dominance, nan where missing.
            **_ignored: ``utt_id`` of ESPnet's trainer.
        """
        output = self.predict(speech, speech_lengths)
        classes, targets = self.fill_labels(len(speech_lengths), emotion, attributes)
        logits, predicted = output.logits, output.attributes
        if self.training:
            logits, predicted, classes, targets = _global_batch(
                logits, predicted, classes, targets
            )
        parts = self.loss(logits, predicted, classes, targets)
        stats = {"loss": parts.total.detach().clone(), **parts.stats}
        if logits is not None:
            # A row without a class is never right; nan without a single class.
            correct = (logits.argmax(dim=-1) == classes).sum()
            stats["acc"] = correct / (classes != MISSING_CLASS).sum()
        # Without a single label in the data there is nothing to report in any batch.
        unlabeled = ["acc", "loss_emotion"] if emotion is None else []
        unlabeled += [f"loss_{n}" for n in ATTRIBUTES] if attributes is None else []
        stats = {name: v for name, v in stats.items() if name not in unlabeled}
        # Made where the loss is: to move a number there would wait for the GPU.
        weight = torch.full((1,), len(targets), device=targets.device)
        return force_gatherable((parts.total, stats, weight), targets.device)

    def predict(
        self,
        speech: Tensor | Sequence[Tensor],
        speech_lengths: Tensor,
        **_ignored: object,
    ) -> EmotionOutput:
        """Predict from a batch; arguments as in `forward`."""
        feats, lengths = self.extract_feats(speech, speech_lengths)  # (B, T, D)
        return self.decode(*self.encode(feats, lengths))

    def extract_feats(
        self, speech: Tensor | Sequence[Tensor], speech_lengths: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the frontend's features (B, T, D) and their lengths (B,)."""
        return self.frontend(speech, speech_lengths)

    def encode(self, feats: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return the encoder output (B, M, D) of features, and its lengths (B,)."""
        # Features are float32 at most, a model may be float64.
        feats = feats.to(next(self.decoder.parameters()).dtype)
        if self.specaug is not None and self.training:
            feats, lengths = self.specaug(feats, lengths)
        if self.normalize is not None:
            feats, lengths = self.normalize(feats, lengths)
        if self.preencoder is not None:
            feats, lengths = self.preencoder(feats, lengths)  # (B, T, 80)
        # ESPnet would make the mask from the lengths, and wait for the GPU to tell the
        # longest.
        padding = ~frame_mask(lengths, feats.size(1))  # (B, T)
        hidden, lengths, _ = self.encoder(feats, lengths, masks=padding)  # (B, M, 64)
        return hidden, lengths

    def decode(self, hidden: Tensor, lengths: Tensor) -> EmotionOutput:
        """Predict from the encoder output, in at least float32 also under autocast."""
        with torch.autocast(hidden.device.type, enabled=False):
            return self.decoder(at_least_float32(hidden), lengths)

    def collect_feats(
        self,
        speech: Tensor | Sequence[Tensor],
        speech_lengths: Tensor,
        **_ignored: object,
    ) -> dict[str, Tensor]:
        """Return what ESPnet's collect_stats stage accumulates."""
        feats, lengths = self.extract_feats(speech, speech_lengths)
        return {"feats": feats, "feats_lengths": lengths}

    def fill_labels(
        self, num_rows: int, emotion: Tensor | None, attributes: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return classes (B,) and attribute targets (B, 3); missing kinds filled."""
        device = next(self.decoder.parameters()).device
        if emotion is None:
            emotion = torch.full((num_rows,), MISSING_CLASS, device=device)
        if attributes is None:
            attributes = torch.full(
                (num_rows, len(ATTRIBUTES)), float("nan"), device=device
            )
        return emotion.view(num_rows), at_least_float32(attributes)


def _global_batch(
    logits: Tensor | None, attributes: Tensor | None, classes: Tensor, targets: Tensor
) -> tuple[Tensor | None, Tensor | None, Tensor, Tensor]:
    """Gather predictions and labels of all ranks in one go."""
    columns = (logits, attributes, classes[:, None], targets)
    there = [at_least_float32(column) for column in columns if column is not None]
    packed = torch.cat(there, dim=1)  # (n, C), of the widest type
    sizes = [0 if column is None else column.size(1) for column in columns]
    of_all = gather_rows(packed).split(sizes, dim=1)
    return (
        None if logits is None else of_all[0],
        None if attributes is None else of_all[1],
        of_all[2][:, 0].long(),
        of_all[3],
    )
