"""The paired bootstrap compared with a loop over scikit-learn's metrics: the differences, the times and the memory.

.venv/bin/python tests/benchmarks/bootstrap.py                # 1,000 resamples of 1,000,000 rows: one or two minutes
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


def make_models(rows: int) -> tuple[np.ndarray, list[ClassifierPredictions]]:
    """Make labels, 30 % of them positive, and the predictions of two classifiers of nearly equal quality."""
    random = np.random.default_rng(0)
    signal = random.normal(size=rows)
    labels = random.random(rows) < 1 / (1 + np.exp(1 - 1.5 * signal))
    models = []
    for noise in (0.9, 0.92):
        probability = 1 / (1 + np.exp(0.9 - signal - noise * random.normal(size=rows)))
        models.append(ClassifierPredictions(np.column_stack([1 - probability, probability]), np.array([False, True])))
    return labels, models


def scikit_learn_differences(
    metric: str, labels: np.ndarray, models: list[ClassifierPredictions], resamples: int
) -> np.ndarray:
    """Score both models with scikit-learn on the same resamples, one after the other."""
    scorer, indexes = get_scorer(metric), np.arange(len(labels))
    differences = []
    for weights in islice(bootstrap.resample_weights(len(labels), resamples), resamples):
        rows = np.repeat(indexes, weights)
        differences.append(scorer(models[0], rows, labels[rows]) - scorer(models[1], rows, labels[rows]))
    return np.array(differences)


def main() -> None:
    """Measure each metric, and print a line for it."""
    parser = argparse.ArgumentParser(description=str(__doc__), formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--loop", type=int, default=10, help="resamples of the loop, whose time is extrapolated")
    arguments = parser.parse_args()
    labels, models = make_models(arguments.rows)
    print(f"{arguments.resamples:,} resamples of {arguments.rows:,} rows; loop: extrapolated from {arguments.loop}")
    print(f"{'metric':<18} {'ours, s':>9} {'loop, s':>9} {'speed-up':>8} {'difference':>10} {'bytes per row':>14}")
    for metric in METRICS:
        start = time.perf_counter()
        differences = bootstrap.differences(metric, *models, labels, resamples=arguments.resamples)
        seconds = time.perf_counter() - start
        start = time.perf_counter()
        expected = scikit_learn_differences(metric, labels, models, arguments.loop)
        loop_seconds = (time.perf_counter() - start) * arguments.resamples / arguments.loop
        max_error = np.abs(differences[: arguments.loop] - expected).max()
        tracemalloc.start()
        bootstrap.differences(metric, *models, labels, resamples=5)
        peak = tracemalloc.get_traced_memory()[1] / arguments.rows
        tracemalloc.stop()
        print(
            f"{metric:<18} {seconds:>9.1f} {loop_seconds:>9.1f} {loop_seconds / seconds:>7.1f}× {max_error:>10.1e} "
            f"{peak:>14.0f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
