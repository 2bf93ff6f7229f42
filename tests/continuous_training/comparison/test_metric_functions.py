"""A team's own metrics are used wherever a scorer's name is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import get_scorer, mean_pinball_loss

from continuous_training.comparison import bootstrap, evaluation
from continuous_training.comparison.evaluation import ClassifierPredictions, RegressorPredictions
from continuous_training.comparison.ground_truth import GroundTruth
from continuous_training.comparison.metric_functions import MetricFunction, load_metric_functions
from continuous_training.comparison.weighted_metrics import weighted_metric
from continuous_training.errors import UserError
from continuous_training.settings import Compare, load_settings
from continuous_training.stages import set_up
from pipeline import Pipeline
from toy import change, events, import_again, store

if TYPE_CHECKING:
    from collections.abc import Callable

METRICS = '''
import numpy as np


def cost(labels, predictions, weights, rows):
    """Return the mean cost: an event that is late and was not expected costs its price."""
    assert labels.dtype == bool and predictions.shape == labels.shape == weights.shape == (len(rows),)
    return np.average(np.where(labels & (predictions < 0.5), rows["price"], 0), weights=weights)


def share(labels, predictions):
    return ((predictions > 0.5) == labels).mean()


def broken(labels, predictions):
    return unknown


def text(labels, predictions):
    return "good"


def undefined(labels, predictions):
    return float("nan")


def three(labels, predictions, times):
    return 1.0


LIMIT = 3
'''


def use_metrics(functions: str, compare: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Add a module of metrics to the toy model, a column of prices, and the section `compare`."""
    Path("src/toy/metrics.py").write_text(METRICS)
    store(events().assign(price=np.arange(3600) % 5 + 1.0))
    change("x, y, late", "x, y, price, late")
    change("    shade:", "    price: {type: number, feature: false}\n    shade:")
    text = Path("src/toy/training.yaml").read_text()
    start, end = text.index("compare:"), text.index("serving:")
    section = f"compare:\n  functions: {functions}\n  resamples: 200\n{compare}"
    Path("src/toy/training.yaml").write_text(f"{text[:start]}{section}{text[end:]}")
    import_again(monkeypatch)


def truth_of(labels: Any, function: Callable[..., Any], *options: str, **columns: Any) -> GroundTruth:
    functions = {"own": MetricFunction("own", "toy.metrics:own", function, frozenset(options))}
    return GroundTruth(np.asarray(labels), np.ones(len(labels)), pd.DataFrame(columns), functions)


class TestValues:
    def test_a_copy_of_a_scorer_has_its_values_and_its_bootstrap(self) -> None:
        random = np.random.default_rng(0)
        labels, values = random.normal(size=60), random.normal(size=60)
        truth = truth_of(labels, lambda labels, predictions: -np.abs(labels - predictions).mean())
        predictions = RegressorPredictions(values)
        assert evaluation.score("own", predictions, truth) == evaluation.score(
            "neg_mean_absolute_error", predictions, labels
        )
        for weights in bootstrap.resample_weights(60, 20):
            own, expected = (
                weighted_metric(name, predictions, truth)(weights) for name in ("own", "neg_mean_absolute_error")
            )
            assert own == pytest.approx(expected)

    def test_the_rows_and_weights_are_those_of_the_resample(self) -> None:
        truth = truth_of(
            [0.0, 0.0, 0.0], lambda _labels, _predictions, rows: rows["price"].sum(), "rows", price=[1, 10, 100]
        )
        score = weighted_metric("own", RegressorPredictions(np.zeros(3)), truth)
        assert score(np.array([1, 1, 1], dtype=np.int16)) == 111
        assert score(np.array([0, 2, 1], dtype=np.int16)) == 120
        assert score(np.array([3, 0, 0], dtype=np.int16)) == 3

    def test_a_part_of_the_rows_has_its_own_columns(self) -> None:
        truth = truth_of(
            [0.0, 0.0, 0.0], lambda _labels, _predictions, rows: rows["price"].sum(), "rows", price=[1, 10, 100]
        )
        rows = np.array([0, 2])
        assert evaluation.score("own", RegressorPredictions(np.zeros(2)), truth.take(rows)) == 101

    def test_texts_of_two_classes_are_whether_it_is_the_second_one(self) -> None:
        predictions = ClassifierPredictions(
            np.array([[0.2, 0.8], [0.9, 0.1]]), np.array(["in time", "late"], dtype=object)
        )
        seen: list[Any] = []
        truth = truth_of(np.array(["late", "in time"], dtype=object), lambda *arguments: seen.extend(arguments) or 1.0)
        evaluation.score("own", predictions, truth)
        assert seen[0].tolist() == [True, False]
        assert seen[1].tolist() == [0.8, 0.1]

    def test_more_classes_have_a_matrix_of_probabilities(self) -> None:
        classes = np.array(["blue", "green", "red"], dtype=object)
        seen: list[Any] = []
        truth = truth_of(classes, lambda *arguments: seen.extend(arguments) or 1.0)
        evaluation.score("own", ClassifierPredictions(np.eye(3), classes), truth)
        assert seen[0].tolist() == classes.tolist()
        assert (seen[1] == np.eye(3)).all()

    def test_resamples_on_which_a_function_fails_are_undefined(self) -> None:
        truth = truth_of([False, True], lambda labels, _predictions: 1 / int(labels.sum()))
        predictions = ClassifierPredictions(np.full((2, 2), 0.5), np.array([False, True]))
        assert np.isnan(weighted_metric("own", predictions, truth)(np.array([2, 0], dtype=np.int16)))
        assert evaluation.score("own", predictions, truth) == 1


@pytest.mark.usefixtures("mlflow_workspace")
class TestRun:
    def test_a_function_decides_guards_and_slices(self, monkeypatch: pytest.MonkeyPatch) -> None:
        use_metrics(
            "{neg_cost: toy.metrics:cost, share: toy.metrics:share}",
            "  metric: neg_cost\n  report: [roc_auc]\n  guardrails: {share: 0.1}\n  slices: {shade: 5}\n"
            "  first: {neg_cost: -3, share: 0.5}\n",
            monkeypatch,
        )
        first = Pipeline(monkeypatch, AS_OF="2020-02-15")
        first.promote()
        assert {metric.name for metric in first.verdict.metrics} == {"neg_cost", "share", "roc_auc"}
        assert -3 < first.candidate.metrics["neg_cost"] < 0
        second = Pipeline(monkeypatch, AS_OF="2020-03-01")
        verdict = second.compare()
        cost, share, _ = verdict.metrics
        assert cost.difference is not None
        assert share.difference is not None
        names = {rule.name for rule in verdict.rules}
        assert {"cost improves", "share does not worsen", "shade = red"} <= names
        fresh = pd.read_parquet(second.snapshot.fresh.path)
        assert second.candidate.metrics["share"] == pytest.approx(
            get_scorer("accuracy")(*self.predictions(second, fresh)), abs=1e-12
        )

    @staticmethod
    def predictions(pipeline: Pipeline, fresh: pd.DataFrame) -> tuple[ClassifierPredictions, Any, Any]:
        from stored_versions import load_estimator

        estimator = load_estimator(pipeline.candidate.model_uri)
        values = estimator.predict_proba(fresh[["shade", "x", "y"]])
        return ClassifierPredictions(values, np.array([False, True])), np.arange(len(fresh)), fresh["late"].to_numpy()

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            (
                "broken",
                r"the metric own cannot be computed: toy.metrics:broken raised NameError: name 'unknown' is not",
            ),
            ("text", r"toy.metrics:text raised ValueError: could not convert string to float: 'good'"),
            ("undefined", r"the metric own cannot be computed: toy.metrics:undefined returned nan"),
        ],
    )
    def test_a_function_that_fails_ends_the_training_with_one_line(
        self, name: str, message: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        use_metrics(f"{{own: toy.metrics:{name}}}", "  metric: own\n  first: {own: 0}\n", monkeypatch)
        with pytest.raises(UserError, match=message) as problem:
            Pipeline(monkeypatch).train()
        assert "\n" not in str(problem.value)


@pytest.mark.usefixtures("workspace")
class TestSetUp:
    @pytest.mark.parametrize(
        ("functions", "message"),
        [
            ("{own: toy.metrics:price}", "compare.functions.own: the module toy.metrics has no function price"),
            (
                "{own: toy.costs:cost}",
                "own: the module toy.costs cannot be imported: ModuleNotFoundError: No module named",
            ),
            ("{own: toy.metrics:LIMIT}", "own: toy.metrics:LIMIT is a int, not a function"),
            (
                "{own: toy.metrics:three}",
                "takes labels, predictions, times; it must take labels and predictions, and may",
            ),
            ("{own: toy.metrics:share, r2: toy.metrics:share}", "functions.r2: there is a metric of that name already"),
            (
                "{other: toy.metrics:share}",
                "names the metric own, which is no scorer of scikit-learn and no function of",
            ),
            ("{own: toy.metrics}", "compare.functions.own: write it as package.module:function, not 'toy.metrics'"),
            ("{o-n: toy.metrics:share}", "compare.functions.o-n: the name of a metric has letters, digits and _"),
        ],
    )
    def test_a_function_that_cannot_be_used_ends_the_run_at_set_up(
        self, functions: str, message: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        use_metrics(functions, "  metric: own\n  first: {own: 0}\n", monkeypatch)
        with pytest.raises(UserError, match=message):
            set_up.begin()

    def test_a_quantile_is_compared_by_its_pinball_loss(self) -> None:
        """The example of the chapter."""
        labels, values = np.array([1.0, 2.0, 3.0]), np.array([2.0, 2.0, 2.0])
        truth = truth_of(labels, lambda labels, predictions: mean_pinball_loss(labels, predictions, alpha=0.9))
        assert evaluation.score("own", RegressorPredictions(values), truth) == pytest.approx((0.1 + 0.9) / 3)

    def test_all_columns_are_read_where_a_function_may_need_them(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert load_settings("toy").label_columns == ["late", "seen"]
        use_metrics("{own: toy.metrics:share}", "  metric: own\n  first: {own: 0}\n", monkeypatch)
        assert set(load_settings("toy").label_columns) == {"late", "seen", "id", "shade", "x", "y", "price"}


def test_a_section_without_functions_imports_nothing() -> None:
    assert load_metric_functions(Compare(metric="r2", first={"r2": 0})) == {}
