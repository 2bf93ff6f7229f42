"""The paired bootstrap: metrics equal scikit-learn's, intervals SciPy's, and equal models are rarely promoted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap as scipy_bootstrap
from scipy.stats import rankdata
from sklearn.metrics import get_scorer

from continuous_training.comparison import bootstrap, evaluation, rules
from continuous_training.comparison.difference import Difference
from continuous_training.comparison.evaluation import ClassifierPredictions, RegressorPredictions
from continuous_training.comparison.slice_rules import check_slice
from continuous_training.comparison.weighted_metrics import weighted_metric
from continuous_training.documents import Metric
from continuous_training.errors import UserError
from continuous_training.settings import Compare

if TYPE_CHECKING:
    from continuous_training.comparison.evaluation import Predictions

CLASSES = np.array([False, True])
CLASSIFICATION_METRICS = ["roc_auc", "average_precision", "neg_log_loss", "neg_brier_score", "accuracy", "f1"]
REGRESSION_METRICS = ["neg_mean_squared_error", "neg_mean_absolute_error", "neg_root_mean_squared_error", "r2"]
SIMULATIONS = 1000


def classifier(probability: np.ndarray) -> ClassifierPredictions:
    return ClassifierPredictions(np.column_stack([1 - probability, probability]), CLASSES)


def make_classifiers(
    random: np.random.Generator, rows: int, *noises: float
) -> tuple[np.ndarray, list[ClassifierPredictions]]:
    """Make labels, and the predictions of one model for each amount of noise."""
    signal = random.normal(size=rows)
    labels = random.random(rows) < 1 / (1 + np.exp(1 - 1.5 * signal))
    log_odds = [1.2 * (signal + noise * random.normal(size=rows)) - 0.9 for noise in noises]
    return labels, [classifier(1 / (1 + np.exp(-values))) for values in log_odds]


class TestWeightedMetrics:
    @given(
        rows=st.lists(
            st.tuples(st.booleans(), st.floats(0, 1, allow_subnormal=False), st.integers(0, 4)), min_size=2, max_size=40
        ),
        digits=st.integers(1, 8),
        metric=st.sampled_from(CLASSIFICATION_METRICS),
    )
    @settings(max_examples=300, deadline=None)
    def test_metrics_of_a_binary_classifier_equal_scikit_learns(
        self, rows: list[tuple[bool, float, int]], digits: int, metric: str
    ) -> None:
        labels, probability, weights = (np.array(column) for column in zip(*rows, strict=True))
        resample = np.repeat(np.arange(len(labels)), weights)
        if len(set(labels[resample])) < 2:
            return
        predictions = classifier(probability.round(digits))
        expected = get_scorer(metric)(predictions, resample, labels[resample])
        value = weighted_metric(metric, predictions, labels)(weights.astype(np.int16))
        assert value == pytest.approx(expected, abs=1e-12)

    @pytest.mark.parametrize("metric", REGRESSION_METRICS)
    def test_metrics_of_a_regressor_equal_scikit_learns(self, metric: str) -> None:
        random = np.random.default_rng(4)
        labels = random.normal(size=50)
        self.assert_equal_to_scikit_learn(metric, RegressorPredictions(labels + random.normal(size=50)), labels)

    @pytest.mark.parametrize("metric", ["accuracy", "neg_log_loss", "neg_brier_score"])
    def test_metrics_of_three_classes_equal_scikit_learns(self, metric: str) -> None:
        random = np.random.default_rng(5)
        classes = np.array(["blue", "green", "red"])
        labels = random.choice(classes, 60)
        self.assert_equal_to_scikit_learn(
            metric, ClassifierPredictions(random.dirichlet([1, 1, 1], 60), classes), labels
        )

    @pytest.mark.parametrize("metric", CLASSIFICATION_METRICS)
    @pytest.mark.parametrize("classes", [["left", "stayed"], [1, 2]], ids=["texts", "numbers"])
    def test_the_second_of_two_classes_is_the_positive_one(self, metric: str, classes: list[str] | list[int]) -> None:
        positive, (expected,) = make_classifiers(np.random.default_rng(6), 60, 0.5)
        predictions = ClassifierPredictions(expected.values, np.array(classes))
        labels = np.array(classes)[positive.astype(int)]
        assert evaluation.score(metric, predictions, labels) == evaluation.score(metric, expected, positive)
        for weights in bootstrap.resample_weights(60, 3):
            value = weighted_metric(metric, predictions, labels)(weights)
            assert value == weighted_metric(metric, expected, positive)(weights)

    def test_a_ranking_metric_of_a_single_class_is_undefined(self) -> None:
        predictions = classifier(np.array([0.1, 0.2, 0.9]))
        labels = np.array([False, False, True])
        for metric in ("roc_auc", "average_precision"):
            assert np.isnan(weighted_metric(metric, predictions, labels)(np.array([1, 2, 0], dtype=np.int16)))

    def test_a_metric_is_undefined_without_a_class_that_it_needs(self) -> None:
        classes = np.array(["blue", "green", "red"])
        labels = np.array(["blue", "green", "red", "red"])
        predictions = ClassifierPredictions(np.full((4, 3), 1 / 3), classes)
        assert np.isnan(weighted_metric("roc_auc_ovr", predictions, labels)(np.array([0, 2, 1, 1], dtype=np.int16)))

    @pytest.mark.parametrize("metric", ["accuracy", "neg_log_loss", "neg_brier_score"])
    def test_rows_that_lack_one_of_three_classes_are_scored(self, metric: str) -> None:
        random = np.random.default_rng(5)
        labels = random.choice(["blue", "green"], 40)
        predictions = ClassifierPredictions(random.dirichlet([1, 1, 1], 40), np.array(["blue", "green", "red"]))
        is_class = labels[:, None] == predictions.classes_
        expected = {
            "accuracy": np.mean(predictions.predict(np.arange(40)) == labels),
            "neg_log_loss": np.log(predictions.values[is_class]).mean(),
            "neg_brier_score": -((predictions.values - is_class) ** 2).sum(axis=1).mean(),
        }[metric]
        value = evaluation.score(metric, predictions, labels)
        weighted = weighted_metric(metric, predictions, labels)(np.ones(40, dtype=np.int16))
        assert value == pytest.approx(weighted)
        assert value == pytest.approx(expected)

    def test_a_metric_that_needs_every_class_names_the_one_that_is_missing(self) -> None:
        predictions = ClassifierPredictions(np.full((4, 3), 1 / 3), np.array(["blue", "green", "red"]))
        with pytest.raises(UserError, match="roc_auc_ovr cannot be computed on rows without the class red: "):
            evaluation.score("roc_auc_ovr", predictions, np.array(["blue", "green", "green", "blue"]))

    @staticmethod
    def assert_equal_to_scikit_learn(metric: str, predictions: Predictions, labels: np.ndarray) -> None:
        rows = len(labels)
        for weights in bootstrap.resample_weights(rows, 20):
            resample = np.repeat(np.arange(rows), weights)
            expected = get_scorer(metric)(predictions, resample, labels[resample])
            assert weighted_metric(metric, predictions, labels)(weights) == pytest.approx(expected, abs=1e-12)


class TestResampleWeights:
    def test_every_resample_has_as_many_rows_as_the_data(self) -> None:
        assert {int(weights.sum()) for weights in bootstrap.resample_weights(31, 50)} == {31}

    def test_each_row_is_drawn_once_on_average(self) -> None:
        mean = np.sum([*bootstrap.resample_weights(20, 4000)], axis=0) / 4000
        assert mean == pytest.approx(1, abs=0.1)

    def test_the_rows_of_an_hour_are_drawn_as_a_group(self) -> None:
        times = pd.Series(pd.to_datetime(["2020-01-01 10:05", "2020-01-01 11:00", "2020-01-01 10:59"]))
        for weights in bootstrap.resample_weights(3, 50, bootstrap.time_groups(times, "hour")):
            assert weights[0] == weights[2]

    def test_single_rows_have_no_groups(self) -> None:
        assert bootstrap.time_groups(pd.Series(pd.to_datetime(["2020-01-01"])), "row") is None


class TestInterval:
    def test_the_differences_are_reproducible(self) -> None:
        labels, (candidate, champion) = make_classifiers(np.random.default_rng(3), 300, 0.5, 1.0)
        first, second = (bootstrap.differences("roc_auc", candidate, champion, labels, resamples=50) for _ in range(2))
        assert np.array_equal(first, second)

    def test_a_model_does_not_differ_from_itself(self) -> None:
        labels, (model,) = make_classifiers(np.random.default_rng(3), 300, 0.5)
        assert not bootstrap.differences("neg_log_loss", model, model, labels, resamples=50).any()

    def test_the_interval_of_a_mean_equals_scipys(self) -> None:
        labels, (candidate, champion) = make_classifiers(np.random.default_rng(3), 500, 0.5, 1.0)
        scores = [np.log(model.values[np.arange(500), labels.astype(int)]) for model in (candidate, champion)]
        expected = scipy_bootstrap(
            (scores[0] - scores[1],), np.mean, n_resamples=5000, method="percentile", rng=1
        ).confidence_interval
        differences = bootstrap.differences("neg_log_loss", candidate, champion, labels, resamples=5000)
        interval = bootstrap.interval(differences, 0.95)
        assert interval == pytest.approx((expected.low, expected.high), abs=0.05 * (expected.high - expected.low))

    @pytest.mark.integration
    def test_the_interval_of_a_ranking_metric_equals_scipys(self) -> None:
        labels, (candidate, champion) = make_classifiers(np.random.default_rng(3), 300, 0.5, 1.0)

        def roc_auc(model: ClassifierPredictions, rows: np.ndarray) -> float:
            """Return the area under the ROC curve as the Mann-Whitney statistic, which is quick to compute."""
            ranks, positive = rankdata(model.values[rows, 1]), labels[rows]
            return (ranks[positive].mean() - (positive.sum() + 1) / 2) / (~positive).sum()

        def difference(rows: np.ndarray) -> float:
            return float(roc_auc(candidate, rows) - roc_auc(champion, rows))

        expected = scipy_bootstrap(
            (np.arange(300),), difference, vectorized=False, n_resamples=2000, method="percentile", rng=1
        ).confidence_interval
        differences = bootstrap.differences("roc_auc", candidate, champion, labels, resamples=2000)
        interval = bootstrap.interval(differences, 0.95)
        assert interval == pytest.approx((expected.low, expected.high), abs=0.08 * (expected.high - expected.low))

    def test_the_interval_is_wider_if_the_rows_of_a_group_are_alike(self) -> None:
        random = np.random.default_rng(6)
        hours = np.repeat(np.arange(60), 10)
        champion = RegressorPredictions(np.repeat(random.normal(size=60), 10))
        candidate = RegressorPredictions(np.repeat(random.normal(size=60), 10))
        labels = np.zeros(600)
        widths = []
        for groups in (None, hours):
            differences = bootstrap.differences(
                "neg_mean_squared_error", candidate, champion, labels, resamples=400, groups=groups
            )
            low, high = bootstrap.interval(differences, 0.95) or (0, 0)
            widths.append(high - low)
        assert widths[1] > 2 * widths[0]

    def test_there_is_no_interval_if_the_metric_is_undefined_on_too_many_resamples(self) -> None:
        differences = np.append(np.linspace(-1, 1, 90), np.full(10, np.nan))
        assert bootstrap.interval(differences, 0.95) is None
        assert bootstrap.interval(differences, 0.75) is not None


def is_promoted(
    limits: Compare,
    candidate: Predictions,
    champion: Predictions,
    labels: np.ndarray,
    groups: np.ndarray | None = None,
) -> bool:
    """Check the rule of the primary metric."""
    differences = bootstrap.differences(
        limits.metric, candidate, champion, labels, resamples=limits.resamples, groups=groups
    )
    interval = bootstrap.interval(differences, limits.confidence)
    metric = Metric(name=limits.metric, candidate=0, champion=0, difference=interval, margin=limits.margin)
    return rules.check_improvement(metric, limits.margin, limits.confidence).passed


def make_limits(metric: str, **more: float) -> Compare:
    return Compare(metric=metric, first={metric: 0}, resamples=200, **more)


@pytest.mark.integration
class TestSimulations:
    """Pairs of models whose true difference is known, because they are simulated."""

    @pytest.fixture(autouse=True)
    def _cached_weights(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Reuse the weights, which are the same for all pairs and take most of the time."""
        cache: dict[tuple[int, int, bytes], list[np.ndarray]] = {}
        resample_weights = bootstrap.resample_weights

        def cached(rows: int, resamples: int, groups: np.ndarray | None = None) -> list[np.ndarray]:
            key = (rows, resamples, b"" if groups is None else groups.tobytes())
            if key not in cache:
                cache[key] = list(resample_weights(rows, resamples, groups))
            return cache[key]

        monkeypatch.setattr(bootstrap, "resample_weights", cached)

    @pytest.mark.parametrize("metric", ["roc_auc", "neg_log_loss"])
    def test_equal_models_are_rarely_promoted(self, metric: str, record_property) -> None:
        random, limits, count = np.random.default_rng(11), make_limits(metric), 0
        for _ in range(SIMULATIONS):
            labels, (candidate, champion) = make_classifiers(random, 300, 0.8, 0.8)
            count += is_promoted(limits, candidate, champion, labels)
        record_property("promoted", count)
        print(f"{metric}: {count} of {SIMULATIONS} equal candidates promoted; 5 % are allowed, 2.5 % expected")
        assert count <= SIMULATIONS * (1 - limits.confidence)

    def test_equal_models_with_grouped_rows_are_rarely_promoted(self, record_property) -> None:
        random, limits = np.random.default_rng(15), make_limits("neg_mean_squared_error")
        hours = np.repeat(np.arange(60), 5)
        count = {"groups": 0, "single rows": 0}
        for _ in range(SIMULATIONS):
            candidate, champion = (RegressorPredictions(np.repeat(random.normal(size=60), 5)) for _ in range(2))
            for name, groups in (("groups", hours), ("single rows", None)):
                count[name] += is_promoted(limits, candidate, champion, np.zeros(300), groups)
        record_property("promoted", count)
        print(f"groups: {count} of {SIMULATIONS} equal candidates promoted; 5 % are allowed")
        assert count["groups"] <= SIMULATIONS * (1 - limits.confidence) < count["single rows"]

    def test_models_that_are_worse_by_the_margin_are_rarely_promoted_as_non_inferior(self, record_property) -> None:
        random, count, rows = np.random.default_rng(12), 0, 300
        limits = make_limits("neg_mean_squared_error", non_inferior=0.1)
        for _ in range(SIMULATIONS):
            candidate = RegressorPredictions(np.sqrt(1.1) * random.normal(size=rows))
            champion = RegressorPredictions(random.normal(size=rows))
            count += is_promoted(limits, candidate, champion, np.zeros(rows))
        record_property("promoted", count)
        print(f"non-inferior: {count} of {SIMULATIONS} candidates at the margin promoted; 5 % are allowed")
        assert count <= SIMULATIONS * (1 - limits.confidence)

    @pytest.mark.parametrize(("errors", "power"), [(2.8, 0.8), (4.2, 0.985)])
    def test_better_models_are_promoted_with_the_expected_power(
        self, errors: float, power: float, record_property
    ) -> None:
        """The gain is a number of standard errors of the difference; one of 2.8 has a power of 80 %."""
        random, count, rows = np.random.default_rng(13), 0, 400
        limits = make_limits("neg_mean_squared_error")
        gain = errors * np.sqrt((2 + 2) / rows)  # the variance of the difference of two squared normal errors is 4
        for _ in range(SIMULATIONS):
            candidate = RegressorPredictions(np.sqrt(1 - gain / 2) * random.normal(size=rows))
            champion = RegressorPredictions(np.sqrt(1 + gain / 2) * random.normal(size=rows))
            count += is_promoted(limits, candidate, champion, np.zeros(rows))
        record_property("promoted", count)
        print(f"gain of {gain:.3f}, {errors} standard errors: {count} of {SIMULATIONS} promoted, {power:.1%} expected")
        assert count / SIMULATIONS == pytest.approx(power, abs=0.05)

    def test_equal_models_are_rarely_rejected_because_of_one_of_many_slices(self, record_property) -> None:
        random, limits, count, slices = np.random.default_rng(14), make_limits("neg_mean_squared_error"), 0, 10
        for _ in range(SIMULATIONS // 5):
            passed = []
            for _ in range(slices):
                candidate, champion = (RegressorPredictions(random.normal(size=60)) for _ in range(2))
                differences = bootstrap.differences(
                    limits.metric, candidate, champion, np.zeros(60), resamples=limits.resamples
                )
                difference = Difference(differences.mean(), differences.std(), cases=60)
                rule = check_slice("a slice", 60, difference, max_decrease=0, tail=limits.tail / slices)
                passed.append(rule.passed)
            count += not all(passed)
        record_property("rejected", count)
        print(f"slices: {count} of {SIMULATIONS // 5} equal candidates rejected for one of {slices} slices")
        assert count <= SIMULATIONS // 5 * (1 - limits.confidence)
