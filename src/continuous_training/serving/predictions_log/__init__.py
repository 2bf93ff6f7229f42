"""The predictions log: `writer` queues predictions, `journal` keeps them on disk and moves them to their storage."""
