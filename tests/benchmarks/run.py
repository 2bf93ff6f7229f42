"""The seconds of each stage of `scripts/ct run`, beside the time of the work itself in one warm process.

.venv/bin/python tests/benchmarks/run.py          # five minutes, on a machine without other work

A fresh clone of HEAD runs the first time (with its set-up), for a second date, and for that date again, when there is
nothing new to train. The work is what the stages do, called in one process of the clone that has imported everything
and has done all of it for another date: the query and its hash, the data checks, the plan, the fit, the behaviour
tests, the comparison, and the deployment, which observes the new champion for `serving.watch_seconds`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import runpy
import socket
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from continuous_training.documents import Run, Snapshot

ROOT = Path(__file__).parents[2]
SECOND, WARM_UP, WORK = "2013-05-01", "2013-06-01", "2013-07-01"  # AS_OF
LINE = "{:<22} {:>11} {:>11} {:>11} {:>7}  {}"
PARTS = {
    "Snapshot": "query, content hash, Parquet files",
    "Check data": "33 checks",
    "Plan": "fingerprint, look-up in MLflow",
    "Train": "fit, scores, the stored model",
    "Compare": "behaviour tests, predictions, bootstrap",
    "Refit": "two fits, predictions, behaviour tests, bootstrap",
    "Register": "a version in the registry",
    "Deploy": "servers load the version, observation",
}


def main() -> None:
    """Measure runs and work, and print them side by side."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    if parser.parse_args().work:
        print(json.dumps(measure_work()))
        return
    with socket.create_server(("127.0.0.1", 0)) as listener:
        os.environ["SERVING_URLS"] = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder, "clone")
        subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
        try:
            first = measure_run(clone)
            second = measure_run(clone, "-P", f"AS_OF={SECOND}")
            nothing_new = min((measure_run(clone, "-P", f"AS_OF={SECOND}") for _ in range(3)), key=total_seconds)
            command = [".venv/bin/python", Path(__file__).resolve(), "--work"]
            work = json.loads(subprocess.run(command, cwd=clone, stdout=subprocess.PIPE, check=True).stdout)
        finally:
            subprocess.run(["scripts/ct", "stop"], cwd=clone, check=False, capture_output=True)
    print_table(first, second, nothing_new, work)


def total_seconds(seconds: dict[str, float]) -> float:
    """Return the seconds of the whole command."""
    return seconds["the whole command"]


def measure_run(clone: Path, *arguments: str) -> dict[str, float]:
    """Return the seconds of each stage of a run, of the rest, and of the whole command."""
    start = time.perf_counter()
    with (clone.parent / "log").open("w") as log:
        process = subprocess.run(["scripts/ct", "run", *arguments], cwd=clone, stdout=log, stderr=log, check=False)
    seconds = time.perf_counter() - start
    if process.returncode:
        raise SystemExit((clone.parent / "log").read_text())
    newest = max((clone / ".ct/builds").glob("[0-9]*"), key=lambda build: int(build.name))
    record = json.loads((newest / "build.json").read_text())
    stages = {stage["name"]: stage["seconds"] for stage in record["stages"] if stage["depth"] == 0}
    return {
        **{name: duration for name, duration in stages.items() if duration},
        "between and after": record["seconds"] - sum(stages.values()),
        "before (set-up, start)": seconds - record["seconds"],
        "the whole command": seconds,
    }


def measure_work() -> dict[str, float]:
    """Return the seconds of each stage's work in this process, after the same work for another date."""
    from continuous_training.fork_server.client import DEFAULTS

    os.environ.update(DEFAULTS | {"MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"})
    steps = load_steps()
    for as_of in (WARM_UP, WORK):
        os.environ.update(AS_OF=as_of, BUILD_TAG=f"benchmark-{as_of}", FORCE="true")
        run_script("setup")
        seconds = {}
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            seconds[name] = time.perf_counter() - start
    return seconds


def load_steps() -> dict[str, Callable[[], None]]:
    """Return the function that does the work of each stage."""
    return {
        "Snapshot": partial(run_script, "snapshot"),
        "Check data": partial(run_script, "check_data"),
        "Plan": partial(run_script, "plan"),
        "Train": train,
        "Compare": compare,
        "Refit": partial(run_script, "refit"),
        "Register": partial(run_script, "register"),
        "Deploy": partial(run_script, "deploy"),
    }


def run_script(name: str) -> None:
    """Run `ct NAME` in this process."""
    runpy.run_path(f"scripts/{name}.py")["main"](argparse.Namespace())


def train() -> None:
    """Train as `ct train` does, with the entry point in this process."""
    from continuous_training.stages import fit
    from continuous_training.stages import train as stage

    def fit_in_process(run: Run, snapshot: Snapshot, run_id: str) -> None:
        os.environ["MLFLOW_RUN_ID"] = run_id
        fit.fit(run.model, snapshot.train.path.parent, {})
        os.environ.pop("MLFLOW_RUN_ID", None)  # if MLflow has not

    stage.COMPUTE["local"] = fit_in_process
    run_script("train")


def compare() -> None:
    """Check and compare the candidate, with the behaviour tests in this process."""
    import mlflow.artifacts
    import pytest

    from continuous_training.data.snapshots import read_snapshot
    from continuous_training.documents import Candidate, ModelCheck, Run, Snapshot
    from continuous_training.settings import TESTS, load_settings
    from continuous_training.stages import check_model, test

    run, candidate = Run.read(), Candidate.read()
    timer, data = ModelCheck.begin(run), load_settings(run.model).data
    tests = TESTS / run.model / "test_behaviour.py"
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder, "fresh.parquet")
        check_model.sample_rows(read_snapshot(Snapshot.read().fresh.path, data), data).to_parquet(fresh)
        model = mlflow.artifacts.download_artifacts(candidate.model_uri, dst_path=folder)
        os.environ.update(CT_CANDIDATE=model, CT_FRESH_ROWS=str(fresh))
        with contextlib.redirect_stdout(sys.stderr):
            pytest.main([*test.pytest_arguments(check_model.JUNIT, "-q", str(tests))[2:]])
    ModelCheck(checks=check_model.checks(tests), **timer.stop()).write()
    run_script("compare")


def print_table(
    first: dict[str, float], second: dict[str, float], nothing_new: dict[str, float], work: dict[str, float]
) -> None:
    """Print the seconds of the three runs and of the work, and the ratios of the second and the third run to it."""
    print(LINE.format("seconds", "first run", "second date", "nothing new", "work", "").rstrip())
    for name in first:
        if name != "the whole command":
            runs = (f"{run.get(name, 0):.1f}" if name in run else "" for run in (first, second, nothing_new))
            work_seconds = f"{work[name]:.1f}" if name in work else ""
            print(LINE.format(name, *runs, work_seconds, PARTS.get(name, "")).rstrip())
    total = {run: sum_work(stages, work) for run, stages in (("second", second), ("nothing new", nothing_new))}
    print(
        LINE.format(
            "the whole command", *(f"{total_seconds(run):.1f}" for run in (first, second, nothing_new)), "", ""
        ).rstrip()
    )
    print(LINE.format("work in it", "", f"{total['second']:.1f}", f"{total['nothing new']:.1f}", "", "").rstrip())
    ratios = total_seconds(second) / total["second"], total_seconds(nothing_new) / total["nothing new"]
    print(LINE.format("ratio", "", *(f"{ratio:.1f}" for ratio in ratios), "", "").rstrip())


def sum_work(stages: dict[str, float], work: dict[str, float]) -> float:
    """Return the seconds of the work of the stages of a run."""
    return sum(seconds for name, seconds in work.items() if name in stages)


if __name__ == "__main__":
    main()
