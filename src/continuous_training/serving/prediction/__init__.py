"""From a checked request to predictions: which version predicts, and in which call of its model."""
