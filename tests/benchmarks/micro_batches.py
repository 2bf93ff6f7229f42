"""What micro-batches gain for a model of each framework: requests per second of one client and of many.

.venv/bin/python tests/benchmarks/micro_batches.py # after `scripts/ct test`, which installs the frameworks

Each server has two workers, and each request one row. A model whose call for many rows takes as long as for one gains
most. A framework whose threads competed with the other worker's would have fewer requests per second with many clients.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1] / "continuous_training"))  # as pytest does

from serving_faults import workspace

import load_generator
from conftest import align
from framework_models import INSTALLED, use
from load_generator import Load
from pipeline import Pipeline
from server_faults import MonitoredServer
from toy import events

if TYPE_CHECKING:
    import pytest

SCIKIT_LEARN = "scikit-learn"
CLIENTS = 64
ROWS = 300
PRECISION = 1e-5  # of a network's probabilities: it predicts a batch in another order than single rows
HEADER = ("framework", "1 client", f"{CLIENTS} clients", "gain", "rows in a call", "wrong")


def main() -> int:
    """Print a line for each framework; return 1 if a prediction was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8, help="of load in each measurement (default: %(default)s)")
    seconds = parser.parse_args().seconds
    load_generator.TOLERANCE = PRECISION
    lines, wrong = [HEADER], 0
    for model in (SCIKIT_LEARN, *INSTALLED):
        with workspace() as patch:
            line, errors = measure(model, seconds, patch)
        lines.append(line)
        wrong += errors
        print(f"{model} is measured", file=sys.stderr)
    print("\n".join(align(lines)))
    return 1 if wrong else 0


def measure(model: str, seconds: float, patch: pytest.MonkeyPatch) -> tuple[tuple[str, ...], int]:
    """Return the line of the table for a model, and how many of its predictions were wrong."""
    if model != SCIKIT_LEARN:
        use(model, patch)
    Pipeline(patch).promote(compare=False)
    frame = events()[["shade", "x", "y"]].head(ROWS)
    values = frame.astype(object).to_numpy().tolist()
    rows = {
        "columns": list(frame.columns),
        "data": [[None if pd.isna(value) else value for value in row] for row in values],
    }
    with MonitoredServer() as server:
        server.wait_for_version("1")
        expected = {"1": server.invoke(dataframe_split=rows).json()["predictions"]}
        rates, wrong = [], 0
        for clients in (1, CLIENTS):
            before = [server.read_metric(f"ct_call_rows_{name}") for name in ("sum", "count")]
            with Load(server.url, rows, expected, connections=clients) as load:
                load.wait_for_predictions(clients)
                start, first = time.monotonic(), load.counts.predictions
                time.sleep(seconds)
                rates.append((load.counts.predictions - first) / (time.monotonic() - start))
            wrong += load.counts.wrong + load.counts.failed
            after = [server.read_metric(f"ct_call_rows_{name}") for name in ("sum", "count")]
    rows_in_call = (after[0] - before[0]) / (after[1] - before[1])
    numbers = f"{rates[0]:,.0f}", f"{rates[1]:,.0f}", f"{rates[1] / rates[0]:.1f}", f"{rows_in_call:.1f}"
    return (model, *numbers, str(wrong)), wrong


if __name__ == "__main__":
    sys.exit(main())
