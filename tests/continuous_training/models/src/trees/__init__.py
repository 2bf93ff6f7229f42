"""A model that skops does not trust by itself."""
