"""The example model: whether a flight from New York will arrive more than 15 minutes late."""
