"""Replay of past months: the monthly runs again, and what the gate was worth compared with other policies."""
