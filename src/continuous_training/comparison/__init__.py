"""The comparison of two models: `comparison` brings both before the same rows, `rules` says what follows from it."""
