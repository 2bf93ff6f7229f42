"""What a snapshot of very many rows costs, beside pandas with all of them in memory: seconds, and memory at its peak.

.venv/bin/python tests/benchmarks/snapshot.py                 # a million rows and ten: minutes, and gigabytes of disk
.venv/bin/python tests/benchmarks/snapshot.py --rows 100000 --more 1000000

From DuckDB, and from a PostgreSQL of this machine, under its own address and as Redshift is asked. Each is a process of
its own. The snapshot is `scripts/snapshot.py`, from its start to its end; its rows have 22 columns, as the example's.
pandas.read_sql runs the same query in one go, and writes what came to Parquet files.
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
SINCE, FRESH, UNTIL = "2020-01-01", "2020-03-01", "2020-03-15"
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
    """Measure each in a process of its own, and print what it took."""
    parser = argparse.ArgumentParser(description=str(__doc__), formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--more", type=int, default=10_000_000)
    parser.add_argument("--process", choices=["snapshot", "pandas"], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.process:
        {"snapshot": _snapshot, "pandas": _pandas}[given.process]()
        Path("peak").write_text(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
        return

    from postgresql import Postgresql

    with tempfile.TemporaryDirectory() as folder, Postgresql() as server:
        os.chdir(folder)
        found = {rows: _measured(rows, server.url, peer=rows == given.rows) for rows in (given.rows, given.more)}
    _print(found, given.rows, given.more)


def _measured(rows: int, postgresql: str, *, peer: bool) -> dict[str, dict[str, Any]]:
    """Fill both warehouses with so many rows, and fetch them in each way."""
    import duckdb
    import psycopg

    from toy import a_run

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
    a_run().model_copy(update={"model": "many", "as_of": datetime.fromisoformat(UNTIL)}).write()
    found = {}
    redshift = postgresql.replace("postgresql://", "redshift://")
    for name, url in (("DuckDB", "duckdb://events.duckdb"), ("PostgreSQL", postgresql), ("as Redshift", redshift)):
        found[name] = _process("snapshot", url)
        found[name]["hash"] = json.loads(Path("build/snapshot.json").read_text())["hash"]
        for path in Path(".ct/snapshots").glob("*/*"):
            path.unlink()
        if peer and name != "as Redshift":
            found[f"pandas, {name}"] = _process("pandas", url)
    return found


def _process(name: str, url: str) -> dict[str, Any]:
    began = time.perf_counter()
    command = [sys.executable, str(Path(__file__).resolve()), "--process", name]
    environment = os.environ | {"CT_WAREHOUSE_URL": url}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    seconds = time.perf_counter() - began
    if done.returncode:
        sys.exit(f"{name} failed: {done.stderr.strip()}")
    print(f"{name} of {url.partition(':')[0]}: {seconds:.1f} s", file=sys.stderr, flush=True)
    return {"seconds": seconds, "peak": int(Path("peak").read_text()) / 1024}


def _snapshot() -> None:
    sys.argv = ["snapshot.py"]
    try:
        runpy.run_path(str(ROOT / "scripts" / "snapshot.py"), run_name="__main__")
    except SystemExit as ended:
        if ended.code:
            raise


def _pandas() -> None:
    import warnings

    import duckdb
    import pandas as pd
    import psycopg

    url = os.environ["CT_WAREHOUSE_URL"]
    connection: Any = psycopg.connect(url) if url.startswith("postgresql") else duckdb.connect("events.duckdb")
    with warnings.catch_warnings(action="ignore"):  # that it is tested with SQLAlchemy only
        rows = pd.read_sql(QUERY.format(since=f"'{SINCE}'", until=f"'{UNTIL}'"), connection)
    fresh = rows["seen"] >= FRESH
    rows[fresh].to_parquet("fresh.parquet")
    rows[~fresh].to_parquet("train.parquet")


def _print(found: dict[int, dict[str, dict[str, Any]]], few: int, many: int) -> None:
    print(f"{'':<24}{'rows':>12}{'seconds':>10}{'MB at peak':>12}")
    for rows, ways in found.items():
        for name, one in ways.items():
            print(f"{name:<24}{rows:>12,}{one['seconds']:>10.1f}{one['peak']:>12.0f}")
    print()
    for name in ("DuckDB", "PostgreSQL"):
        ours, theirs = found[few][name], found[few][f"pandas, {name}"]
        print(
            f"{name}, {few:,} rows: {ours['peak'] / theirs['peak']:.2f} of pandas' memory, "
            f"{ours['seconds'] / theirs['seconds']:.2f} of its seconds"
        )
    for rows, ways in found.items():
        hashes = {one["hash"] for one in ways.values() if "hash" in one}
        print(f"{rows:,} rows: " + ("the same hash from all" if len(hashes) == 1 else "ANOTHER HASH"))
    most = max(one["peak"] for one in found[many].values())
    print(f"{many:,} rows: {most:.0f} MB at most, {'below' if most < LIMIT else 'NOT BELOW'} {LIMIT}")


if __name__ == "__main__":
    main()
