"""The fit of a model: its estimator, its validation rows, its metrics over time, and the search of its parameters."""
