"""Encoders beside the paper: ESPnet's conformer made faster, and a linear probe."""
