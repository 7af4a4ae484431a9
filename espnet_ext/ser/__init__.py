"""The paper: pooling, decoder, losses and the ESPnet model."""
