"""Continuous training on Jenkins; README.md in this folder has the map of the modules."""
