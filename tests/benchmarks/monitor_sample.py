"""How often the monitor's sample leads to another verdict than all rows would, over windows whose drift is known.

.venv/bin/python tests/benchmarks/monitor_sample.py           # 200 windows of 100,000 rows: some ten minutes
.venv/bin/python tests/benchmarks/monitor_sample.py --windows 20 --rows 50000

In each window up to six of the thirteen columns are moved, by half to twice their threshold. The same measures and
limits are taken of all rows of both windows and of samples of both; what chance may make of so few rows is part of a
limit, so a sample's is wider. For the first windows Evidently measures the sample too.
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

import wide
from conftest import aligned
from continuous_training.monitoring import decision, distances, drift, profile
from continuous_training.monitoring.finding import Drift
from continuous_training.monitoring.reference import Learnt, Reference
from continuous_training.settings import load_settings

if TYPE_CHECKING:
    from continuous_training.settings import Settings

MOST_MOVED = 6  # columns of a window
SIZES = [0, 0.5, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 2]  # of known drift, in parts of the threshold
THRESHOLD = 0.1  # of training.yaml
CHECKED = 3  # windows whose sample Evidently measures too


def main() -> None:
    """Measure every window twice, and print how often the two differ."""
    parser = argparse.ArgumentParser(description=str(__doc__), formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, default=200)
    parser.add_argument("--rows", type=int, default=100_000, help="of each window (default: %(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        os.chdir(made)
        (Path("src") / wide.MODEL).mkdir(parents=True)
        (Path("src") / wide.MODEL / "training.yaml").write_text(wide.TRAINING)
        given = load_settings(wide.MODEL)
        learnt, before = _learnt(given, options.rows)
        os.chdir("/")
    random = np.random.default_rng(0)
    columns, decisions, apart = [], Counter[tuple[str, ...]](), 0.0
    limits: list[dict[str, float]] = []
    for window in range(options.windows):
        names = random.choice(wide.FEATURES, random.integers(MOST_MOVED + 1), replace=False)
        known = {str(name): THRESHOLD * random.uniform(SIZES[1], SIZES[-1]) for name in names}
        now = duckdb.sql(wide.rows(options.rows, window + 10, known)).df()
        sample = now.sample(given.monitor.sample_rows, random_state=window)
        pairs = [(before, now), (learnt.sample, sample)]
        if not limits:  # windows of as many rows have the same
            limits = [drift._limits(learnt.learnt.columns, given, *pair) for pair in pairs]
        by_all, by_sample = (_measured(*pair, limit, learnt.learnt) for pair, limit in zip(pairs, limits, strict=True))
        if window < CHECKED and (seen := drift.look(learnt, sample, given, {})):
            evidently = {one.name: one.distance for one in seen.drifts}
            apart = max(apart, *(abs(evidently[one.name] - one.distance) for one in by_sample))
        truth = [one.model_copy(update={"distance": known.get(one.name, 0), "limit": THRESHOLD}) for one in by_all]
        decisions[tuple(_decided(drifts, given) for drifts in (truth, by_all, by_sample))] += 1
        columns += [
            (one.name, known.get(one.name, 0) / THRESHOLD, one.ratio >= 1, other.ratio >= 1)
            for one, other in zip(by_all, by_sample, strict=True)
        ]
    print(f"{options.windows} windows of {options.rows:,} rows, and samples of {given.monitor.sample_rows:,}")
    print(f"Evidently's distances of the samples differ by {apart:.1e} at most\n")
    _print(pd.DataFrame(columns, columns=["column", "size", "all", "sample"]), decisions, *limits)


def _learnt(given: Settings, rows: int) -> tuple[Reference, pd.DataFrame]:
    """Return what a champion has learnt of so many rows, as far as drift goes, and all these rows."""
    taken = wide.snapshot(Path("snapshot"), rows)
    learnt = Learnt(
        rows=rows,
        since=taken.since,
        until=taken.fresh_since,
        window_days=given.monitor.window_days,
        columns=profile.profiles(taken.train.path, given),
        prediction=profile.Profile(test="wasserstein", null_share=0, distances=[]),
        classes=None,
        measured=None,
    )
    sample = profile.sample(taken.train.path, given).to_pandas()
    every = pd.read_parquet(taken.train.path, columns=wide.FEATURES)
    return Reference(learnt, sample, pd.Series(dtype=float)), every


def _measured(before: pd.DataFrame, now: pd.DataFrame, limits: dict[str, float], learnt: Learnt) -> list[Drift]:
    return [
        Drift(
            name=name,
            test=learnt.columns[name].test,
            distance=distances.between(learnt.columns[name].test, before[name], now[name]),
            limit=limits[name],
            null_share=0,
            learnt_null_share=0,
        )
        for name in wide.FEATURES
    ]


def _decided(drifts: list[Drift], given: Settings) -> str:
    moved = {one.name for one in drifts if one.ratio >= 1}
    return decision.decide(drifts, None, None, moved=moved, odd=0, limits=given.monitor).verdict


def _print(
    columns: pd.DataFrame,
    decisions: Counter[tuple[str, ...]],
    by_all: dict[str, float],
    by_sample: dict[str, float],
) -> None:
    columns["differ"] = columns["all"] != columns["sample"]
    sizes = pd.cut(columns["size"], [-1, *SIZES])
    rows: list[list[str]] = [["known drift, in thresholds", "columns", "moved by all", "by the sample", "differ"]]
    for size, found in columns.groupby(sizes, value=True):
        message = "none" if size.right == 0 else f"{max(size.left, 0):g} to {size.right:g}"
        rows.append([message, f"{len(found)}", *(f"{found[name].mean():.1%}" for name in ("all", "sample", "differ"))])
    rows.append(["all", f"{len(columns)}", *(f"{columns[name].mean():.1%}" for name in ("all", "sample", "differ"))])
    print("\n".join([*aligned(rows), ""]))
    rows = [["column", "limit of all", "of a sample", "moved by all", "by the sample", "differ"]]
    for name, found in columns.groupby("column", sort=False):
        counts = [f"{found[what].sum()}" for what in ("all", "sample", "differ")]
        rows.append([str(name), f"{by_all[str(name)]:.3f}", f"{by_sample[str(name)]:.3f}", *counts])
    print("\n".join([*aligned(rows), ""]))
    rows = [["known", "by all", "by the sample", "windows"]]
    rows += [[*verdicts, str(count)] for verdicts, count in sorted(decisions.items())]
    print("\n".join(aligned(rows)))
    windows = decisions.total()
    for one, other, message in ((1, 2, "the sample and all rows"), (0, 1, "all rows and the truth")):
        differ = sum(count for verdicts, count in decisions.items() if verdicts[one] != verdicts[other])
        print(f"{message} decide differently in {differ} of {windows} windows ({differ / windows:.1%})")


if __name__ == "__main__":
    main()
