"""The cost of a check of many rows, compared with Evidently on all rows in memory: seconds, memory, verdict.

.venv/bin/python tests/benchmarks/monitor.py                  # one and ten million rows: minutes, and gigabytes of disk
.venv/bin/python tests/benchmarks/monitor.py --rows 100000 --more 1000000

Each runs in a separate process. Evidently reads both windows from Parquet files and measures the same columns with the
same tests and thresholds. The monitor is the whole `scripts/monitor.py` on a predictions log of as many rows: it also
measures the predictions, counts data quality problems, reads and writes MLflow, and writes two pages. The last lines
are the cost of saving the reference at a promotion.
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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "continuous_training"))  # as pytest does

ROOT = Path(__file__).parents[2]
DRIFT = {"normal_1": 0.3, "waiting_1": 0.2, "place": 0.25, "even_1": 0.04}  # the last one is below every limit
PREDICTIONS = "the predictions"  # Evidently does not measure them
THRESHOLD = 0.1  # of training.yaml
CHECK, PROMOTION, BASELINE = "check", "promotion", "evidently"
EVIDENTLY, OTHERS = "imports: Evidently", "imports: other packages"
START = "start and end of Python"
REFERENCE = "reference"
CONSTANT = {START, EVIDENTLY, OTHERS}  # independent of the number of rows
RESULT = "result.json"  # of a process
PARTS = [
    *(START, EVIDENTLY, OTHERS, "MLflow, pages, other", "reading the rows", "counting the rows"),
    *("reading the sample", "sampling noise", "distances", "Evidently's page"),
]


class Profiler:
    """The wall-clock and processor time of each part, without its nested parts."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.processor: dict[str, float] = {}
        self._open: list[str] = []
        self._since = self._processor = 0.0
        self._add()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Measure a block."""
        self._add()
        self._open.append(name)
        try:
            yield
        finally:
            self._add()
            self._open.pop()

    def measure(self, owner: Any, function: str, name: str) -> None:
        """Measure every call of a function."""
        original = getattr(owner, function)

        def measure_call(*arguments: Any, **options: Any) -> Any:
            with self.part(name):
                return original(*arguments, **options)

        setattr(owner, function, measure_call)

    def _add(self) -> None:
        now, processor = time.perf_counter(), time.process_time()
        if self._since:
            name = self._open[-1] if self._open else START
            self.seconds[name] = self.seconds.get(name, 0) + now - self._since
            self.processor[name] = self.processor.get(name, 0) + processor - self._processor
        self._since, self._processor = now, processor


def main() -> None:
    """Measure each program in a separate process, and print the results."""
    parser = argparse.ArgumentParser(description=str(__doc__), formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--more", type=int, default=10_000_000)
    parser.add_argument("--process", choices=[*PROCESSES], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.process:
        profiler = Profiler()
        distances = PROCESSES[options.process](profiler)
        times = {"seconds": profiler.seconds, "processor": profiler.processor}
        Path(RESULT).write_text(json.dumps(times | {"peak": _peak_memory(), "drifted": distances}))
        return
    with tempfile.TemporaryDirectory() as folder:
        results = _measure_all(Path(folder), options.rows, options.more)
    _print(results, options.rows, options.more)


def _measure_all(folder: Path, few: int, many: int) -> dict[str, dict[str, Any]]:
    import duckdb

    import wide_model
    from continuous_training.registry import connection
    from continuous_training.settings import load_settings

    os.chdir(folder)
    for name in ("CT_PREDICTIONS", "MLFLOW_TRACKING_URI", "AS_OF", "JENKINS_URL"):
        os.environ.pop(name, None)
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    (folder / "src" / wide_model.MODEL).mkdir(parents=True)
    (folder / "src" / wide_model.MODEL / "training.yaml").write_text(wide_model.TRAINING)
    drift_tests = {
        name: "wasserstein" if name in wide_model.NUMBERS else "jensenshannon" for name in wide_model.FEATURES
    }
    (folder / "tests.json").write_text(json.dumps(drift_tests))
    client, settings = connection.open_client(), load_settings(wide_model.MODEL)
    results: dict[str, dict[str, Any]] = {}
    for count in (few, many):
        snapshot = wide_model.make_snapshot(folder / "snapshot", count)
        (folder / "snapshot.json").write_text(snapshot.model_dump_json())
        results[f"{PROMOTION} {count}"] = _run_process(PROMOTION)
        if count == few:
            version = wide_model.register_champion(client, settings, snapshot)
        wide_model.write_log(folder / "predictions", count, version.number, DRIFT)
        os.environ["CT_PREDICTIONS"] = str(folder / "predictions")
        results[f"{CHECK} {count}"] = _run_process(CHECK)
        if count == few:
            with duckdb.connect() as connection:
                connection.execute(
                    "COPY (SELECT unnest(inputs) FROM read_parquet('predictions/*/*/*.parquet'))"
                    " TO 'window.parquet' (FORMAT parquet)"
                )
            results[f"{BASELINE} {count}"] = _run_process(BASELINE)
            (folder / "window.parquet").unlink()
        for path in [*folder.glob("predictions/*/*/*"), *folder.glob("snapshot/*")]:
            path.unlink()
        for path in [*folder.glob("predictions/*/*"), *folder.glob("predictions/*"), folder / "snapshot"]:
            path.rmdir()
    return results


def _run_process(name: str) -> dict[str, Any]:
    start = time.perf_counter()
    command = [sys.executable, str(Path(__file__).resolve()), "--process", name]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    if process.returncode:
        sys.exit(f"{name} failed: {process.stderr.strip()}")
    result: dict[str, Any] = json.loads(Path(RESULT).read_text())
    result["seconds"][START] += seconds - sum(result["seconds"].values())
    print(f"{name}: {seconds:.1f} s", file=sys.stderr, flush=True)
    return result


def _peak_memory() -> float:
    """Return the peak memory of this process in MB."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


def _evidently(profiler: Profiler) -> dict[str, float]:
    with profiler.part(EVIDENTLY):
        import pandas as pd
        from evidently import DataDefinition, Dataset, Report
        from evidently.presets import DataDriftPreset
    tests = json.loads(Path("tests.json").read_text())
    numbers = [name for name, test in tests.items() if test == "wasserstein"]
    definition = DataDefinition(numerical_columns=numbers, categorical_columns=[*{*tests} - {*numbers}])
    with profiler.part("reading the rows"):
        reference, current = (
            Dataset.from_pandas(pd.read_parquet(path, columns=[*tests]), data_definition=definition)
            for path in ("snapshot/train.parquet", "window.parquet")
        )
    with profiler.part("distances"):
        result = Report([DataDriftPreset(per_column_method=tests, threshold=THRESHOLD)]).run(current, reference)
        values = {metric["config"].get("column"): float(metric["value"]) for metric in result.dict()["metrics"][1:]}
    with profiler.part("Evidently's page"):
        result.save_html("evidently.html")
    return {name: value for name, value in values.items() if value >= THRESHOLD}


def _check(profiler: Profiler) -> dict[str, float]:
    with profiler.part(EVIDENTLY):
        import evidently
        import evidently.metrics  # noqa: F401
    with profiler.part(OTHERS):
        import ibis  # noqa: F401
        import mlflow  # noqa: F401

        from continuous_training.monitoring import distances, drift, page, quality  # noqa: F401
        from continuous_training.monitoring.predictions_log import PredictionsLogReader
        from continuous_training.monitoring.report import DOCUMENT, MonitorReport
        from continuous_training.monitoring.window import Window
    for owner, function, name in [
        *((PredictionsLogReader, "read_window", "counting the rows"), (quality, "count_nulls", "counting the rows")),
        *((Window, "count_rows", "counting the rows"), (Window, "sample", "reading the sample")),
        *((distances, "sampling_noise", "sampling noise"), (drift, "measure_drift", "distances")),
        (drift.DriftResult, "write_evidently_report", "Evidently's page"),
    ]:
        profiler.measure(owner, function, name)
    sys.argv = ["monitor.py", "--model", "wide", "--source", "log", "--jenkins", "none"]
    with profiler.part("MLflow, pages, other"):
        try:
            runpy.run_path(str(ROOT / "scripts" / "monitor.py"), run_name="__main__")
        except SystemExit as exit_:
            if exit_.code:
                raise
    report = MonitorReport.model_validate_json(DOCUMENT.read_bytes())
    return {column.name: column.distance for column in report.drifts if column.drifted}


def _promotion(profiler: Profiler) -> dict[str, float]:
    with profiler.part(OTHERS):
        import wide_model
        from continuous_training.documents import Snapshot
        from continuous_training.registry import connection, runs
        from continuous_training.settings import load_settings

        client = connection.open_client()
    with profiler.part(REFERENCE):
        snapshot = Snapshot.model_validate_json(Path("snapshot.json").read_bytes())
        run_id = client.create_run(runs.experiment_id(client, wide_model.MODEL)).info.run_id
        wide_model.save_reference(client, run_id, load_settings(wide_model.MODEL), snapshot)
    return {}


PROCESSES: dict[str, Callable[[Profiler], dict[str, float]]] = {
    CHECK: _check,
    PROMOTION: _promotion,
    BASELINE: _evidently,
}


def _print(results: dict[str, dict[str, Any]], few: int, many: int) -> None:
    baseline, short, long = (results[name] for name in (f"{BASELINE} {few}", f"{CHECK} {few}", f"{CHECK} {many}"))
    columns = (baseline, short, long)

    def line(message: str, *cells: str) -> None:
        print(f"{message:<32}" + "".join(f"{cell:>12}" for cell in cells))

    line("", "Evidently", "monitor", "monitor")
    line("rows of the window", f"{few:,}", f"{few:,}", f"{many:,}")
    for part in PARTS:
        line(part, *(f"{result['seconds'].get(part, 0):.2f}" for result in columns))
    sums = {}
    for measure, message in (("seconds", "seconds"), ("processor", "processor seconds")):
        sums[measure] = [sum(result[measure].values()) for result in columns]
        rest = [sum(time for part, time in result[measure].items() if part not in CONSTANT) for result in columns]
        line(message, *(f"{time:.2f}" for time in sums[measure]))
        line("  after start and imports", *(f"{time:.2f}" for time in rest))
        sums[f"{measure} after"] = rest
    line("peak memory, MB", *(f"{result['peak']:.0f}" for result in columns))
    print()
    for measure in ("seconds", "processor"):
        (baseline_time, time, time_of_many), (baseline_rest, rest, _) = sums[measure], sums[f"{measure} after"]
        print(
            "in seconds"
            if measure == "seconds"
            else "in processor seconds, which do not depend on the load of this machine"
        )
        print(
            f"  faster: {baseline_time / time:.1f} times, {baseline_rest / rest:.1f} after start and imports (goal: 10)"
        )
        print(f"  {many / few:g} times the rows: {time_of_many / time:.2f} times the seconds (goal: 2)")
    print(f"memory: {short['peak'] / baseline['peak']:.2f} of Evidently's (goal: 0.33)")
    for tool, result in zip(("Evidently", "monitor", "monitor"), columns, strict=True):
        columns_with_drift = ", ".join(f"{name} {distance:.4f}" for name, distance in sorted(result["drifted"].items()))
        print(f"{tool} reports drift: {columns_with_drift}")
    verdicts = [{*result["drifted"]} - {PREDICTIONS} for result in columns]
    print("the same verdict" if verdicts == verdicts[:1] * 3 else "DIFFERENT VERDICTS")
    for count in (few, many):
        result = results[f"{PROMOTION} {count}"]
        seconds, processor = result["seconds"][REFERENCE], result["processor"][REFERENCE]
        cost = f"{seconds:.1f} s, {processor:.1f} processor seconds, {result['peak']:.0f} MB peak memory"
        print(f"saving the reference of {count:,} training rows: {cost}")


if __name__ == "__main__":
    main()
