"""A run on a snapshot that is larger than memory: seconds and peak memory of each stage, as the rows grow.

.venv/bin/python tests/benchmarks/large_snapshot.py               # to 20 million rows: an hour, and 10 GB of disk
.venv/bin/python tests/benchmarks/large_snapshot.py --rows 200000 1000000 --frameworks lightgbm

The rows have 20 features, four of them texts, and a target that five of them decide. With `model.batches`, LightGBM or
XGBoost is fitted after an encoder of the texts. The peak is that of the largest process of a stage.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIMIT = 4096  # MB
DAYS = {"train": 95, "fresh": 5}
SECONDS = sum(DAYS.values()) * 24 * 60 * 60
SINCE, UNTIL = "2020-01-01", "2020-04-10"
NUMBERS = [f"number_{place}" for place in range(16)]
CATEGORIES = {"place": 16, "product": 100, "customer": 300, "kind": 3}
STAGES = ("snapshot", "check-data", "plan", "train", "check-model", "compare")
ESTIMATORS = {
    "lightgbm": ("lightgbm", "LGBMClassifier", "{n_estimators: 50, num_leaves: 63, verbose: -1}"),
    "xgboost": ("xgboost", "XGBClassifier", "{n_estimators: 50, max_depth: 6}"),
}
TEXTS = ", ".join(f"'{name} ' || hash(id + {count}) % {count} AS {name}" for name, count in CATEGORIES.items())
ROWS = f"""
    CREATE TABLE events AS
    WITH numbers AS (SELECT range AS id, {", ".join(f"random() AS {name}" for name in NUMBERS)} FROM range({{rows}}))
    SELECT *, TIMESTAMP '{SINCE}' + (id * 6151 % {SECONDS}) * INTERVAL '1' SECOND AS seen,
           {TEXTS},
           random() < 1 / (1 + exp(-4 * (number_0 + number_1 * number_2 - number_3 * number_4 - 0.5))) AS late
    FROM numbers
"""
TRAINING = f"""
warehouse: duckdb://events.duckdb
data:
  time: seen
  target: late
  key: [id]
  train_days: {DAYS["train"]}
  fresh_days: {DAYS["fresh"]}
  query: SELECT * FROM events WHERE seen >= $since AND seen < $until
  columns:
    id: {{type: integer, feature: false}}
    seen: {{type: timestamp, feature: false}}
    late: {{type: boolean, feature: false}}
{"".join(f"    {name}: {{type: category}}{chr(10)}" for name in CATEGORIES)}
{"".join(f"    {name}: {{type: number}}{chr(10)}" for name in NUMBERS)}
model:
  task: classification
  batches: true
  parameters: {{parameters}}
compare: {{metric: roc_auc, report: [neg_log_loss], first: {{roc_auc: 0.6}}}}
""".replace("{{roc_auc: 0.6}}", "{roc_auc: 0.6}")
MODEL = """
import numpy as np
from sklearn.compose import make_column_transformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder
from {library} import {estimator}


def build(categories, numbers, **parameters):
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan)
    columns = make_column_transformer((encoder, categories), ("passthrough", numbers))
    return make_pipeline(columns, {estimator}(**parameters))
"""
BEHAVIOUR = """
import os

import mlflow
import pandas as pd


def test_predictions_are_probabilities():
    model = mlflow.pyfunc.load_model(os.environ["CT_CANDIDATE"]).get_raw_model()
    predictions = model.predict_proba(pd.read_parquet(os.environ["CT_FRESH_ROWS"]))
    assert ((predictions >= 0) & (predictions <= 1)).all()
"""


def main() -> None:
    """Measure the stages for each number of rows and each framework, and print a table."""
    parser = argparse.ArgumentParser(description=str(__doc__), formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 5_000_000, 20_000_000])
    parser.add_argument("--frameworks", nargs="+", choices=list(ESTIMATORS), default=list(ESTIMATORS))
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.stage:
        _run_stage(options.stage)
        return
    peaks = []
    print(f"{'rows':>12}  {'framework':<10}{'':2}" + "".join(f"{stage:>18}" for stage in STAGES), flush=True)
    for rows in options.rows:
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            _fill(rows)
            for framework in options.frameworks:
                results = _measure(framework)
                cells = "".join(f"{seconds:>8.0f} s {peak:>5.0f} MB" for seconds, peak in results)
                print(f"{rows:>12,}  {framework:<10}  {cells}", flush=True)
                peaks += [peak for _, peak in results]
            os.chdir(ROOT)
    print(f"At most {max(peaks):.0f} MB, {'below' if max(peaks) < LIMIT else 'NOT BELOW'} {LIMIT} MB")


def _fill(rows: int) -> None:
    import duckdb

    with duckdb.connect("events.duckdb", config={"memory_limit": "2GB", "threads": 2}) as connection:
        connection.execute(ROWS.format(rows=rows))


def _measure(framework: str) -> list[tuple[float, float]]:
    """Run the stages; return the seconds and the peak in MB of each."""
    library, estimator, parameters = ESTIMATORS[framework]
    for name in ("scripts", "MLproject", "requirements.lock", "pyproject.toml"):
        if not Path(name).exists():
            Path(name).symlink_to(ROOT / name)
    for folder in ("src/many", "tests/many"):
        Path(folder).mkdir(parents=True, exist_ok=True)
    Path("src/many/__init__.py").touch()
    Path("src/many/training.yaml").write_text(TRAINING.replace("{parameters}", parameters))
    Path("src/many/model.py").write_text(MODEL.format(library=library, estimator=estimator))
    Path("tests/many/test_behaviour.py").write_text(BEHAVIOUR)
    environment = os.environ | {
        "AS_OF": UNTIL,
        "BUILD_TAG": framework,
        "CT_FORK_SERVER": "0",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MODEL": "many",
        "PYTHONPATH": os.pathsep.join(["src", str(ROOT / "src")]),
    }
    subprocess.run([sys.executable, "scripts/setup.py"], env=environment, check=True, stdout=subprocess.DEVNULL)
    results = []
    for stage in STAGES:
        command = [sys.executable, str(Path(__file__).resolve()), "--stage", stage]
        start = time.perf_counter()
        process = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if process.returncode:
            sys.exit(f"{stage} failed: {process.stderr.strip()[-2000:]}")
        results.append((time.perf_counter() - start, float(process.stdout.split()[-1])))
        print(f"{stage}: {results[-1][0]:.0f} s, {results[-1][1]:.0f} MB", file=sys.stderr, flush=True)
    verdict = json.loads(Path("build/verdict.json").read_text())
    print(f"{verdict['decision']}: {verdict['message']}", file=sys.stderr, flush=True)
    return results


def _run_stage(stage: str) -> None:
    """Run a stage, and print the peak memory in MB of the largest of its processes."""
    script = f"scripts/{stage.replace('-', '_')}.py"
    process = subprocess.run([sys.executable, script], stdout=sys.stderr, check=False)
    print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)
    sys.exit(process.returncode)


if __name__ == "__main__":
    main()
