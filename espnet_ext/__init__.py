"""Joint discrete and continuous speech emotion recognition on ESPnet."""

__version__ = "0.1.0"
