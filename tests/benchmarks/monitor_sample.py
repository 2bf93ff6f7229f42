"""How often the monitor's sample leads to another verdict than all rows, in windows with known drift.

.venv/bin/python tests/benchmarks/monitor_sample.py           # 200 windows of 100,000 rows: about ten minutes
.venv/bin/python tests/benchmarks/monitor_sample.py --windows 20 --rows 50000

In each window up to six of the thirteen columns drift, by half to twice their threshold. Distances and limits are
computed from all rows and from samples; a limit contains the sampling noise, so that of a sample is wider. In the first
windows Evidently measures the sample too.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1] / "continuous_training"))  # as pytest does

import duckdb
import numpy as np
import pandas as pd

import wide_model
from conftest import align
from continuous_training.monitoring import decision, distances, drift, profile
from continuous_training.monitoring.drift import ColumnDrift
from continuous_training.monitoring.reference import Reference, ReferenceProfile
from continuous_training.settings import load_settings

if TYPE_CHECKING:
    from continuous_training.settings import Settings

MAX_COLUMNS_WITH_DRIFT = 6  # columns of a window
SIZES = [0, 0.5, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 2]  # of known drift, divided by the threshold
THRESHOLD = 0.1  # of training.yaml
EVIDENTLY_WINDOWS = 3  # windows whose sample Evidently measures too


def main() -> None:
    """Measure each window twice, and print how often the results differ."""
    parser = argparse.ArgumentParser(description=str(__doc__), formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, default=200)
    parser.add_argument("--rows", type=int, default=100_000, help="of each window (default: %(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        (Path("src") / wide_model.MODEL).mkdir(parents=True)
        (Path("src") / wide_model.MODEL / "training.yaml").write_text(wide_model.TRAINING)
        settings = load_settings(wide_model.MODEL)
        reference, reference_rows = _make_reference(settings, options.rows)
        os.chdir("/")
    random = np.random.default_rng(0)
    columns, decisions, max_difference = [], Counter[tuple[str, ...]](), 0.0
    limits: list[dict[str, float]] = []
    for window in range(options.windows):
        names = random.choice(wide_model.FEATURES, random.integers(MAX_COLUMNS_WITH_DRIFT + 1), replace=False)
        drift_sizes = {str(name): THRESHOLD * random.uniform(SIZES[1], SIZES[-1]) for name in names}
        window_rows = duckdb.sql(wide_model.rows_query(options.rows, window + 10, drift_sizes)).df()
        sample = window_rows.sample(settings.monitor.sample_rows, random_state=window)
        pairs = [(reference_rows, window_rows), (reference.sample, sample)]
        if not limits:  # the same for all windows, which have the same number of rows
            limits = [drift.compute_limits(reference.profile.columns, settings, *pair) for pair in pairs]
        by_all, by_sample = (
            _measure(*pair, limit, reference.profile) for pair, limit in zip(pairs, limits, strict=True)
        )
        if window < EVIDENTLY_WINDOWS and (result := drift.measure_drift(reference, sample, settings, {})):
            distance_of = {column.name: column.distance for column in result.drifts}
            max_difference = max(
                max_difference, *(abs(distance_of[column.name] - column.distance) for column in by_sample)
            )
        truth = [
            column.model_copy(update={"distance": drift_sizes.get(column.name, 0), "limit": THRESHOLD})
            for column in by_all
        ]
        decisions[tuple(_decide(drifts, settings) for drifts in (truth, by_all, by_sample))] += 1
        columns += [
            (column.name, drift_sizes.get(column.name, 0) / THRESHOLD, column.ratio >= 1, sample_column.ratio >= 1)
            for column, sample_column in zip(by_all, by_sample, strict=True)
        ]
    print(f"{options.windows} windows of {options.rows:,} rows, and samples of {settings.monitor.sample_rows:,}")
    print(f"Evidently's distances of the samples differ by {max_difference:.1e} at most\n")
    _print(pd.DataFrame(columns, columns=["column", "size", "all", "sample"]), decisions, *limits)


def _make_reference(settings: Settings, rows: int) -> tuple[Reference, pd.DataFrame]:
    """Return a reference without predictions, and all its training rows."""
    snapshot = wide_model.make_snapshot(Path("snapshot"), rows)
    reference_profile = ReferenceProfile(
        rows=rows,
        since=snapshot.since,
        until=snapshot.fresh_since,
        window_days=settings.monitor.window_days,
        columns=profile.profile_columns(snapshot.train.path, settings),
        predictions={},
        classes=None,
        baseline=None,
    )
    sample = profile.sample_rows(snapshot.train.path, settings).to_pandas()
    all_rows = pd.read_parquet(snapshot.train.path, columns=wide_model.FEATURES)
    return Reference(reference_profile, sample, pd.DataFrame()), all_rows


def _measure(
    reference_rows: pd.DataFrame,
    window_rows: pd.DataFrame,
    limits: dict[str, float],
    reference_profile: ReferenceProfile,
) -> list[ColumnDrift]:
    return [
        ColumnDrift(
            name=name,
            test=reference_profile.columns[name].test,
            distance=distances.distance(reference_profile.columns[name].test, reference_rows[name], window_rows[name]),
            limit=limits[name],
            null_share=0,
            reference_null_share=0,
        )
        for name in wide_model.FEATURES
    ]


def _decide(drifts: list[ColumnDrift], settings: Settings) -> str:
    columns_with_drift = {column.name for column in drifts if column.ratio >= 1}
    return decision.decide(
        drifts, None, None, None, drifted=columns_with_drift, invalid_columns=0, limits=settings.monitor
    ).verdict


def _print(
    columns: pd.DataFrame,
    decisions: Counter[tuple[str, ...]],
    by_all: dict[str, float],
    by_sample: dict[str, float],
) -> None:
    columns["differ"] = columns["all"] != columns["sample"]
    sizes = pd.cut(columns["size"], [-1, *SIZES])
    rows: list[list[str]] = [["known drift, in thresholds", "columns", "drifted by all", "by the sample", "differ"]]
    for size, group in columns.groupby(sizes, observed=True):
        label = "none" if size.right == 0 else f"{max(size.left, 0):g} to {size.right:g}"
        rows.append([label, f"{len(group)}", *(f"{group[name].mean():.1%}" for name in ("all", "sample", "differ"))])
    rows.append(["all", f"{len(columns)}", *(f"{columns[name].mean():.1%}" for name in ("all", "sample", "differ"))])
    print("\n".join([*align(rows), ""]))
    rows = [["column", "limit of all", "of a sample", "drifted by all", "by the sample", "differ"]]
    for name, group in columns.groupby("column", sort=False):
        counts = [f"{group[result].sum()}" for result in ("all", "sample", "differ")]
        rows.append([str(name), f"{by_all[str(name)]:.3f}", f"{by_sample[str(name)]:.3f}", *counts])
    print("\n".join([*align(rows), ""]))
    rows = [["known", "by all", "by the sample", "windows"]]
    rows += [[*verdicts, str(count)] for verdicts, count in sorted(decisions.items())]
    print("\n".join(align(rows)))
    windows = decisions.total()
    for first, second, text in ((1, 2, "the sample and all rows"), (0, 1, "all rows and the truth")):
        differ = sum(count for verdicts, count in decisions.items() if verdicts[first] != verdicts[second])
        print(f"{text} differ in their decision in {differ} of {windows} windows ({differ / windows:.1%})")


if __name__ == "__main__":
    main()
