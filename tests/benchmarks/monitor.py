"""What an examination of very many rows costs, beside Evidently with all rows in memory: seconds, memory, verdict.

.venv/bin/python tests/benchmarks/monitor.py                  # a million rows and ten: minutes, and gigabytes of disk
.venv/bin/python tests/benchmarks/monitor.py --rows 100000 --more 1000000

Each is a process of its own. Evidently reads both windows from Parquet files and measures the same columns by the same
tests and thresholds. The monitor is `scripts/monitor.py` on a predictions log of so many rows, from its start to its
end: it also measures the predictions, counts what is wrong with the values, asks MLflow, and writes two pages. What it
keeps of the training rows when a version is promoted is in the last lines.
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
MOVED = {"normal_1": 0.3, "waiting_1": 0.2, "place": 0.25, "even_1": 0.04}  # the last one less than any limit
PREDICTIONS = "the predictions"  # which Evidently is not asked about
THRESHOLD = 0.1  # of training.yaml
EXAMINATION, PROMOTION, PEER = "examination", "promotion", "evidently"
EVIDENTLY, OTHERS = "imports: Evidently", "imports: all else"
START = "Python, its start and end"
KEEPING = "what is kept"
ALIKE = {START, EVIDENTLY, OTHERS}  # whatever the rows
PARTS = [
    *(START, EVIDENTLY, OTHERS, "MLflow, pages, all else", "reading the rows", "counting the rows"),
    *("drawing the sample", "what chance makes", "Evidently's tests", "Evidently's page"),
]


class Laps:
    """How long each part took, without the parts within it, and how long processors were at work for it."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.busy: dict[str, float] = {}
        self._open: list[str] = []
        self._since = self._worked = 0.0
        self._book()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Measure what is done in this block."""
        self._book()
        self._open.append(name)
        try:
            yield
        finally:
            self._book()
            self._open.pop()

    def measure(self, owner: Any, function: str, name: str) -> None:
        """Measure every call of a function."""
        inner = getattr(owner, function)

        def outer(*given: Any, **more: Any) -> Any:
            with self.part(name):
                return inner(*given, **more)

        setattr(owner, function, outer)

    def _book(self) -> None:
        now, worked = time.perf_counter(), time.process_time()
        if self._since:
            name = self._open[-1] if self._open else START
            self.seconds[name] = self.seconds.get(name, 0) + now - self._since
            self.busy[name] = self.busy.get(name, 0) + worked - self._worked
        self._since, self._worked = now, worked


def main() -> None:
    """Measure each in a process of its own, and print what it took."""
    parser = argparse.ArgumentParser(description=str(__doc__), formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--more", type=int, default=10_000_000)
    parser.add_argument("--process", choices=[*PROCESSES], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.process:
        laps = Laps()
        told = PROCESSES[given.process](laps)
        measured = {"seconds": laps.seconds, "busy": laps.busy, "peak": _peak(), "moved": told}
        Path("measured.json").write_text(json.dumps(measured))
        return
    with tempfile.TemporaryDirectory() as made:
        found = _compared(Path(made), given.rows, given.more)
    _print(found, given.rows, given.more)


def _compared(folder: Path, few: int, many: int) -> dict[str, dict[str, Any]]:
    import duckdb

    import wide
    from continuous_training.registry import connection
    from continuous_training.settings import load_settings

    os.chdir(folder)
    for name in ("CT_PREDICTIONS", "MLFLOW_TRACKING_URI", "AS_OF", "JENKINS_URL"):
        os.environ.pop(name, None)
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    (folder / "src" / wide.MODEL).mkdir(parents=True)
    (folder / "src" / wide.MODEL / "training.yaml").write_text(wide.TRAINING)
    measures = {name: "wasserstein" if name in wide.NUMBERS else "jensenshannon" for name in wide.FEATURES}
    (folder / "tests.json").write_text(json.dumps(measures))
    client, model = connection.open_client(), load_settings(wide.MODEL)
    found: dict[str, dict[str, Any]] = {}
    for count in (few, many):
        taken = wide.snapshot(folder / "snapshot", count)
        (folder / "snapshot.json").write_text(taken.model_dump_json())
        found[f"{PROMOTION} {count}"] = _process(PROMOTION)
        if count == few:
            version = wide.champion(client, model, taken)
        wide.log(folder / "predictions", count, version.number, MOVED)
        os.environ["CT_PREDICTIONS"] = str(folder / "predictions")
        found[f"{EXAMINATION} {count}"] = _process(EXAMINATION)
        if count == few:
            with duckdb.connect() as connection:
                connection.execute(
                    "COPY (SELECT unnest(inputs) FROM read_parquet('predictions/*/*/*.parquet'))"
                    " TO 'window.parquet' (FORMAT parquet)"
                )
            found[f"{PEER} {count}"] = _process(PEER)
            (folder / "window.parquet").unlink()
        for path in [*folder.glob("predictions/*/*/*"), *folder.glob("snapshot/*")]:
            path.unlink()
        for path in [*folder.glob("predictions/*/*"), *folder.glob("predictions/*"), folder / "snapshot"]:
            path.rmdir()
    return found


def _process(name: str) -> dict[str, Any]:
    began = time.perf_counter()
    command = [sys.executable, str(Path(__file__).resolve()), "--process", name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - began
    if done.returncode:
        sys.exit(f"{name} failed: {done.stderr.strip()}")
    found: dict[str, Any] = json.loads(Path("measured.json").read_text())
    found["seconds"][START] += seconds - sum(found["seconds"].values())
    print(f"{name}: {seconds:.1f} s", file=sys.stderr, flush=True)
    return found


def _peak() -> float:
    """Return the most memory that this process has held, in MB."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


def _evidently(laps: Laps) -> dict[str, float]:
    with laps.part(EVIDENTLY):
        import pandas as pd
        from evidently import DataDefinition, Dataset, Report
        from evidently.presets import DataDriftPreset
    tests = json.loads(Path("tests.json").read_text())
    numbers = [name for name, test in tests.items() if test == "wasserstein"]
    described = DataDefinition(numerical_columns=numbers, categorical_columns=[*{*tests} - {*numbers}])
    with laps.part("reading the rows"):
        before, now = (
            Dataset.from_pandas(pd.read_parquet(path, columns=[*tests]), data_definition=described)
            for path in ("snapshot/train.parquet", "window.parquet")
        )
    with laps.part("Evidently's tests"):
        account = Report([DataDriftPreset(per_column_method=tests, threshold=THRESHOLD)]).run(now, before)
        measured = {one["config"].get("column"): float(one["value"]) for one in account.dict()["metrics"][1:]}
    with laps.part("Evidently's page"):
        account.save_html("evidently.html")
    return {name: value for name, value in measured.items() if value >= THRESHOLD}


def _examination(laps: Laps) -> dict[str, float]:
    with laps.part(EVIDENTLY):
        import evidently
        import evidently.metrics  # noqa: F401
    with laps.part(OTHERS):
        import ibis  # noqa: F401
        import mlflow  # noqa: F401

        from continuous_training.monitoring import distances, drift, examination, page, quality  # noqa: F401
        from continuous_training.monitoring.asked import Asked
        from continuous_training.monitoring.log import Log
    for owner, function, name in [
        *((Log, "asked", "counting the rows"), (quality, "nulls", "counting the rows")),
        *((Asked, "counts", "counting the rows"), (Asked, "sample", "drawing the sample")),
        *((distances, "by_chance", "what chance makes"), (drift, "look", "Evidently's tests")),
        (drift.Seen, "write", "Evidently's page"),
    ]:
        laps.measure(owner, function, name)
    sys.argv = ["monitor.py", "--model", "wide", "--source", "log", "--jenkins", "none"]
    with laps.part("MLflow, pages, all else"):
        try:
            runpy.run_path(str(ROOT / "scripts" / "monitor.py"), run_name="__main__")
        except SystemExit as ended:
            if ended.code:
                raise
    found = examination.Examination.model_validate_json(Path("build/monitor.json").read_bytes())
    return {one.name: one.distance for one in found.drifts if one.moved}


def _promotion(laps: Laps) -> dict[str, float]:
    with laps.part(OTHERS):
        import wide
        from continuous_training.documents import Snapshot
        from continuous_training.registry import connection, runs
        from continuous_training.settings import load_settings

        client = connection.open_client()
    with laps.part(KEEPING):
        taken = Snapshot.model_validate_json(Path("snapshot.json").read_bytes())
        run_id = client.create_run(runs.experiment_id(client, wide.MODEL)).info.run_id
        wide.keep(client, run_id, load_settings(wide.MODEL), taken)
    return {}


PROCESSES: dict[str, Callable[[Laps], dict[str, float]]] = {
    EXAMINATION: _examination,
    PROMOTION: _promotion,
    PEER: _evidently,
}


def _print(found: dict[str, dict[str, Any]], few: int, many: int) -> None:
    peer, short, long = (found[name] for name in (f"{PEER} {few}", f"{EXAMINATION} {few}", f"{EXAMINATION} {many}"))
    columns = (peer, short, long)

    def line(message: str, *cells: str) -> None:
        print(f"{message:<32}" + "".join(f"{cell:>12}" for cell in cells))

    line("", "Evidently", "monitor", "monitor")
    line("rows of the window", f"{few:,}", f"{few:,}", f"{many:,}")
    for part in PARTS:
        line(part, *(f"{one['seconds'].get(part, 0):.2f}" for one in columns))
    sums = {}
    for measure, message in (("seconds", "seconds"), ("busy", "seconds of a processor")):
        sums[measure] = [sum(one[measure].values()) for one in columns]
        rest = [sum(time for part, time in one[measure].items() if part not in ALIKE) for one in columns]
        line(message, *(f"{time:.2f}" for time in sums[measure]))
        line("  after start and imports", *(f"{time:.2f}" for time in rest))
        sums[f"{measure} after"] = rest
    line("memory at its peak, MB", *(f"{one['peak']:.0f}" for one in columns))
    print()
    for measure in ("seconds", "busy"):
        (theirs, ours, of_many), (after, ours_after, _) = sums[measure], sums[f"{measure} after"]
        print(
            "in seconds"
            if measure == "seconds"
            else "in seconds of a processor, which others on this machine leave alike"
        )
        print(f"  faster: {theirs / ours:.1f} times, {after / ours_after:.1f} after start and imports (asked: 10)")
        print(f"  {many / few:g} times the rows: {of_many / ours:.2f} times the seconds (asked: 2)")
    print(f"memory: {short['peak'] / peer['peak']:.2f} of Evidently's (asked: 0.33)")
    for who, one in zip(("Evidently", "monitor", "monitor"), columns, strict=True):
        print(f"{who} finds moved: " + ", ".join(f"{name} {one['moved'][name]:.4f}" for name in sorted(one["moved"])))
    verdicts = [{*one["moved"]} - {PREDICTIONS} for one in columns]
    print("the same verdict" if verdicts == verdicts[:1] * 3 else "ANOTHER VERDICT")
    for count in (few, many):
        kept = found[f"{PROMOTION} {count}"]
        message = (
            f"{kept['seconds'][KEEPING]:.1f} s, {kept['busy'][KEEPING]:.1f} s of a processor, {kept['peak']:.0f} MB"
        )
        print(f"kept of {count:,} training rows at a promotion: {message} at its peak")


if __name__ == "__main__":
    main()
