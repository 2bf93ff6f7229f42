"""The example model: predicts whether a flight from New York arrives more than 15 minutes late."""
