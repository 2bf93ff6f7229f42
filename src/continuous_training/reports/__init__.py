"""The report of a run: `found` gathers its documents, `outcome` says what became of it, `page` shows it all."""
