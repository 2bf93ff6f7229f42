"""Compare the server with `mlflow models serve`: the same champion, number of workers, machine and load.

.venv/bin/python tests/benchmarks/serving.py # after `scripts/ct run`; needs wrk (Debian's package)
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import requests

from continuous_training.errors import UserError
from continuous_training.registry import connection, model_versions
from continuous_training.settings import STATE

sys.path.insert(0, str(Path(__file__).parents[1] / "continuous_training"))  # as pytest does

from stored_versions import load_estimator, read_golden_predictions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SERVER, MLFLOW, EMPTY = "ct serve", "mlflow", "empty"  # the servers
ROUNDS = 3
SECONDS = 6
CONNECTIONS = {1: 64, 1000: 4}  # their number, by the rows of a request
START_SECONDS = 120  # timeout

LUA = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
local file = io.open("{body}")
wrk.body = file:read("*a")
file:close()
function done(summary, latency)
  local e = summary.errors
  io.write(string.format('{{"requests": %d, "seconds": %f, "p50": %f, "p99": %f, "failed": %d}}\\n', summary.requests,
    summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    e.connect + e.read + e.write + e.status + e.timeout))
end
"""

EMPTY_APP = """
import fastapi, uvicorn
app = fastapi.FastAPI()

@app.post("/invocations")
async def predict():
    return {"predictions": []}
"""


def main() -> None:
    """Print the throughput and latency of each server, and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="flight_delays")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--seconds", type=int, default=SECONDS, help=f"of load in each of {ROUNDS} rounds (default: %(default)s)"
    )
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        raise UserError("wrk, which makes the load, is missing: install the package wrk")
    os.environ["MLFLOW_TRACKING_URI"] = connection.tracking_uri()
    os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // options.workers))  # the same for all servers
    client = connection.open_client()
    champion = model_versions.by_alias(client, options.model, model_versions.CHAMPION)
    if champion is None:
        raise UserError("there is no champion: run scripts/ct run first")
    rows, _ = read_golden_predictions(champion.uri, options.model)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as resources:
        bodies = {count: _body(Path(folder), rows, count) for count in CONNECTIONS}
        starts, servers = {}, {}
        for name, command in _servers(options, Path(folder)).items():
            starts[name], servers[name] = resources.enter_context(_running(name, command, bodies[1]))
        results = {name: {count: [] for count in CONNECTIONS} for name in servers}
        for _ in range(ROUNDS):
            for name, url in servers.items():
                for count in CONNECTIONS:
                    if count == 1 or name != EMPTY:
                        results[name][count].append(_load(url, Path(folder), bodies[count], count, options.seconds))
    _print(results, starts, _measure_model(champion, options.model, rows))


def _servers(options: argparse.Namespace, folder: Path) -> dict[str, Callable[[int], list[str]]]:
    (folder / "empty.py").write_text(EMPTY_APP)
    bin_ = Path(sys.executable).parent
    workers = str(options.workers)
    return {
        MLFLOW: lambda port: [
            *(
                str(bin_ / "mlflow"),
                "models",
                "serve",
                "-m",
                f"models:/{options.model}@champion",
                "--env-manager",
                "local",
            ),
            *("--port", str(port), "--workers", workers),
        ],
        SERVER: lambda port: [
            *(sys.executable, "scripts/serve.py", "--model", options.model, "--port", str(port), "--workers", workers)
        ],
        EMPTY: lambda port: [
            *(sys.executable, "-m", "uvicorn", "empty:app", "--app-dir", str(folder), "--port", str(port)),
            *("--workers", workers, "--no-access-log", "--log-level", "error"),
        ],
    }


@contextmanager
def _running(name: str, command: Callable[[int], list[str]], body: Path) -> Iterator[tuple[float, str]]:
    """Start a server; yield the seconds to its first prediction, and its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    url = f"http://127.0.0.1:{port}/invocations"
    shutil.rmtree(STATE / "serving", ignore_errors=True)  # with the stored download, our server would start sooner
    start = time.monotonic()
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    }  # MLflow starts uvicorn by its name
    process = subprocess.Popen(command(port), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    try:
        while time.monotonic() - start < START_SECONDS and process.poll() is None:
            try:
                if requests.post(url, body.read_bytes(), headers={"Content-Type": "application/json"}, timeout=30).ok:
                    break
            except requests.ConnectionError:
                time.sleep(0.02)
        else:
            raise UserError(f"{name} does not respond: try {' '.join(command(port))}")
        seconds = time.monotonic() - start
        time.sleep(3)  # until the other workers are ready
        yield seconds, url
    finally:
        for child in psutil.Process(process.pid).children(recursive=True):
            child.terminate()
        process.terminate()
        process.wait()


def _body(folder: Path, rows: dict[str, Any], count: int) -> Path:
    data = (rows["data"] * count)[:count]
    path = folder / f"{count}.json"
    path.write_text(json.dumps({"dataframe_split": {"columns": rows["columns"], "data": data}}))
    return path


def _load(url: str, folder: Path, body: Path, count: int, seconds: int) -> dict[str, float]:
    script = folder / "load.lua"
    script.write_text(LUA.format(body=body))
    command = ["wrk", "-t1", f"-c{CONNECTIONS[count]}", f"-d{seconds}s", "--timeout", "30s", "-s", str(script), url]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return json.loads(output.strip().splitlines()[-1])


def _measure_model(champion: model_versions.Version, model: str, rows: dict[str, Any]) -> dict[int, float]:
    """Return the calls per second of the model itself in one process, by the number of rows."""
    import pandas as pd

    estimator = load_estimator(champion.uri, model)
    model_rates = {}
    for count in CONNECTIONS:
        frame = pd.DataFrame((rows["data"] * count)[:count], columns=rows["columns"])
        names = frame.select_dtypes(object).columns
        frame = frame.astype({name: float for name in names if not frame[name].map(type).eq(str).any()})
        estimator.predict_proba(frame)
        start, calls = time.perf_counter(), 0
        while time.perf_counter() - start < 3:
            estimator.predict_proba(frame)
            calls += 1
        model_rates[count] = calls / (time.perf_counter() - start)
    return model_rates


def _print(
    results: dict[str, dict[int, list[dict[str, float]]]], starts: dict[str, float], model_rates: dict[int, float]
) -> None:
    print(f"{'server':<10}{'rows':>6}{'requests/s':>12}{'p50 ms':>10}{'p99 ms':>10}{'failed':>8}{'first answer s':>16}")
    medians: dict[tuple[str, int], tuple[float, float]] = {}
    for name, counts in results.items():
        for count, rounds in counts.items():
            if not rounds:
                continue
            rate, p50, p99 = (
                statistics.median(values)
                for values in zip(
                    *((row["requests"] / row["seconds"], row["p50"], row["p99"]) for row in rounds), strict=True
                )
            )
            medians[name, count] = rate, p99
            failed = sum(row["failed"] for row in rounds)
            print(f"{name:<10}{count:>6}{rate:>12.1f}{p50:>10.1f}{p99:>10.1f}{failed:>8.0f}{starts[name]:>16.1f}")
    for count, rate in model_rates.items():
        print(f"{'the model':<10}{count:>6}{rate:>12.1f}   called in one process, one call after the other")
    single, batch = (
        medians[SERVER, 1][0] / medians[MLFLOW, 1][0],
        medians[SERVER, 1000][0] / medians[MLFLOW, 1000][0],
    )
    latency, start = medians[SERVER, 1][1] / medians[MLFLOW, 1][1], starts[SERVER] / starts[MLFLOW]
    print(f"\nsingle rows, {CONNECTIONS[1]} connections: {single:.1f} times the throughput (target: 10)")
    print(f"single rows, {CONNECTIONS[1]} connections: p99 is {latency:.2f} of MLflow's (target: 0.33)")
    print(f"1,000 rows, {CONNECTIONS[1000]} connections: {batch:.1f} times the throughput (target: 2)")
    print(f"start to first prediction: {start:.2f} of MLflow's (target: 0.5)")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
