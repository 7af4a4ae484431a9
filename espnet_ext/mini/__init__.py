"""Generators of the built-in corpora and of the tiny HuBERT checkpoint."""
