"""A version of a model: how it is loaded, and the predictions that prove it."""
