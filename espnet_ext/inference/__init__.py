"""Use a trained model on any recording: `SpeechEmotion` and what it answers.

Importing this is instant; torch and ESPnet come with the first model. It also makes
the task ``ser`` known to ``espnet.load``.
"""

import importlib
from typing import TYPE_CHECKING, Any

from espnet import TASKS

if TYPE_CHECKING:
    from espnet_ext.inference.emotion import SpeechEmotion
    from espnet_ext.inference.results import EmotionResult, Failure
    from espnet_ext.inference.timeline import Segment, Timeline

__all__ = ["EmotionResult", "Failure", "Segment", "SpeechEmotion", "Timeline"]

_HOMES = {
    "SpeechEmotion": "emotion",
    "EmotionResult": "results",
    "Failure": "results",
    "Segment": "timeline",
    "Timeline": "timeline",
}

TASKS["ser"] = (__name__, "SpeechEmotion")


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
