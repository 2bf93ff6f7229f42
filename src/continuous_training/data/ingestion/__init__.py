"""New rows come into the warehouse: a source of Airbyte's is synced into its tables."""
