"""Warehouses on servers: Ibis' backends, but for what they would do there that whoever only reads may not."""
