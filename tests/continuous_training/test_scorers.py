"""Metrics as people read them: errors are positive, wherever one is shown."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from sklearn.metrics import get_scorer, get_scorer_names

from continuous_training.comparison import rules
from continuous_training.documents import Metric, Verdict
from continuous_training.formatting.scorers import format_score, is_error, natural_value, plain_name
from continuous_training.monitoring import decision
from continuous_training.monitoring.decision import LIVE_METRIC
from continuous_training.monitoring.performance import MetricDrop, MetricEstimate
from continuous_training.settings import Compare, Monitor

if TYPE_CHECKING:
    from continuous_training.documents import Rule

MAE = "neg_mean_absolute_error"
LIMITS = Compare(metric=MAE, first={MAE: -40})
IMPROVEMENT = Metric(name=MAE, candidate=-60.7, champion=-65.2, difference=(3.1, 5.9), margin=0.0)


@pytest.mark.parametrize("scorer", sorted(get_scorer_names()))
def test_every_scorer_of_scikit_learn_has_the_direction_of_its_name(scorer: str) -> None:
    assert is_error(scorer) == (get_scorer(scorer)._sign < 0)


@pytest.mark.parametrize(
    ("scorer", "value", "name", "text"),
    [
        ("roc_auc", 0.747, "roc_auc", "0.7470"),
        ("r2", -0.5, "r2", "−0.5000"),
        (MAE, -65.0, "mean_absolute_error", "65.00"),
        (f"train_{MAE}", -8.7, "train_mean_absolute_error", "8.7000"),
        (f"validation_{MAE}", -1250.0, "validation_mean_absolute_error", "1,250"),
        ("neg_log_loss", 0.0, "log_loss", "0"),
        ("fit_seconds", 2.5, "fit_seconds", "2.5000"),
    ],
)
def test_a_metric_has_its_plain_name_and_its_natural_value(scorer: str, value: float, name: str, text: str) -> None:
    assert plain_name(scorer) == name
    assert format_score(value, scorer) == text
    assert natural_value(natural_value(value, scorer), scorer) == value


@pytest.mark.parametrize(
    ("rule", "name", "value", "message"),
    [
        (
            rules.check_first_metric(IMPROVEMENT, -40),
            *("mean_absolute_error of a first model", 60.7),
            "mean_absolute_error is 60.70; a first model needs at most 40",
        ),
        (
            rules.check_improvement(IMPROVEMENT, 0.0, 0.95),
            *("mean_absolute_error improves", 3.1),
            "the candidate's mean_absolute_error is better: improvement +3.1000 to +5.9000 with 95% confidence",
        ),
        (
            rules.check_guardrail(IMPROVEMENT, 2.0, 0.95),
            *("mean_absolute_error does not worsen", 3.1),
            "mean_absolute_error worsens by no more than 2: improvement +3.1000 to +5.9000 with 95% confidence",
        ),
    ],
)
def test_the_rules_speak_of_the_error(rule: Rule, name: str, value: float, message: str) -> None:
    assert (rule.name, rule.value, rule.message) == (name, value, message)


def test_a_first_model_fails_with_a_larger_error_than_the_limit() -> None:
    assert not rules.check_first_metric(IMPROVEMENT, -40).passed
    assert rules.check_first_metric(IMPROVEMENT, -70).passed


def test_the_verdict_lists_the_errors_of_both_models() -> None:
    verdict = Verdict(
        decision="promote",
        message="",
        champion="1",
        fresh_rows=9,
        confidence=0.95,
        metrics=[IMPROVEMENT],
        rules=[],
        curves=[],
        build_tag="ct-1",
        started=datetime(2020, 3, 1, tzinfo=UTC),
        seconds=1,
    )
    assert verdict.summary.splitlines()[1] == (
        "mean_absolute_error  candidate 60.70   champion 65.20   lower is better"
    )


def test_the_monitor_says_that_an_error_rose() -> None:
    baseline = MetricEstimate(metric=MAE, value=-60.7, low=-62.0, high=-59.0, confidence=0.95, rows=900)
    current = MetricEstimate(metric=MAE, value=-81.0, low=-83.0, high=-79.5, confidence=0.95, rows=1200)
    result = decision.decide(
        *([], baseline, current, MetricDrop(2.0, 0)),
        drifted={LIVE_METRIC},
        invalid_columns=0,
        limits=Monitor(),
    )
    assert result.cause == "the live mean_absolute_error rose"
    assert result.message.endswith(
        "the live mean_absolute_error rose from 60.70 to 81.00 (95% interval 79.50 to 83.00, from 1,200 labels)"
    )
