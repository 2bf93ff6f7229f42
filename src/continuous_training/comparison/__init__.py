"""The comparison of two models: `contest` brings both before the same rows, `rules` says what follows from it."""
