"""The model of most tests: a classifier of events that are late or not."""
