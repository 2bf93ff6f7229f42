"""The steps that a local run supports, by subject."""
