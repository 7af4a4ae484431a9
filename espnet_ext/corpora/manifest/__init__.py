"""A corpus as a file: manifests of recordings, read, checked, split and written."""
