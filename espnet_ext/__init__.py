"""Joint discrete and continuous speech emotion recognition on ESPnet."""

from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import `SpeechEmotion` when it is asked for: it brings torch."""
    if name == "SpeechEmotion":
        from espnet_ext.inference import SpeechEmotion

        return SpeechEmotion
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
