"""Where the training entry point runs: each module offers `train`, with the same arguments and the same result."""

AVAILABLE = ("local",)
