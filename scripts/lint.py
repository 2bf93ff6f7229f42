"""Check the code."""
