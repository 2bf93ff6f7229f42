"""Versions of a model: how one is loaded, and the golden predictions that verify it."""
