"""`SpeechEmotion`: a trained model that takes recordings and answers `EmotionResult`.

The numbers are those of ``predictions.csv``: the same reading of audio, the same
features rounded as a store rounds them, and the same function behind them
(`train.inference.predict_utterances`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from espnet_ext.attributes import ATTRIBUTES
from espnet_ext.corpora.audio import RATE
from espnet_ext.errors import UserError
from espnet_ext.inference.calibrate import apply_temperature
from espnet_ext.inference.ensemble import member_files, spread_of
from espnet_ext.inference.info import ModelInfo, describe_experiment, read_info
from espnet_ext.inference.package import model_files
from espnet_ext.inference.results import EmotionResult, Failure
from espnet_ext.inference.sources import Source, name_of, open_source
from espnet_ext.inference.speech import FRAME, frame_levels, is_speech
from espnet_ext.inference.timeline import Timeline, Windows, make_timeline
from espnet_ext.train.prediction import UtterancePrediction

if TYPE_CHECKING:
    from espnet_ext.features.config import FeatureConfig
    from espnet_ext.inference.network import Network
    from espnet_ext.inference.onnx_model import OnnxNetwork
    from espnet_ext.ser.model import ESPnetSERModel

LONGEST = 1800  # seconds of one answer: attention over more takes too long
BATCH = 8  # windows of a timeline that are computed together

Errors = Literal["raise", "return"]


class SpeechEmotion:
    """A trained model, ready for recordings. Threads may share it: one computes.

    The first two arguments and `ser_info` are the files of a package, under the names
    that its ``meta.yaml`` gives them.

    Args:
        ser_train_config: ``config.yaml`` of the training.
        ser_model_file: Its parameters. Of an ensemble a folder of several, or a list:
            answers are then means over its members, with their `spread`.
        upstream: Name or folder that replaces the upstream's name. Other weights than
            those of the training are then warned of, not refused.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``.
        dtype: What the upstream computes in. ``float32`` is what the training's
            features were computed in (unless their config names another), and gives
            its numbers; ``bfloat16`` is faster where the hardware has it. What follows
            the upstream and all answers are float.
        ser_info: ``ser_info.yaml`` of a package; without it `ser_train_config` lies in
            the folder of a finished training.
        scores: ``raw`` as in ``predictions.csv``, or ``calibrated``: with the
            temperature that was fitted on the validation set when it was packed.

    Raises:
        UserError: A file is missing, damaged or does not fit; names it.

    Attributes:
        longest: Seconds of one answer.
        models: What computes behind the upstream; several in an ensemble.
    """

    longest: int = LONGEST
    _network: "Network | OnnxNetwork"

    def __init__(
        self,
        ser_train_config: Path | str,
        ser_model_file: Path | str | Sequence[Path | str],
        upstream: Path | str | None = None,
        device: str = "auto",
        dtype: str = "float32",
        ser_info: Path | str | None = None,
        scores: Literal["raw", "calibrated"] = "raw",
    ) -> None:
        # Late, as all of torch here: an exported model (`onnx_model`) needs none.
        from espnet_ext.inference.network import Network
        from espnet_ext.tasks.config import (
            check_config,
            check_model_config,
            read_config,
        )
        from espnet_ext.tasks.model import PACKED_KEYS

        config = read_config(ser_train_config)
        # A package may be anybody's; only what ser pack writes is known to be read.
        known = ser_info is None or config.keys() <= {*PACKED_KEYS}
        (check_model_config if known else check_config)(config, [ser_train_config])
        self.info = (
            describe_experiment(config, Path(ser_train_config).parent)
            if ser_info is None
            else read_info(ser_info)
        )
        if list(self.info.classes) != config.get("class_list"):
            raise UserError(f"{ser_info}: classes are not those of {ser_train_config}")
        self.temperature = find_temperature(self.info, scores)
        files = member_files(ser_model_file)
        if len(files) != max(1, len(self.info.members)) and ser_info is not None:
            raise UserError(
                f"{ser_info} tells of {len(self.info.members)} members, but "
                f"{ser_model_file} has {len(files)}"
            )
        self._network = Network(
            config,
            Path(ser_train_config),
            files,
            self.info,
            None if upstream is None else str(upstream),
            device,
            dtype,
        )

    @classmethod
    def from_pretrained(
        cls,
        tag_or_folder_or_zip: Path | str,
        device: str = "auto",
        upstream: Path | str | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
        dtype: str = "float32",
        scores: Literal["raw", "calibrated"] = "raw",
    ) -> "SpeechEmotion":
        """Load a package (zip or folder), the folder of a training, or a Hub tag.

        Args:
            tag_or_folder_or_zip: ``OWNER/NAME`` on the Hugging Face Hub, a training's
                folder, or a package.
            device: As in the constructor.
            upstream: As in the constructor.
            revision: Branch, tag or commit on the Hub.
            local_files_only: Never ask the network for the model.
            dtype: As in the constructor.
            scores: As in the constructor.

        Raises:
            UserError: It is none of these, or damaged.
        """
        with model_files(
            tag_or_folder_or_zip, revision, local_files_only=local_files_only
        ) as files:
            if "ser_onnx_file" in files:
                from espnet_ext.inference.onnx_model import OnnxSpeechEmotion

                return OnnxSpeechEmotion(
                    **files,
                    upstream=upstream,
                    device=device,
                    dtype=dtype,
                    scores=scores,
                )
            if upstream is not None:
                files["upstream"] = str(upstream)
            return cls(**files, device=device, dtype=dtype, scores=scores)

    def __call__(
        self,
        audio: Any,
        sampling_rate: int | None = None,
        start: float | None = None,
        end: float | None = None,
        errors: Errors = "raise",
        embeddings: bool = False,
    ) -> Any:
        """Answer about a recording, or about each of a list of recordings.

        Args:
            audio: A path, bytes, binary file object, array or tensor (with
                `sampling_rate`) or mapping, see `sources.open_source`; or a list.
            sampling_rate: Samples a second of an array.
            start: Seconds; what is before is left out.
            end: Seconds; what is behind is left out.
            errors: ``return`` gives a `Failure` in the place of an unusable recording.
            embeddings: Give E_D and E_C too.

        Returns:
            An `EmotionResult` (or `Failure`), or a list of them in the same order.

        Raises:
            UserError: A recording cannot be used and `errors` is ``raise``.
        """
        if errors not in ("raise", "return"):
            raise UserError(f"errors is {errors!r}; raise or return")
        if isinstance(audio, list | tuple) and not _is_numbers(audio):
            return [
                self(item, sampling_rate, start, end, errors, embeddings)
                for item in audio
            ]
        try:
            with open_source(audio, sampling_rate) as source:
                return self._answer(source, start, end, embeddings)
        except (UserError, OSError) as error:
            if errors == "raise":
                raise
            return Failure(name_of(audio), str(error))

    def timeline(
        self,
        audio: Any,
        window: float = 4.0,
        hop: float = 1.0,
        sampling_rate: int | None = None,
    ) -> Timeline:
        """Follow the emotion through a recording of any length, in little memory.

        Each window of `window` seconds gets an answer; each step of `hop` seconds the
        mean of the windows over it. Steps without speech are ``no_speech``.

        Args:
            audio: As in a call.
            window: Seconds that the model sees at a time.
            hop: Seconds between windows, at most `window`.
            sampling_rate: Samples a second of an array.

        Raises:
            UserError: The recording cannot be used.
        """
        # Seconds are compared before they are rounded: NaN has no whole number.
        least = self._network.min_samples / RATE
        if not least <= hop <= window <= self.longest:
            raise UserError(
                f"window {window:g} s and hop {hop:g} s: {least:g} <= hop <= window "
                f"<= {self.longest}"
            )
        size, step = round(window * RATE), round(hop * RATE)
        with open_source(audio, sampling_rate) as source:
            levels, total = _measure(source.blocks())
            self._check_length(source.name, total)
            plan = Windows(total, size, step, is_speech(levels))
            answers = self._predict_windows(plan.cut(source.blocks()))
            return make_timeline(source.name, plan, answers, self.labels, self.scale)

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the logits."""
        return self.info.labels()

    @property
    def scale(self) -> tuple[float, float] | None:
        """Ends of the attributes' scale."""
        return self.info.scale

    @property
    def model(self) -> "ESPnetSERModel":
        """The model behind the upstream; of an ensemble the first (`models`)."""
        return self._network.models[0]

    @property
    def models(self) -> "list[ESPnetSERModel]":
        """The members of an ensemble; else one."""
        return self._network.models

    @property
    def features(self) -> "FeatureConfig":
        """What the upstream computes."""
        return self._network.features

    @property
    def device(self) -> str:
        """Where it computes."""
        return self._network.device

    def _answer(
        self, source: Source, start: float | None, end: float | None, embeddings: bool
    ) -> EmotionResult:
        if start is None and end is None and source.seconds() > self.longest:
            raise UserError(_too_long(source.name, source.seconds(), self.longest))
        wave = source.load(start, end)  # (n,)
        if len(wave) > self.longest * RATE:
            raise UserError(_too_long(source.name, len(wave) / RATE, self.longest))
        self._check_length(source.name, len(wave))
        (prediction,) = self._predict([wave])
        notes = self._network.notes
        result = _make_result(source.name, wave, prediction, self.info, notes)
        return result if embeddings else replace(result, embeddings=None)

    def _check_length(self, name: str, samples: int) -> None:
        """Raise UserError if a recording is shorter than a frame of the features."""
        least = self._network.min_samples
        if samples < least:
            raise UserError(
                f"{name}: {samples / RATE:.4f} s of sound; at least "
                f"{least / RATE:.3f} s are needed"
            )

    def _predict_windows(
        self, windows: Iterator[tuple[int, np.ndarray]]
    ) -> Iterator[tuple[int, UtterancePrediction]]:
        """Predict windows, some at a time."""
        for batch in _batches(windows):
            answers = self._predict([wave for _, wave in batch])
            yield from zip((number for number, _ in batch), answers, strict=True)

    def _predict(self, waves: Sequence[np.ndarray]) -> list[UtterancePrediction]:
        """Predict waveforms (n,) together."""
        answers = self._network.predict(waves)
        return [_calibrated(answer, self.temperature) for answer in answers]


def _make_result(
    name: str,
    wave: np.ndarray,
    prediction: UtterancePrediction,
    info: ModelInfo,
    notes: Sequence[str],
) -> EmotionResult:
    """Put together what is known of a waveform (n,)."""
    seconds = len(wave) / RATE
    speech = float(is_speech(frame_levels(wave)).mean())
    scores, values = None, prediction.attributes
    if prediction.probabilities is not None:
        numbers = prediction.probabilities.tolist()
        scores = dict(zip(info.labels(), numbers, strict=True))
    return EmotionResult(
        source=name,
        seconds=seconds,
        label=None if scores is None else max(scores, key=lambda name: scores[name]),
        scores=scores,
        **{
            attribute: None if values is None else float(values[i])
            for i, attribute in enumerate(ATTRIBUTES)
        },
        scale=None if values is None else info.scale,
        speech=speech,
        warnings=(*notes, *_doubts(info, seconds, speech)),
        attention=prediction.attention,
        embeddings=prediction.embeddings,
        spread=spread_of(prediction, info.labels()),
    )


def _doubts(info: ModelInfo, seconds: float, speech: float) -> Iterator[str]:
    """Say what makes an answer doubtful."""
    if speech == 0:
        yield "no speech: nothing is loud enough; the answer means nothing"
    elif speech < 0.1:
        yield f"hardly any speech ({speech:.0%} of the time)"
    if info.clips is None:
        return
    shortest, longest = info.clips
    if seconds < shortest:
        yield f"shorter than any training clip ({seconds:.2f} s < {shortest:.2f} s)"
    if seconds > longest:
        yield (
            f"longer than any training clip ({seconds:.1f} s > {longest:.1f} s); "
            "see timeline"
        )


def _batches(
    windows: Iterator[tuple[int, np.ndarray]],
) -> Iterator[list[tuple[int, np.ndarray]]]:
    batch: list[tuple[int, np.ndarray]] = []
    for window in windows:
        batch.append(window)
        if len(batch) == BATCH or len(batch[0][1]) > 30 * RATE:
            yield batch
            batch = []
    if batch:
        yield batch


def find_temperature(info: ModelInfo, scores: str) -> float:
    """Return what the logits are divided by for ``raw`` or ``calibrated`` scores.

    Raises:
        UserError: `scores` is neither, or the model has no calibration.
    """
    if scores not in ("raw", "calibrated"):
        raise UserError(f"scores is {scores!r}; raw or calibrated")
    if scores == "raw":
        return 1.0
    if info.calibration is None:
        raise UserError("this model was packed without a calibration")
    return info.calibration.temperature


def _calibrated(answer: UtterancePrediction, temperature: float) -> UtterancePrediction:
    if temperature == 1.0 or answer.probabilities is None:
        return answer
    mended = apply_temperature(answer.probabilities, temperature)
    return replace(answer, probabilities=mended)


def _is_numbers(values: Sequence[Any]) -> bool:
    return bool(values) and all(isinstance(v, int | float) for v in values[:10])


def _too_long(name: str, seconds: float, longest: int) -> str:
    return (
        f"{name}: {seconds / 60:.0f} minutes; one answer covers {longest // 60} at "
        "most. Give start and end, or use timeline"
    )


def _measure(blocks: Iterator[np.ndarray]) -> tuple[np.ndarray, int]:
    """Level of each 20 ms frame of a stream, and its number of samples."""
    rest, total = np.zeros(0, np.float32), 0
    levels = []
    for block in blocks:
        total += len(block)
        joined = np.concatenate([rest, block])
        whole = len(joined) - len(joined) % FRAME
        levels.append(frame_levels(joined[:whole]))
        rest = joined[whole:]
    return np.concatenate([*levels, frame_levels(rest)]), total
