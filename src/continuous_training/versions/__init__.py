"""Versions of a model: how one is packed and signed, downloaded, examined and loaded. README.md has the format."""
