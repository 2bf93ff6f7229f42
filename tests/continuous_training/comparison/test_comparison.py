"""The comparison of two models whose predictions are known: which rules apply, with which numbers and limits."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from continuous_training.comparison.comparison import Comparison
from continuous_training.comparison.evaluation import ClassifierPredictions, calibration_error
from continuous_training.documents import Rule
from continuous_training.settings import Settings, load_settings

pytestmark = pytest.mark.usefixtures("workspace")

CLASSES = np.array([False, True])
ROWS = 600
OPERATION = {"calibration", "latency", "slowdown", "size"}


@pytest.fixture
def fresh() -> pd.DataFrame:
    random = np.random.default_rng(0)
    x = random.normal(size=ROWS)
    return pd.DataFrame(
        {
            "id": np.arange(ROWS),
            "seen": pd.date_range("2020-03-01", periods=ROWS, freq="h"),
            "shade": np.where(np.arange(ROWS) < ROWS - 3, "red", "blue"),
            "x": x,
            "late": random.random(ROWS) < 1 / (1 + np.exp(-1.5 * x)),
        }
    )


def make_model(fresh: pd.DataFrame, slope: float, **more: Any) -> SimpleNamespace:
    """Return a model whose log-odds are a multiple of x; 1.5 is the truth."""
    positive = 1 / (1 + np.exp(-slope * fresh["x"].to_numpy()))
    attributes = {
        "predictions": ClassifierPredictions(np.column_stack([1 - positive, positive]), CLASSES),
        "classes": ["False", "True"],
        "targets": ["late"],
        "input_columns": ["x"],
        "input_types": {"x": "double"},
        "megabytes": 2.0,
        "time_first_row": lambda: 0.01,
    }
    return SimpleNamespace(**attributes | more)


def limit(**limits: Any) -> Settings:
    """Return the toy's settings with other rules."""
    settings = load_settings("toy")
    return settings.model_copy(update={"compare": settings.compare.model_copy(update=limits)})


def check(fresh: pd.DataFrame, candidate: Any, champion: Any, confidence: float = 0.95, **limits: Any) -> list[Rule]:
    comparison = Comparison(limit(**limits), fresh, candidate, champion, confidence)
    return [*comparison.check_candidate(comparison.compute_metrics())]


def by_name(rules: list[Rule]) -> dict[str, Rule]:
    return {rule.name: rule for rule in rules}


class TestOperation:
    """Calibration, time and size are checked only if they have a limit, each by its own."""

    def test_nothing_is_checked_without_limits(self, fresh: pd.DataFrame) -> None:
        models = make_model(fresh, 1.5), make_model(fresh, 1.0)
        assert not OPERATION & by_name(check(fresh, *models)).keys()
        assert not OPERATION & by_name(check(fresh, models[0], None)).keys()

    @pytest.mark.parametrize(
        ("name", "limits", "value"),
        [
            ("latency", {"max_milliseconds": 10}, 10),
            ("slowdown", {"max_slowdown": 2}, 2),
            ("size", {"max_megabytes": 2}, 2),
        ],
    )
    def test_one_limit_adds_one_rule(self, fresh: pd.DataFrame, name: str, limits: dict, value: float) -> None:
        champion = make_model(fresh, 1.5, megabytes=9.0, time_first_row=lambda: 0.005)
        rules = by_name(check(fresh, make_model(fresh, 1.5), champion, **limits))
        assert OPERATION & rules.keys() == {name}
        assert (rules[name].value, rules[name].limit, rules[name].passed) == (pytest.approx(value), value, True)
        less = {key: 0.99 * number for key, number in limits.items()}
        assert not by_name(check(fresh, make_model(fresh, 1.5), champion, **less))[name].passed

    def test_a_first_model_has_no_slowdown(self, fresh: pd.DataFrame) -> None:
        limits = {"max_slowdown": 0.1, "max_milliseconds": 20.0, "max_megabytes": 2.0, "max_calibration_error": 0.2}
        rules = by_name(check(fresh, make_model(fresh, 1.5), None, **limits))
        assert OPERATION & rules.keys() == {"calibration", "latency", "size"}
        assert all(rule.passed for rule in rules.values())

    def test_the_candidates_calibration_counts_and_the_champions_is_the_limit(self, fresh: pd.DataFrame) -> None:
        good, bad = make_model(fresh, 1.5), make_model(fresh, 12.0)
        errors = [calibration_error(model.predictions, fresh["late"]) for model in (good, bad)]
        assert errors[0] < 0.06 < 0.1 < errors[1]
        rules = [
            by_name(check(fresh, *models, max_calibration_error=0.06))["calibration"]
            for models in ((good, bad), (bad, good), (bad, bad), (bad, None), (good, None))
        ]
        assert [rule.passed for rule in rules] == [True, False, True, False, True]
        assert [rule.value for rule in rules] == pytest.approx([errors[0], *[errors[1]] * 3, errors[0]])
        assert [rule.limit for rule in rules] == pytest.approx([errors[1], 0.06, errors[1], 0.06, 0.06])


class TestMetrics:
    limits = {"guardrails": {"neg_log_loss": 0.05}, "report": ("neg_brier_score",), "min_improvement": 0.01}

    def test_those_that_decide_have_intervals_and_margins(self, fresh: pd.DataFrame) -> None:
        comparison = Comparison(limit(**self.limits), fresh, make_model(fresh, 1.5), make_model(fresh, -1.0), 0.95)
        metrics = {metric.name: metric for metric in comparison.compute_metrics()}
        assert [*metrics] == ["roc_auc", "neg_log_loss", "neg_brier_score"]
        assert [metric.margin for metric in metrics.values()] == [0.01, -0.05, None]
        auc = metrics["roc_auc"]
        assert auc.candidate == pytest.approx(1 - (auc.champion or 0))
        low, high = auc.difference or (0, 0)
        assert low < auc.candidate - (auc.champion or 0) < high
        assert auc.standard_error == pytest.approx((high - low) / (2 * 1.96), rel=0.15)
        assert metrics["neg_brier_score"].difference is None
        assert metrics["neg_brier_score"].standard_error is None

    def test_a_first_model_is_alone(self, fresh: pd.DataFrame) -> None:
        metrics = Comparison(limit(**self.limits), fresh, make_model(fresh, 1.5), None, 0.95).compute_metrics()
        assert [(metric.champion, metric.difference, metric.margin) for metric in metrics] == [(None, None, None)] * 3

    def test_a_first_model_is_held_to_the_absolute_limits(self, fresh: pd.DataFrame) -> None:
        rules = check(fresh, make_model(fresh, 1.5), None, first={"roc_auc": 0.6, "accuracy": 0.99})
        assert {rule.name: rule.passed for rule in rules} == {
            "roc_auc of a first model": True,
            "accuracy of a first model": False,
        }

    def test_the_rules_beside_a_champion(self, fresh: pd.DataFrame) -> None:
        rules = check(fresh, make_model(fresh, 1.5), make_model(fresh, -1.0), slices={"shade": 0.1}, **self.limits)
        assert {rule.name: (rule.passed, rule.judged) for rule in rules} == {
            "roc_auc improves": (True, True),
            "log_loss does not worsen": (True, True),
            "shade = red": (True, True),
            "shade: rare values": (True, False),
            "input columns": (True, True),
        }
        rare = by_name(rules)["shade: rare values"].message
        assert "at least 8 rows of the rarest class are needed, and blue has " in rare

    def test_a_worse_guardrail_fails_alone(self, fresh: pd.DataFrame) -> None:
        """The ranking is the same, and the probabilities are far too extreme."""
        rules = check(fresh, make_model(fresh, 15.0), make_model(fresh, 1.5), **self.limits | {"non_inferior": 0.1})
        failed = {rule.name for rule in rules if not rule.passed}
        assert "log_loss does not worsen" in failed

    def test_repeated_looks_widen_the_intervals_of_the_metric_and_the_guardrails(self, fresh: pd.DataFrame) -> None:
        models = make_model(fresh, 1.5), make_model(fresh, 1.0)
        single, repeated = (by_name(check(fresh, *models, confidence, **self.limits)) for confidence in (0.95, 0.998))
        for name in ("roc_auc improves", "log_loss does not worsen"):
            assert "95% confidence" in single[name].message
            assert "99.8% confidence" in repeated[name].message
        name = "log_loss does not worsen"
        assert (repeated[name].value or 0) < (single[name].value or 0)


class TestPreconditions:
    @staticmethod
    def names(fresh: pd.DataFrame, candidate: Any, champion: Any) -> dict[str, bool]:
        rules = Comparison(limit(), fresh, candidate, champion, 0.95).check_preconditions()
        return {rule.name: rule.passed for rule in rules}

    def test_a_first_model_needs_cases_only(self, fresh: pd.DataFrame) -> None:
        assert self.names(fresh, make_model(fresh, 1.5), None) == {"number of fresh cases": True}

    def test_beside_a_champion_the_form_counts(self, fresh: pd.DataFrame) -> None:
        candidate, champion = make_model(fresh, 1.5), make_model(fresh, 1.0)
        names = {"number of fresh cases": True, "input columns of the champion": True, "classes": True}
        assert self.names(fresh, candidate, champion) == names
        lacking = make_model(fresh, 1.0, input_columns=["x", "gone"])
        assert self.names(fresh, candidate, lacking) == names | {"input columns of the champion": False}
        other = make_model(fresh, 1.0, classes=["False", "True", "maybe"])
        assert self.names(fresh, candidate, other) == names | {"classes": False}
        assert self.names(fresh, other, champion) == names | {"classes": False}

    def test_a_regression_has_no_classes_and_one_target_no_rule(self, fresh: pd.DataFrame) -> None:
        regressor = make_model(fresh, 1.0, classes=[])
        assert "classes" not in self.names(fresh, regressor, regressor)
        assert self.names(fresh, make_model(fresh, 1.0), regressor)["classes"] is False

    @pytest.mark.parametrize("targets", [(["a", "b"], ["a"]), (["a"], ["a", "b"]), (["a", "b"], ["a", "b"])])
    def test_several_targets_of_either_must_be_the_same(self, fresh: pd.DataFrame, targets: tuple) -> None:
        models = [make_model(fresh, 1.0, classes=[], targets=names) for names in targets]
        assert self.names(fresh, *models)["targets"] is (targets[0] == targets[1])
