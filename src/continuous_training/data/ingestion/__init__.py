"""Ingestion: sync an Airbyte source into tables of the warehouse."""
