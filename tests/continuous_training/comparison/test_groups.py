"""Rows of a group stay together: in the validation rows, and in the bootstrap."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import ndcg_score

from continuous_training.comparison import bootstrap, evaluation
from continuous_training.comparison.evaluation import RegressorPredictions
from continuous_training.comparison.ground_truth import GroundTruth
from continuous_training.comparison.weighted_metrics import weighted_metric
from continuous_training.errors import UserError
from continuous_training.settings import load_settings
from continuous_training.training.validation import split_newest
from pipeline import Pipeline
from toy import change, events, import_again, store


def add_customers(customers: object, *, resample: bool = True) -> pd.DataFrame:
    """Add a column of customers to the warehouse and to training.yaml."""
    rows = events().assign(customer=customers)
    store(rows)
    change("x, y, late", "x, y, customer, late")
    change("  key: [id]", "  key: [id]\n  group: customer")
    change("    shade:", "    customer: {type: integer, feature: false, max_null_share: 1}\n    shade:")
    if resample:
        change("  resamples: 200", "  resamples: 200\n  resample_by: group")
    return rows


@pytest.mark.usefixtures("workspace")
def test_the_validation_rows_are_whole_groups_that_begin_in_the_newest_days() -> None:
    rows = add_customers(np.arange(3600) // 90)
    before, last = split_newest(rows, 10, "model.validation_days", load_settings("toy"))
    assert not set(before["customer"]) & set(last["customer"])
    assert len(before) + len(last) == len(rows)
    assert last["seen"].min() > rows["seen"].max() - pd.Timedelta(days=10)
    assert before["seen"].max() > rows["seen"].max() - pd.Timedelta(days=10)


@pytest.mark.usefixtures("workspace")
def test_the_bootstrap_draws_whole_groups() -> None:
    rows = add_customers(np.arange(3600) % 7)
    groups = bootstrap.draw_groups(rows, load_settings("toy"))
    assert groups is not None
    for weights in bootstrap.resample_weights(len(rows), 10, groups):
        assert all(len(set(weights[rows["customer"] == customer])) == 1 for customer in range(7))


@pytest.mark.usefixtures("workspace")
def test_rows_without_a_group_are_one() -> None:
    rows = add_customers(np.where(np.arange(3600) % 2, 1.0, np.nan))
    assert set(bootstrap.draw_groups(rows, load_settings("toy"))) == {0, 1}  # type: ignore[arg-type]


@pytest.mark.usefixtures("workspace")
def test_too_few_groups_in_the_fresh_rows_end_the_run_at_check_data(monkeypatch: pytest.MonkeyPatch) -> None:
    add_customers(np.arange(3600) % 7)
    checks = {check.name: check for check in Pipeline(monkeypatch, AS_OF="2020-02-29").check_data()}
    assert checks["number of fresh cases"].message == "7 groups; 95% confidence needs 40"
    assert not checks["number of fresh cases"].passed


@pytest.mark.usefixtures("mlflow_workspace")
def test_groups_reach_the_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    add_customers(np.arange(3600) // 4)
    Pipeline(monkeypatch, AS_OF="2020-02-15").promote()
    verdict = Pipeline(monkeypatch, AS_OF="2020-03-01").compare()
    (rule,) = [rule for rule in verdict.rules if rule.name == "number of fresh cases"]
    assert rule.value == 140
    assert verdict.metrics[0].difference is not None


@pytest.mark.usefixtures("workspace")
@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  group: customer\n", "", "compare.resample_by: group needs data.group"),
        ("group: customer", "group: client", "data.group: the group column 'client' is not among the columns"),
    ],
)
def test_a_group_that_is_none_is_a_mistake_in_training_yaml(old: str, new: str, message: str) -> None:
    add_customers(0)
    change(old, new)
    with pytest.raises(UserError, match=message):
        load_settings("toy")


class TestRanking:
    def test_ndcg_is_the_mean_of_scikit_learns_over_the_groups(self) -> None:
        random = np.random.default_rng(0)
        groups, relevance = np.arange(60) % 6, random.integers(1, 5, 60).astype(float)
        predictions = random.permutation(60) / 60
        expected = np.mean(
            [ndcg_score([relevance[groups == group]], [predictions[groups == group]]) for group in range(6)]
        )
        assert evaluation.score("ndcg", RegressorPredictions(predictions), truth(relevance, groups)) == pytest.approx(
            expected
        )

    def test_a_group_that_is_drawn_twice_counts_twice(self) -> None:
        relevance, groups = np.array([1.0, 0.0, 1.0, 0.0, 0.0, 0.0]), np.array([0, 0, 1, 1, 2, 2])
        predictions = RegressorPredictions(np.array([2.0, 1.0, 1.0, 2.0, 2.0, 1.0]))
        worse = 1 / np.log2(3)
        assert evaluation.score("ndcg", predictions, truth(relevance, groups)) == pytest.approx((1 + worse) / 2)
        score = weighted_metric("ndcg", predictions, truth(relevance, groups))
        assert score(np.array([1, 1, 2, 2, 0, 0], dtype=np.int16)) == pytest.approx((1 + 2 * worse) / 3)
        assert np.isnan(score(np.array([0, 0, 0, 0, 3, 3], dtype=np.int16)))

    @pytest.mark.usefixtures("workspace")
    def test_ndcg_needs_groups(self) -> None:
        change("metric: roc_auc", "metric: ndcg")
        with pytest.raises(UserError, match="compare: the metric ndcg needs resample_by: group"):
            load_settings("toy")


def truth(relevance: np.ndarray, groups: np.ndarray) -> GroundTruth:
    return GroundTruth(relevance, np.ones(len(relevance)), pd.DataFrame(index=range(len(relevance))), {}, groups)


RANKER = """
from lightgbm import LGBMRanker
from sklearn.compose import make_column_transformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder


def build(categories, numbers, **parameters):
    columns = make_column_transformer((OneHotEncoder(), categories), ("passthrough", numbers))
    return make_pipeline(columns, LGBMRanker(verbose=-1, **parameters))
"""


@pytest.mark.usefixtures("mlflow_workspace")
def test_a_ranker_is_compared_by_ndcg(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("lightgbm", reason="lightgbm is not installed: scripts/ct test installs it")
    rows = add_customers(np.arange(3600) // 8)
    store(rows.assign(late=rows["late"].astype(int)))
    change("late: {type: boolean", "late: {type: integer")
    change("task: classification", "task: regression")
    change("parameters: {C: 1.0}", "parameters: {n_estimators: 10, early_stopping_round: 3}\n  validation_days: 10")
    change("metric: roc_auc\n  report: [neg_log_loss]", "metric: ndcg\n  report: [r2]")
    change("first: {roc_auc: 0.6}", "first: {ndcg: 0.7}")
    Path("src/toy/model.py").write_text(RANKER)
    import_again(monkeypatch)
    first = Pipeline(monkeypatch, AS_OF="2020-02-15")
    first.promote()
    assert first.candidate.metrics["ndcg"] > 0.8
    verdict = Pipeline(monkeypatch, AS_OF="2020-03-01").compare()
    assert verdict.metrics[0].difference is not None
    assert next(rule.name for rule in verdict.rules) == "ndcg improves"
