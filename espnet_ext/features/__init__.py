"""Frozen upstreams, exact feature extraction and the feature store."""
