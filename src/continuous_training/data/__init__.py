"""Data: the warehouse and its backends, and ingestion into it."""
