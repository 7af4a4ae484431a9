"""Corpus readers, data directories, class maps and splits."""
