"""The checks of a snapshot, by subject. Each function returns one check, or a list of them."""

EXAMPLES = 5  # failing rows in each check
