"""The paired bootstrap against a loop over scikit-learn's metrics: the same answers, how much faster, in what memory.

.venv/bin/python tests/benchmarks/bootstrap.py                # 1,000 resamples of 1,000,000 rows: a minute or two
.venv/bin/python tests/benchmarks/bootstrap.py --rows 20000
"""

from __future__ import annotations

import argparse
import time
import tracemalloc
from itertools import islice

import numpy as np
from sklearn.metrics import get_scorer

from continuous_training.comparison import bootstrap
from continuous_training.comparison.evaluation import ClassifierPredictions

METRICS = ("roc_auc", "neg_log_loss", "average_precision")


def models(rows: int) -> tuple[np.ndarray, list[ClassifierPredictions]]:
    """Make a truth of 30 % and two classifiers of nearly the same worth."""
    random = np.random.default_rng(0)
    signal = random.normal(size=rows)
    truth = random.random(rows) < 1 / (1 + np.exp(1 - 1.5 * signal))
    made = []
    for noise in (0.9, 0.92):
        probability = 1 / (1 + np.exp(0.9 - signal - noise * random.normal(size=rows)))
        made.append(ClassifierPredictions(np.column_stack([1 - probability, probability]), np.array([False, True])))
    return truth, made


def loop(metric: str, truth: np.ndarray, pair: list[ClassifierPredictions], resamples: int) -> np.ndarray:
    """Score both models with scikit-learn on the same resamples, one after the other."""
    scorer, every = get_scorer(metric), np.arange(len(truth))
    found = []
    for counts in islice(bootstrap.resample_weights(len(truth), resamples), resamples):
        rows = np.repeat(every, counts)
        found.append(scorer(pair[0], rows, truth[rows]) - scorer(pair[1], rows, truth[rows]))
    return np.array(found)


def main() -> None:
    """Measure each metric, and print a line for it."""
    parser = argparse.ArgumentParser(description=str(__doc__), formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--peer", type=int, default=10, help="resamples of the loop, whose time is multiplied")
    given = parser.parse_args()
    truth, pair = models(given.rows)
    print(f"{given.resamples:,} resamples of {given.rows:,} rows; the loop's time is that of {given.peer}, multiplied")
    print(f"{'metric':<18} {'here, s':>9} {'loop, s':>9} {'faster':>8} {'differ by':>10} {'memory per row, bytes':>22}")
    for metric in METRICS:
        began = time.perf_counter()
        found = bootstrap.differences(metric, *pair, truth, resamples=given.resamples)
        here = time.perf_counter() - began
        began = time.perf_counter()
        expected = loop(metric, truth, pair, given.peer)
        there = (time.perf_counter() - began) * given.resamples / given.peer
        worst = np.abs(found[: given.peer] - expected).max()
        tracemalloc.start()
        bootstrap.differences(metric, *pair, truth, resamples=5)
        peak = tracemalloc.get_traced_memory()[1] / given.rows
        tracemalloc.stop()
        print(f"{metric:<18} {here:>9.1f} {there:>9.1f} {there / here:>7.1f}× {worst:>10.1e} {peak:>22.0f}", flush=True)


if __name__ == "__main__":
    main()
