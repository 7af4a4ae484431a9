"""Batches, datasets and the trainer."""
