"""The cost of a snapshot of many rows, compared with pandas with all rows in memory: seconds and peak memory.

.venv/bin/python tests/benchmarks/snapshot.py                 # one and ten million rows: minutes, and gigabytes of disk
.venv/bin/python tests/benchmarks/snapshot.py --rows 100000 --more 1000000

The warehouses are DuckDB and a local PostgreSQL server, with a URL of PostgreSQL and with one of Redshift. Each
measurement is a separate process. The snapshot is the whole `scripts/snapshot.py`; its rows have 22 columns, like those
of the example. pandas.read_sql fetches the result of the same query at once, and writes it to Parquet files.
"""

from __future__ import annotations

import argparse
import json
import os
import runpy
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "continuous_training"))  # as pytest does

ROOT = Path(__file__).parents[2]
LIMIT = 500  # MB
NUMBERS = [f"number_{place}" for place in range(15)]
CATEGORIES = {"place": 16, "product": 100, "customer": 300, "kind": 3}
DAYS = {"train": 60, "fresh": 14}
SECONDS = sum(DAYS.values()) * 24 * 60 * 60
SINCE, FRESH_SINCE, UNTIL = "2020-01-01", "2020-03-01", "2020-03-15"
ROWS = f"""
    SELECT i AS id, TIMESTAMP '{SINCE}' + (i * 6151 % {SECONDS}) * INTERVAL '1' SECOND AS seen, i % 3 = 0 AS late,
           {", ".join(f"'{name} ' || CAST(i % {count} AS TEXT) AS {name}" for name, count in CATEGORIES.items())},
           {", ".join(f"(i * {7919 + place} % 1000003) / 1e5 AS {name}" for place, name in enumerate(NUMBERS))}
    FROM (SELECT CAST(n AS BIGINT) AS i FROM generate_series(1, {{rows}}) AS series(n)) AS numbers
"""
QUERY = "SELECT * FROM events WHERE seen >= {since} AND seen < {until}"
TRAINING = f"""
warehouse: duckdb://events.duckdb
data:
  time: seen
  target: late
  key: [id]
  train_days: {DAYS["train"]}
  fresh_days: {DAYS["fresh"]}
  query: {QUERY.format(since="$since", until="$until")}
  columns:
    id: {{type: integer, feature: false}}
    seen: {{type: timestamp, feature: false}}
    late: {{type: boolean, feature: false}}
{"".join(f"    {name}: {{type: category}}{chr(10)}" for name in CATEGORIES)}
{"".join(f"    {name}: {{type: number}}{chr(10)}" for name in NUMBERS)}
model: {{task: classification}}
compare: {{metric: roc_auc, first: {{roc_auc: 0.6}}}}
"""


def main() -> None:
    """Measure each program in a separate process, and print the results."""
    parser = argparse.ArgumentParser(description=str(__doc__), formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--more", type=int, default=10_000_000)
    parser.add_argument("--process", choices=["snapshot", "pandas"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.process:
        {"snapshot": _snapshot, "pandas": _pandas}[options.process]()
        Path("peak").write_text(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
        return

    from postgresql import Postgresql

    with tempfile.TemporaryDirectory() as folder, Postgresql() as server:
        os.chdir(folder)
        results = {
            rows: _measure(rows, server.url, compare=rows == options.rows) for rows in (options.rows, options.more)
        }
    _print(results, options.rows, options.more)


def _measure(rows: int, postgresql: str, *, compare: bool) -> dict[str, dict[str, Any]]:
    """Fill both warehouses with events; measure their snapshots, and pandas if `compare` is set."""
    import duckdb
    import psycopg

    from toy import make_run

    Path("events.duckdb").unlink(missing_ok=True)
    with duckdb.connect("events.duckdb") as connection:
        connection.execute("CREATE TABLE events AS" + ROWS.format(rows=rows))
    with psycopg.connect(postgresql, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS events")
        connection.execute("CREATE UNLOGGED TABLE events AS" + ROWS.format(rows=rows).replace("1e5", "1e5::float8"))  # type: ignore[arg-type]
        connection.execute("VACUUM ANALYZE events")
    package = Path("src/many")
    package.mkdir(parents=True, exist_ok=True)
    (package / "training.yaml").write_text(TRAINING)
    make_run().model_copy(update={"model": "many", "as_of": datetime.fromisoformat(UNTIL)}).write()
    results = {}
    redshift = postgresql.replace("postgresql://", "redshift://")
    for name, url in (("DuckDB", "duckdb://events.duckdb"), ("PostgreSQL", postgresql), ("Redshift", redshift)):
        results[name] = _run_process("snapshot", url)
        results[name]["hash"] = json.loads(Path("build/snapshot.json").read_text())["hash"]
        for path in Path(".ct/snapshots").glob("*/*"):
            path.unlink()
        if compare and name != "Redshift":
            results[f"pandas, {name}"] = _run_process("pandas", url)
    return results


def _run_process(name: str, url: str) -> dict[str, Any]:
    start = time.perf_counter()
    command = [sys.executable, str(Path(__file__).resolve()), "--process", name]
    environment = os.environ | {"CT_WAREHOUSE_URL": url}
    process = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    seconds = time.perf_counter() - start
    if process.returncode:
        sys.exit(f"{name} failed: {process.stderr.strip()}")
    print(f"{name} of {url.partition(':')[0]}: {seconds:.1f} s", file=sys.stderr, flush=True)
    return {"seconds": seconds, "peak": int(Path("peak").read_text()) / 1024}


def _snapshot() -> None:
    sys.argv = ["snapshot.py"]
    try:
        runpy.run_path(str(ROOT / "scripts" / "snapshot.py"), run_name="__main__")
    except SystemExit as exit_:
        if exit_.code:
            raise


def _pandas() -> None:
    import warnings

    import duckdb
    import pandas as pd
    import psycopg

    url = os.environ["CT_WAREHOUSE_URL"]
    connection: Any = psycopg.connect(url) if url.startswith("postgresql") else duckdb.connect("events.duckdb")
    with warnings.catch_warnings(action="ignore"):  # pandas warns that it is tested with SQLAlchemy only
        rows = pd.read_sql(QUERY.format(since=f"'{SINCE}'", until=f"'{UNTIL}'"), connection)
    fresh = rows["seen"] >= FRESH_SINCE
    rows[fresh].to_parquet("fresh.parquet")
    rows[~fresh].to_parquet("train.parquet")


def _print(results: dict[int, dict[str, dict[str, Any]]], few: int, many: int) -> None:
    print(f"{'':<24}{'rows':>12}{'seconds':>10}{'peak MB':>12}")
    for rows, by_program in results.items():
        for name, result in by_program.items():
            print(f"{name:<24}{rows:>12,}{result['seconds']:>10.1f}{result['peak']:>12.0f}")
    print()
    for name in ("DuckDB", "PostgreSQL"):
        snapshot, pandas = results[few][name], results[few][f"pandas, {name}"]
        print(
            f"{name}, {few:,} rows: {snapshot['peak'] / pandas['peak']:.2f} of pandas' memory, "
            f"{snapshot['seconds'] / pandas['seconds']:.2f} of its seconds"
        )
    for rows, by_program in results.items():
        hashes = {result["hash"] for result in by_program.values() if "hash" in result}
        print(f"{rows:,} rows: " + ("the same hash from all" if len(hashes) == 1 else "DIFFERENT HASHES"))
    peak = max(result["peak"] for result in results[many].values())
    print(f"{many:,} rows: at most {peak:.0f} MB, {'below' if peak < LIMIT else 'NOT BELOW'} {LIMIT}")


if __name__ == "__main__":
    main()
