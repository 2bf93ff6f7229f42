"""Several targets: metrics are scikit-learn's means over them, each is shown on its own, and no shape is guessed."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.metrics import get_scorer

from continuous_training.comparison import bootstrap, evaluation, rules
from continuous_training.comparison.curves import compute_curves
from continuous_training.comparison.evaluation import RegressorPredictions
from continuous_training.comparison.ground_truth import GroundTruth
from continuous_training.comparison.importance import measure_importance
from continuous_training.comparison.metric_functions import MetricFunction
from continuous_training.comparison.weighted_metrics import weighted_metric
from continuous_training.errors import UserError

RANDOM = np.random.default_rng(3)
LABELS = RANDOM.gamma(2, size=(60, 3)) * np.array([1, 10, 100])
PREDICTIONS = RegressorPredictions(np.abs(LABELS + RANDOM.normal(size=(60, 3)) * np.array([0.5, 1, 30])))
METRICS = [
    *("neg_mean_squared_error", "neg_mean_absolute_error", "neg_root_mean_squared_error", "r2", "explained_variance"),
    *("neg_median_absolute_error", "neg_mean_absolute_percentage_error", "neg_mean_squared_log_error"),
    *("neg_root_mean_squared_log_error", "d2_absolute_error_score"),
]


@pytest.mark.parametrize("metric", METRICS)
def test_metrics_equal_scikit_learns(metric: str) -> None:
    rows = np.arange(len(LABELS))
    assert evaluation.score(metric, PREDICTIONS, LABELS) == get_scorer(metric)(PREDICTIONS, rows, LABELS)
    score = weighted_metric(metric, PREDICTIONS, LABELS)
    for weights in bootstrap.resample_weights(len(LABELS), 10):
        resample = np.repeat(rows, weights)
        assert score(weights) == pytest.approx(get_scorer(metric)(PREDICTIONS, resample, LABELS[resample]), rel=1e-12)


def test_the_metric_of_each_target_has_the_mean_of_all() -> None:
    truth = GroundTruth.of_labels(LABELS)
    parts = [evaluation.score("r2", *each) for each in evaluation.split_targets(PREDICTIONS, truth)]
    assert len({round(part, 6) for part in parts}) == 3
    assert np.mean(parts) == pytest.approx(evaluation.score("r2", PREDICTIONS, LABELS))


def test_the_calibration_error_is_the_mean_of_the_targets() -> None:
    shifted = RegressorPredictions(LABELS + np.array([1.0, 2.0, 6.0]))
    assert evaluation.calibration_error(shifted, LABELS) == pytest.approx(3.0)


def test_a_function_of_a_team_receives_all_targets_at_once() -> None:
    shapes = []

    def cost(labels: np.ndarray, predictions: np.ndarray) -> float:
        shapes.append((labels.shape, predictions.shape))
        return float(np.abs(labels - predictions).sum())

    function = MetricFunction("neg_cost", "toy.metrics:cost", cost, frozenset())
    truth = GroundTruth(LABELS, np.ones(60), pd.DataFrame(index=range(60)), {"neg_cost": function})
    expected = -float(np.abs(LABELS - PREDICTIONS.values).sum())
    assert evaluation.score("neg_cost", PREDICTIONS, truth) == pytest.approx(expected)
    assert weighted_metric("neg_cost", PREDICTIONS, truth)(np.ones(60, dtype=np.int16)) == pytest.approx(expected)
    assert shapes == [((60, 3), (60, 3))] * 2


def test_a_metric_that_has_no_mean_over_targets_is_an_error() -> None:
    with pytest.raises(UserError, match="the metric neg_max_error cannot be computed: Multioutput not supported"):
        evaluation.score("neg_max_error", PREDICTIONS, LABELS)


@pytest.mark.parametrize("metric", ["neg_mean_absolute_error", "r2"])
@pytest.mark.parametrize("values", [np.zeros(3), np.zeros((3, 2))], ids=["one", "two"])
def test_a_model_of_another_number_of_targets_is_not_scored(metric: str, values: np.ndarray) -> None:
    """With three rows and three targets numpy would broadcast."""
    labels = np.arange(9.0).reshape(3, 3)
    for score in (evaluation.score, weighted_metric):
        with pytest.raises(UserError, match=rf"the model predicts {2 if values.ndim > 1 else 1} and not 3 targets"):
            score(metric, RegressorPredictions(values), labels)


@pytest.mark.parametrize("metric", ["neg_mean_absolute_error", "r2"])
def test_a_model_of_several_targets_is_not_scored_on_one(metric: str) -> None:
    for score in (evaluation.score, weighted_metric):
        with pytest.raises(UserError, match="the model predicts 3 and not 1 targets"):
            score(metric, RegressorPredictions(np.zeros((3, 3))), np.zeros(3))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros(4), r"the model returns predictions of shape \(4,\), not \(4, 2\)"),
        (np.zeros((4, 3)), r"the model returns predictions of shape \(4, 3\), not \(4, 2\)"),
        (np.zeros((4, 2, 1)), r"the model returns predictions of shape \(4, 2, 1\), not \(4, 2\)"),
        (np.array([[0, 1], [0, np.nan], [np.inf, 1], [0, 1]]), "NaN or infinite values for 2 of 4 rows"),
    ],
)
def test_predictions_of_another_shape_or_with_nan_are_refused(values: np.ndarray, message: str) -> None:
    with pytest.raises(UserError, match=message):
        evaluation.as_predictions(values, None, targets=2)


def test_each_target_has_its_own_curves() -> None:
    times = pd.Series(pd.date_range("2020-02-01", periods=60, freq="h"))
    curves = compute_curves(PREDICTIONS, LABELS, times, "candidate", ("a", "b", "c"))
    assert [(curve.target, curve.kind) for curve in curves] == [
        (name, kind) for name in ("a", "b", "c") for kind in ("predicted", "residuals")
    ]
    (alone,) = [
        curve
        for curve in compute_curves(RegressorPredictions(PREDICTIONS.values[:, 1]), LABELS[:, 1], times, "candidate")
        if curve.kind == "residuals"
    ]
    assert curves[3] == alone.model_copy(update={"target": "b"})


class FittedModel:
    """A fitted estimator, as StoredModel is one in another process."""

    def __init__(self, rows: pd.DataFrame, labels: np.ndarray) -> None:
        self._estimator, self.input_columns = LinearRegression().fit(rows, labels), list(rows)
        self.predictions = self.predict(rows)

    def predict(self, rows: pd.DataFrame) -> RegressorPredictions:
        predictions = evaluation.predict(self._estimator, rows[self.input_columns], "regression", 2)
        assert isinstance(predictions, RegressorPredictions)
        return predictions


def test_the_importance_of_a_feature_is_that_for_all_targets() -> None:
    rows = pd.DataFrame(RANDOM.normal(size=(400, 3)), columns=["first", "second", "noise"])
    labels = np.column_stack([rows["first"], 3 * rows["second"]])
    model = FittedModel(rows, labels)
    importance = measure_importance("neg_mean_absolute_error", model, None, rows, labels, by_class=False)  # type: ignore[arg-type]
    assert [feature.name for feature in importance.features] == ["second", "first", "noise"]


@pytest.mark.parametrize(
    ("champion", "message"),
    [
        (("bikes", "docks"), None),
        (("docks", "bikes"), "the candidate predicts bikes, docks, the champion docks, bikes"),
        (("bikes",), "the candidate predicts bikes, docks, the champion bikes"),
        ((), "the candidate predicts bikes, docks, the champion one target"),
    ],
)
def test_both_models_must_predict_the_same_targets_in_the_same_order(
    champion: tuple[str, ...], message: str | None
) -> None:
    rule = rules.check_targets(("bikes", "docks"), champion)
    assert (rule.passed, rule.message) == (message is None, message or "both models predict bikes, docks")
