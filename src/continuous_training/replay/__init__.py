"""Replay: the past months' runs once more, and what the gate was worth in each of them."""
