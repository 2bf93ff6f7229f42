"""The comparison of the candidate with the champion: `comparison` runs both on the fresh rows, `rules` decide."""
