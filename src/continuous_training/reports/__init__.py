"""The report of a run: `run_documents` reads its documents, `outcome` sums them up, `page` renders them."""
