"""`SpeechEmotion`: a trained model that takes recordings and answers `EmotionResult`.

The numbers are those of ``predictions.csv``: the same reading of audio, the same
features rounded as a store rounds them, and the same function behind them
(`train.inference.predict_utterances`).
"""

import argparse
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from espnet_ext.attributes import ATTRIBUTES
from espnet_ext.corpora.audio import RATE
from espnet_ext.errors import UserError
from espnet_ext.inference.calibrate import apply_temperature
from espnet_ext.inference.ensemble import combine, member_files, spread_of
from espnet_ext.inference.info import ModelInfo, describe_experiment, read_info
from espnet_ext.inference.package import model_files
from espnet_ext.inference.results import EmotionResult, Failure
from espnet_ext.inference.sources import Source, name_of, open_source
from espnet_ext.inference.speech import FRAME, frame_levels, is_speech
from espnet_ext.inference.timeline import Timeline, Windows, make_timeline
from espnet_ext.train.prediction import UtterancePrediction

if TYPE_CHECKING:
    from espnet_ext.features.config import FeatureConfig
    from espnet_ext.features.frontend import OnlineUpstream
    from espnet_ext.ser.model import ESPnetSERModel

MIN_SAMPLES = 400  # one frame of the features
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
        ser_info: ``ser_info.yaml`` of a package; without it `ser_train_config` lies in
            the folder of a finished training.
        upstream: Name or folder that replaces the upstream's name. Other weights than
            those of the training are then warned of, not refused.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``.
        scores: ``raw`` as in ``predictions.csv``, or ``calibrated``: with the
            temperature that was fitted on the validation set when it was packed.

    Raises:
        UserError: A file is missing, damaged or does not fit; names it.

    Attributes:
        longest: Seconds of one answer.
        models: What computes behind the upstream; several in an ensemble.
    """

    longest: int = LONGEST

    def __init__(
        self,
        ser_train_config: Path | str,
        ser_model_file: Path | str | Sequence[Path | str],
        ser_info: Path | str | None = None,
        upstream: Path | str | None = None,
        device: str = "auto",
        scores: Literal["raw", "calibrated"] = "raw",
    ) -> None:
        # Late, as all of torch here: an exported model (`onnx_model`) needs none.
        from espnet_ext.tasks.config import check_config, read_config

        self.device = _find_device(device)
        config = read_config(ser_train_config)
        check_config(config, [ser_train_config])
        if not isinstance(config.get("class_list"), list):
            raise UserError(f"{ser_train_config}: class_list is no list of classes")
        self.info = (
            describe_experiment(config, Path(ser_train_config).parent)
            if ser_info is None
            else read_info(ser_info)
        )
        if list(self.info.classes) != config["class_list"]:
            raise UserError(f"{ser_info}: classes are not those of {ser_train_config}")
        self.temperature = find_temperature(self.info, scores)
        self.notes: tuple[str, ...] = ()
        files = member_files(ser_model_file)
        if len(files) != max(1, len(self.info.members)) and ser_info is not None:
            raise UserError(
                f"{ser_info} tells of {len(self.info.members)} members, but "
                f"{ser_model_file} has {len(files)}"
            )
        self.models = [
            _load_model(config, Path(ser_train_config), file) for file in files
        ]
        self._online = self._load_upstream(None if upstream is None else str(upstream))
        self._lock = threading.Lock()

    @classmethod
    def from_pretrained(
        cls,
        model: Path | str,
        device: str = "auto",
        upstream: Path | str | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
        scores: Literal["raw", "calibrated"] = "raw",
    ) -> "SpeechEmotion":
        """Load a package (zip or folder), the folder of a training, or a Hub tag.

        Args:
            model: The package, folder, or ``OWNER/NAME`` on the Hugging Face Hub.
            device: As in the constructor.
            upstream: As in the constructor.
            revision: Branch, tag or commit on the Hub.
            local_files_only: Never ask the network for `model`.
            scores: As in the constructor.

        Raises:
            UserError: It is none of these, or damaged.
        """
        with model_files(model, revision, local_files_only=local_files_only) as files:
            if "ser_onnx_file" in files:
                from espnet_ext.inference.onnx_model import OnnxSpeechEmotion

                return OnnxSpeechEmotion(
                    **files, device=device, upstream=upstream, scores=scores
                )
            if upstream is not None:
                files["upstream"] = str(upstream)
            return cls(**files, device=device, scores=scores)

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
        if not MIN_SAMPLES / RATE <= hop <= window <= self.longest:
            raise UserError(
                f"window {window:g} s and hop {hop:g} s: 0.025 <= hop <= window "
                f"<= {self.longest}"
            )
        size, step = round(window * RATE), round(hop * RATE)
        with open_source(audio, sampling_rate) as source:
            levels, total = _measure(source.blocks())
            if total < MIN_SAMPLES:
                raise UserError(_too_short(source.name, total))
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
        if self.info.scale is None:
            return None
        low, high = self.info.scale
        return low, high

    @property
    def model(self) -> "ESPnetSERModel":
        """The model behind the upstream; of an ensemble the first (`models`)."""
        return self.models[0]

    @property
    def features(self) -> "FeatureConfig":
        """What the upstream computes."""
        return self._online.config

    def _load_upstream(self, upstream: str | None) -> "OnlineUpstream":
        """Load the upstream; its weighted sum of states becomes the model's own."""
        from espnet_ext.features.frontend import OnlineUpstream

        info = self.info
        if isinstance(self.model.frontend, OnlineUpstream):  # trained on raw audio
            online = self.model.frontend
            for model in self.models:
                model.frontend = model.frontend.reduce
            return online
        layer_norm = bool(getattr(self.model.frontend, "layer_norm", False))
        wanted = info.weights or None
        try:
            return OnlineUpstream(info.features, upstream, wanted, layer_norm)
        except UserError as error:
            if upstream is None or "other weights" not in str(error):
                raise
            warnings.warn(str(error), stacklevel=4)
            self.notes = (str(error),)
            return OnlineUpstream(info.features, upstream, None, layer_norm)

    def _answer(
        self, source: Source, start: float | None, end: float | None, embeddings: bool
    ) -> EmotionResult:
        if start is None and end is None and source.seconds() > self.longest:
            raise UserError(_too_long(source.name, source.seconds(), self.longest))
        wave = source.load(start, end)  # (n,)
        if len(wave) > self.longest * RATE:
            raise UserError(_too_long(source.name, len(wave) / RATE, self.longest))
        if len(wave) < MIN_SAMPLES:
            raise UserError(_too_short(source.name, len(wave)))
        (prediction,) = self._predict_calibrated([wave])
        speech = float(is_speech(frame_levels(wave)).mean())
        attributes = prediction.attributes
        result = EmotionResult(
            source=source.name,
            seconds=len(wave) / RATE,
            label=None,
            scores=None,
            **{
                name: None if attributes is None else float(attributes[i])
                for i, name in enumerate(ATTRIBUTES)
            },
            scale=self.scale if attributes is not None else None,
            speech=speech,
            warnings=(*self.notes, *_doubts(self.info, len(wave) / RATE, speech)),
            attention=prediction.attention,
            embeddings=prediction.embeddings if embeddings else None,
            spread=spread_of(prediction, self.labels),
        )
        if prediction.probabilities is None:
            return result
        values = prediction.probabilities.tolist()
        scores = dict(zip(self.labels, values, strict=True))
        return replace(
            result, scores=scores, label=max(scores, key=lambda name: scores[name])
        )

    def _predict_windows(
        self, windows: Iterator[tuple[int, np.ndarray]]
    ) -> Iterator[tuple[int, UtterancePrediction]]:
        """Predict windows, some at a time."""
        for batch in _batches(windows):
            answers = self._predict_calibrated([wave for _, wave in batch])
            yield from zip((number for number, _ in batch), answers, strict=True)

    def _predict_calibrated(
        self, waves: Sequence[np.ndarray]
    ) -> list[UtterancePrediction]:
        return [_calibrated(p, self.temperature) for p in self._predict(waves)]

    def _predict(self, waves: Sequence[np.ndarray]) -> list[UtterancePrediction]:
        """Predict waveforms (n,) together."""
        from espnet_ext.train.inference import predict_utterances

        names = [str(i) for i in range(len(waves))]
        with self._lock:
            speech = dict(zip(names, self._states(waves), strict=True))
            return combine(
                [
                    list(predict_utterances(model, speech, [names], self.device))
                    for model in self.models
                ]
            )

    def _states(self, waves: Sequence[np.ndarray]) -> list[Any]:
        """Compute the upstream's states (T, L, D) or (T, D) of waveforms."""
        import torch

        lengths = torch.tensor([len(wave) for wave in waves])
        padded = torch.zeros(len(waves), int(lengths.max()), device=self.device)
        for row, wave in zip(padded, waves, strict=True):
            row[: len(wave)] = torch.from_numpy(np.array(wave, dtype=np.float32))
        return self._online.states(padded, lengths)[0]


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


def _load_model(
    config: dict[str, Any], path: Path, parameters: Path
) -> "ESPnetSERModel":
    from espnet_ext.tasks.ser import load_parameters

    model = _build_model(config, path)
    try:
        load_parameters(model, parameters)
    except OSError as error:  # torch's word for some cut files
        raise UserError(f"{parameters} cannot be read: {error}") from error
    return model


def _build_model(config: dict[str, Any], path: Path) -> "ESPnetSERModel":
    """Build the model with the defaults of a training for what is left out."""
    from espnet_ext.tasks.ser import SERTask
    from espnet_ext.train.checkpoint import UNREADABLE

    defaults, _ = SERTask.get_parser().parse_known_args([])
    values = {**vars(defaults), **config}
    try:
        with _quiet():
            return SERTask.build_model(argparse.Namespace(**values))
    except UNREADABLE as error:
        raise UserError(f"{path}: no model can be built of it ({error})") from error


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _find_device(device: str) -> str:
    from espnet2.torch_utils.resolve_device import resolve_device

    try:
        return resolve_device(device)
    except ValueError as error:
        raise UserError(f"device: {error}") from None


def _is_numbers(values: Sequence[Any]) -> bool:
    return bool(values) and all(isinstance(v, int | float) for v in values[:10])


def _too_short(name: str, samples: int) -> str:
    return (
        f"{name}: {samples / RATE:.4f} s of sound; at least "
        f"{MIN_SAMPLES / RATE:.3f} s are needed"
    )


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
