"""BigQuery for tests: a third-party emulator, which its authors compared with the real service.

It runs in a separate environment, without the DuckDB extensions that it would download.
"""

from bqemulator.cli import main
from bqemulator.storage.engine import DuckDBEngine

for loader in ("_load_spatial", "_load_format_extensions"):
    setattr(DuckDBEngine, loader, lambda _: None)
main()
