"""Curves and confusion tables: what they show is what the predictions are."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from continuous_training.comparison.curves import MAX_CLASSES, OTHERS, compute_curves, count_confusions
from continuous_training.comparison.evaluation import ClassifierPredictions, RegressorPredictions
from continuous_training.documents import Confusion

TIMES = pd.Series(pd.date_range("2020-02-01", periods=2800, freq="15min"))


def test_the_residuals_of_a_model_that_drifts_leave_zero() -> None:
    actual = np.linspace(0, 50, len(TIMES))
    predicted = np.minimum(actual, 25)
    curve = {each.kind: each for each in compute_curves(RegressorPredictions(predicted), actual, TIMES, "candidate")}
    residuals = curve["residuals"]
    assert residuals.y[:14] == pytest.approx(np.zeros(14), abs=0.5)
    assert residuals.y[-1] == pytest.approx(24.6, abs=0.5)
    assert residuals.x[0] == pytest.approx(TIMES[0].timestamp(), abs=86400)
    assert residuals.x[-1] == pytest.approx(TIMES.iloc[-1].timestamp(), abs=86400)
    predictions = curve["predicted"]
    assert predictions.y[:4] == pytest.approx(predictions.x[:4])
    assert predictions.y[-1] > predictions.x[-1] + 5
    assert all(low <= y <= high for low, y, high in zip(predictions.low, predictions.y, predictions.high, strict=True))


@pytest.mark.parametrize("rows", [1, 2, 7])
def test_few_rows_have_few_points(rows: int) -> None:
    values = np.arange(float(rows))
    for curve in compute_curves(RegressorPredictions(values), values, TIMES[:rows], "champion"):
        assert 1 <= len(curve.x) == len(curve.y) == len(curve.low) <= rows


def test_the_confusion_counts_actual_by_predicted_class() -> None:
    classes = np.array(["cat", "dog", "fox"])
    predictions = ClassifierPredictions(np.eye(3)[[0, 1, 1, 2]], classes)
    table = count_confusions(predictions, ["cat", "cat", "dog", "fox"], "candidate")
    assert table == Confusion(model="candidate", classes=[*classes], counts=[[1, 1, 0], [0, 1, 0], [0, 0, 1]])
    assert count_confusions(RegressorPredictions(np.zeros(3)), np.zeros(3), "candidate") is None
    two = ClassifierPredictions(np.eye(2), classes[:2])
    assert count_confusions(two, classes[:2], "candidate") is None


def test_the_rarest_of_many_classes_are_one() -> None:
    classes = np.array([f"class {number:02}" for number in range(30)])
    labels = np.repeat(classes, np.arange(30) + 1)
    predictions = ClassifierPredictions(np.eye(30)[np.repeat(np.arange(30), np.arange(30) + 1)], classes)
    table = count_confusions(predictions, labels, "candidate")
    assert table
    assert table.classes == [*classes[-(MAX_CLASSES - 1) :], OTHERS]
    assert np.diag(table.counts).sum() == np.sum(table.counts) == len(labels)
