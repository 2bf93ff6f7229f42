"""The paired bootstrap: the scores are scikit-learn's, the intervals SciPy's, and no luck is taken for a gain."""

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

from continuous_training.comparison import bootstrap, rules
from continuous_training.comparison.evaluation import ClassifierPredictions, RegressorPredictions
from continuous_training.comparison.weighted_metrics import weighted_metric
from continuous_training.documents import Metric
from continuous_training.settings import Compare

if TYPE_CHECKING:
    from continuous_training.comparison.evaluation import Predictions

CLASSES = np.array([False, True])
OF_CLASSES = ["roc_auc", "average_precision", "neg_log_loss", "neg_brier_score", "accuracy", "f1"]
OF_NUMBERS = ["neg_mean_squared_error", "neg_mean_absolute_error", "neg_root_mean_squared_error", "r2"]
SIMULATIONS = 1000


def classifier(probability: np.ndarray) -> ClassifierPredictions:
    return ClassifierPredictions(np.column_stack([1 - probability, probability]), CLASSES)


def classifiers(
    random: np.random.Generator, rows: int, *noises: float
) -> tuple[np.ndarray, list[ClassifierPredictions]]:
    """Make a truth, and models that see it through more or less noise."""
    signal = random.normal(size=rows)
    truth = random.random(rows) < 1 / (1 + np.exp(1 - 1.5 * signal))
    seen = [1.2 * (signal + noise * random.normal(size=rows)) - 0.9 for noise in noises]
    return truth, [classifier(1 / (1 + np.exp(-each))) for each in seen]


class TestScores:
    @given(
        rows=st.lists(
            st.tuples(st.booleans(), st.floats(0, 1, allow_subnormal=False), st.integers(0, 4)), min_size=2, max_size=40
        ),
        digits=st.integers(1, 8),
        metric=st.sampled_from(OF_CLASSES),
    )
    @settings(max_examples=300, deadline=None)
    def test_those_of_a_classifier_are_scikit_learns(
        self, rows: list[tuple[bool, float, int]], digits: int, metric: str
    ) -> None:
        truth, probability, counts = (np.array(column) for column in zip(*rows, strict=True))
        drawn = np.repeat(np.arange(len(truth)), counts)
        if len(set(truth[drawn])) < 2:
            return
        model = classifier(probability.round(digits))
        expected = get_scorer(metric)(model, drawn, truth[drawn])
        assert weighted_metric(metric, model, truth)(counts.astype(np.int16)) == pytest.approx(expected, abs=1e-12)

    @pytest.mark.parametrize("metric", OF_NUMBERS)
    def test_those_of_a_regressor_are_scikit_learns(self, metric: str) -> None:
        random = np.random.default_rng(4)
        truth = random.normal(size=50)
        model = RegressorPredictions(truth + random.normal(size=50))
        for counts in bootstrap.resample_weights(50, 20):
            drawn = np.repeat(np.arange(50), counts)
            expected = get_scorer(metric)(model, drawn, truth[drawn])
            assert weighted_metric(metric, model, truth)(counts) == pytest.approx(expected, abs=1e-12)

    @pytest.mark.parametrize("metric", ["accuracy", "neg_log_loss", "neg_brier_score"])
    def test_those_of_three_classes_are_scikit_learns(self, metric: str) -> None:
        random = np.random.default_rng(5)
        names = np.array(["blue", "green", "red"])
        truth = random.choice(names, 60)
        model = ClassifierPredictions(random.dirichlet([1, 1, 1], 60), names)
        for counts in bootstrap.resample_weights(60, 20):
            drawn = np.repeat(np.arange(60), counts)
            expected = get_scorer(metric)(model, drawn, truth[drawn])
            assert weighted_metric(metric, model, truth)(counts) == pytest.approx(expected, abs=1e-12)

    def test_one_of_one_class_is_not_defined(self) -> None:
        model = classifier(np.array([0.1, 0.2, 0.9]))
        truth = np.array([False, False, True])
        for metric in ("roc_auc", "average_precision"):
            assert np.isnan(weighted_metric(metric, model, truth)(np.array([1, 2, 0], dtype=np.int16)))

    def test_one_without_a_class_that_the_metric_needs_is_not_defined(self) -> None:
        names = np.array(["blue", "green", "red"])
        truth = np.array(["blue", "green", "red", "red"])
        model = ClassifierPredictions(np.full((4, 3), 1 / 3), names)
        assert np.isnan(weighted_metric("roc_auc_ovr", model, truth)(np.array([0, 2, 1, 1], dtype=np.int16)))


class TestDraws:
    def test_every_resample_has_as_many_rows_as_there_are(self) -> None:
        assert {int(counts.sum()) for counts in bootstrap.resample_weights(31, 50)} == {31}

    def test_each_row_is_drawn_once_on_average(self) -> None:
        drawn = np.sum([*bootstrap.resample_weights(20, 4000)], axis=0) / 4000
        assert drawn == pytest.approx(1, abs=0.1)

    def test_rows_of_one_hour_are_drawn_together(self) -> None:
        times = pd.Series(pd.to_datetime(["2020-01-01 10:05", "2020-01-01 11:00", "2020-01-01 10:59"]))
        for counts in bootstrap.resample_weights(3, 50, bootstrap.time_groups(times, "hour")):
            assert counts[0] == counts[2]

    def test_single_rows_are_drawn_unless_asked_otherwise(self) -> None:
        assert bootstrap.time_groups(pd.Series(pd.to_datetime(["2020-01-01"])), "row") is None


class TestInterval:
    def test_it_is_the_same_each_time(self) -> None:
        truth, (ours, theirs) = classifiers(np.random.default_rng(3), 300, 0.5, 1.0)
        once, again = (bootstrap.differences("roc_auc", ours, theirs, truth, resamples=50) for _ in range(2))
        assert np.array_equal(once, again)

    def test_a_model_is_not_better_than_itself(self) -> None:
        truth, (ours,) = classifiers(np.random.default_rng(3), 300, 0.5)
        assert not bootstrap.differences("neg_log_loss", ours, ours, truth, resamples=50).any()

    def test_it_is_scipys(self) -> None:
        truth, (ours, theirs) = classifiers(np.random.default_rng(3), 500, 0.5, 1.0)
        gains = [np.log(model.values[np.arange(500), truth.astype(int)]) for model in (ours, theirs)]
        expected = scipy_bootstrap(
            (gains[0] - gains[1],), np.mean, n_resamples=5000, method="percentile", rng=1
        ).confidence_interval
        found = bootstrap.interval(bootstrap.differences("neg_log_loss", ours, theirs, truth, resamples=5000), 0.95)
        assert found == pytest.approx((expected.low, expected.high), abs=0.05 * (expected.high - expected.low))

    @pytest.mark.integration
    def test_it_is_scipys_for_a_metric_that_is_no_mean(self) -> None:
        truth, (ours, theirs) = classifiers(np.random.default_rng(3), 300, 0.5, 1.0)

        def area(model: ClassifierPredictions, rows: np.ndarray) -> float:
            """Return the area under the ROC curve as Mann and Whitney's statistic, which is quick to have."""
            ranks, late = rankdata(model.values[rows, 1]), truth[rows]
            return (ranks[late].mean() - (late.sum() + 1) / 2) / (~late).sum()

        def difference(rows: np.ndarray) -> float:
            return float(area(ours, rows) - area(theirs, rows))

        expected = scipy_bootstrap(
            (np.arange(300),), difference, vectorized=False, n_resamples=2000, method="percentile", rng=1
        ).confidence_interval
        found = bootstrap.interval(bootstrap.differences("roc_auc", ours, theirs, truth, resamples=2000), 0.95)
        assert found == pytest.approx((expected.low, expected.high), abs=0.08 * (expected.high - expected.low))

    def test_it_is_wider_when_rows_come_in_groups_that_are_alike(self) -> None:
        random = np.random.default_rng(6)
        hour = np.repeat(np.arange(60), 10)
        theirs = RegressorPredictions(np.repeat(random.normal(size=60), 10))
        ours = RegressorPredictions(np.repeat(random.normal(size=60), 10))
        truth = np.zeros(600)
        widths = []
        for groups in (None, hour):
            found = bootstrap.differences("neg_mean_squared_error", ours, theirs, truth, resamples=400, groups=groups)
            low, high = bootstrap.interval(found, 0.95) or (0, 0)
            widths.append(high - low)
        assert widths[1] > 2 * widths[0]

    def test_there_is_none_when_too_many_resamples_have_no_score(self) -> None:
        found = np.append(np.linspace(-1, 1, 90), np.full(10, np.nan))
        assert bootstrap.interval(found, 0.95) is None
        assert bootstrap.interval(found, 0.75) is not None


def promoted(
    limits: Compare, ours: Predictions, theirs: Predictions, truth: np.ndarray, groups: np.ndarray | None = None
) -> bool:
    """Tell whether the gate's rule takes the candidate for a better one."""
    found = bootstrap.differences(limits.metric, ours, theirs, truth, resamples=limits.resamples, groups=groups)
    difference = bootstrap.interval(found, limits.confidence)
    metric = Metric(name=limits.metric, candidate=0, champion=0, difference=difference, margin=limits.margin)
    return rules.check_improvement(metric, limits).passed


def limits(metric: str, **more: float) -> Compare:
    return Compare(metric=metric, first={metric: 0}, resamples=200, **more)


@pytest.mark.integration
class TestSimulations:
    """Pairs of models whose true difference is known, because they were made so."""

    @pytest.fixture(autouse=True)
    def _drawn_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Keep the resamples from one pair to the next: they are the same ones, and drawing them takes most time."""
        kept: dict[tuple[int, int, bytes], list[np.ndarray]] = {}
        draw = bootstrap.resample_weights

        def draws(rows: int, resamples: int, groups: np.ndarray | None = None) -> list[np.ndarray]:
            key = (rows, resamples, b"" if groups is None else groups.tobytes())
            if key not in kept:
                kept[key] = list(draw(rows, resamples, groups))
            return kept[key]

        monkeypatch.setattr(bootstrap, "resample_weights", draws)

    @pytest.mark.parametrize("metric", ["roc_auc", "neg_log_loss"])
    def test_equal_models_are_seldom_taken_for_better(self, metric: str, record_property) -> None:
        random, gate, count = np.random.default_rng(11), limits(metric), 0
        for _ in range(SIMULATIONS):
            truth, (ours, theirs) = classifiers(random, 300, 0.8, 0.8)
            count += promoted(gate, ours, theirs, truth)
        record_property("promoted", count)
        print(f"{metric}: {count} of {SIMULATIONS} equal candidates promoted; 5 % are allowed, 2.5 % expected")
        assert count <= SIMULATIONS * (1 - gate.confidence)

    def test_so_are_those_whose_rows_come_in_groups_that_are_alike(self, record_property) -> None:
        random, gate, hour = np.random.default_rng(15), limits("neg_mean_squared_error"), np.repeat(np.arange(60), 5)
        count = {"drawn together": 0, "drawn singly": 0}
        for _ in range(SIMULATIONS):
            ours, theirs = (RegressorPredictions(np.repeat(random.normal(size=60), 5)) for _ in range(2))
            for name, groups in (("drawn together", hour), ("drawn singly", None)):
                count[name] += promoted(gate, ours, theirs, np.zeros(300), groups)
        record_property("promoted", count)
        print(f"groups: {count} of {SIMULATIONS} equal candidates promoted; 5 % are allowed")
        assert count["drawn together"] <= SIMULATIONS * (1 - gate.confidence) < count["drawn singly"]

    def test_models_worse_by_the_margin_are_seldom_taken_for_non_inferior(self, record_property) -> None:
        random, count, rows = np.random.default_rng(12), 0, 300
        gate = limits("neg_mean_squared_error", non_inferior=0.1)
        for _ in range(SIMULATIONS):
            ours = RegressorPredictions(np.sqrt(1.1) * random.normal(size=rows))
            theirs = RegressorPredictions(random.normal(size=rows))
            count += promoted(gate, ours, theirs, np.zeros(rows))
        record_property("promoted", count)
        print(f"non-inferior: {count} of {SIMULATIONS} candidates at the margin promoted; 5 % are allowed")
        assert count <= SIMULATIONS * (1 - gate.confidence)

    @pytest.mark.parametrize(("errors", "power"), [(2.8, 0.8), (4.2, 0.985)])
    def test_a_true_gain_is_found_as_often_as_its_size_allows(
        self, errors: float, power: float, record_property
    ) -> None:
        """The gain is so many standard errors of the difference; 2.8 of them are found in 80 of 100 cases."""
        random, count, rows = np.random.default_rng(13), 0, 400
        gate = limits("neg_mean_squared_error")
        gain = errors * np.sqrt((2 + 2) / rows)  # the variance of the difference of two squared normal errors is 4
        for _ in range(SIMULATIONS):
            ours = RegressorPredictions(np.sqrt(1 - gain / 2) * random.normal(size=rows))
            theirs = RegressorPredictions(np.sqrt(1 + gain / 2) * random.normal(size=rows))
            count += promoted(gate, ours, theirs, np.zeros(rows))
        record_property("promoted", count)
        print(f"gain of {gain:.3f}, {errors} standard errors: {count} of {SIMULATIONS} promoted, {power:.1%} expected")
        assert count / SIMULATIONS == pytest.approx(power, abs=0.05)

    def test_one_of_many_slices_seldom_rejects_an_equal_model(self, record_property) -> None:
        random, gate, count, slices = np.random.default_rng(14), limits("neg_mean_squared_error"), 0, 20
        for _ in range(SIMULATIONS // 5):
            verdicts = []
            for _ in range(slices):
                ours, theirs = (RegressorPredictions(random.normal(size=60)) for _ in range(2))
                found = bootstrap.differences(gate.metric, ours, theirs, np.zeros(60), resamples=gate.resamples)
                verdicts.append(rules.check_slice("a slice", 60, found, allowed=0, tail=gate.tail / slices).passed)
            count += not all(verdicts)
        record_property("rejected", count)
        print(f"slices: {count} of {SIMULATIONS // 5} equal candidates rejected for one of {slices} slices")
        assert count <= SIMULATIONS // 5 * (1 - gate.confidence)
