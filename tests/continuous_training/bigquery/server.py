"""What stands for BigQuery in tests: somebody else's emulator, which was held against the real service's answers.

It is run in an environment of its own, and left without what it would fetch from beyond this machine.
"""

from bqemulator.cli import main
from bqemulator.storage.engine import DuckDBEngine

for fetched in ("_load_spatial", "_load_format_extensions"):
    setattr(DuckDBEngine, fetched, lambda _: None)
main()
