"""Check data: features, keys and nulls that know the target are leaks, whatever their type and the task."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from continuous_training.errors import UserError
from pipeline import Pipeline
from several_targets import use_several_targets
from toy import change, events, store

if TYPE_CHECKING:
    from continuous_training.documents import Check

pytestmark = pytest.mark.usefixtures("workspace")

RANDOM = np.random.default_rng(3)


def leaks(monkeypatch: pytest.MonkeyPatch, frame: pd.DataFrame | None = None) -> list[Check]:
    if frame is not None:
        store(frame)
    return [check for check in Pipeline(monkeypatch).check_data() if check.name == "leaks"]


def add_column(kind: str, values: pd.Series, limits: str = "") -> pd.DataFrame:
    """Add the feature `extra` to the toy model; return its events."""
    change("x, y, late FROM", "x, y, late, extra FROM")
    change("    x: {type", f"    extra: {{type: {kind}{limits}}}\n    x: {{type")
    return events().assign(extra=values)


LATE = events()["late"]
CLASS_OF_SEVERAL = pd.Series(RANDOM.integers(0, 3, len(LATE)))


class TestTwoClasses:
    @pytest.mark.parametrize(
        ("kind", "values"),
        [
            ("category", LATE.map({True: "refunded", False: "kept"})),
            ("boolean", ~LATE),
            ("integer", LATE * 2 + 7),
            ("integer", pd.Series(RANDOM.integers(0, 2, len(LATE))).mul(2).add(1).where(LATE, 2)),  # a code: 1, 3 or 2
            ("number", LATE * 100 + events()["y"].fillna(0)),
            ("timestamp", events()["seen"].where(LATE, pd.Timestamp("2019-01-01"))),
        ],
        ids=["category", "boolean", "integer", "code", "number", "timestamp"],
    )
    def test_a_feature_of_any_type_that_is_the_answer_fails(
        self, monkeypatch: pytest.MonkeyPatch, kind: str, values: pd.Series
    ) -> None:
        (check,) = leaks(monkeypatch, add_column(kind, values))
        assert (check.passed, check.column) == (False, "extra")
        assert check.message.startswith("alone, 'extra' (AUC 1.00) tells 'late'; above 0.95 it was probably made")

    def test_a_category_of_many_values_is_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        (check,) = leaks(monkeypatch, add_column("category", events()["id"].map("customer {}".format)))
        assert check.passed
        assert check.column == "x"

    def test_a_feature_that_is_trusted_passes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        change("max_age_days: 3", "max_age_days: 3, trusted_features: [extra]")
        (check,) = leaks(monkeypatch, add_column("boolean", ~LATE))
        assert check.passed

    def test_one_that_does_not_exist_is_a_mistake(self, monkeypatch: pytest.MonkeyPatch) -> None:
        change("max_age_days: 3", "max_age_days: 3, trusted_features: [extr]")
        with pytest.raises(UserError, match=r"checks.trusted_features: 'extr' is not among the columns"):
            leaks(monkeypatch)

    def test_a_feature_whose_nulls_are_the_answer_fails(self, monkeypatch: pytest.MonkeyPatch) -> None:
        frame = add_column("number", events()["x"].mul(0).add(1).where(LATE), ", max_null_share: 0.9")
        (check,) = leaks(monkeypatch, frame)
        assert (check.passed, check.column) == (False, "extra")

    def test_nulls_that_are_the_answer_only_together_fail(self, monkeypatch: pytest.MonkeyPatch) -> None:
        coin = pd.Series(RANDOM.random(len(LATE)) < 0.5)
        frame = add_column("number", pd.Series(RANDOM.random(len(LATE))).where(coin), ", max_null_share: 0.9")
        change("max_null_share: 0.2", "max_null_share: 0.9")
        frame["y"] = pd.Series(RANDOM.random(len(LATE))).where(coin ^ LATE)  # null as often, whatever the label
        (check,) = leaks(monkeypatch, frame)
        assert (check.passed, check.column) == (False, None)
        assert check.message.startswith("alone, which features are null (AUC 1.00) tells 'late'")

    def test_a_key_that_orders_the_target_fails(self, monkeypatch: pytest.MonkeyPatch) -> None:
        frame = events().sort_values("late", kind="stable").assign(id=range(len(LATE)))
        (check,) = leaks(monkeypatch, frame)
        assert (check.passed, check.column) == (False, "id")

    @pytest.mark.parametrize(("limit", "passed"), [(0.82, True), (0.79, False)])
    def test_what_passes_is_named_with_its_score_and_the_limit(
        self, monkeypatch: pytest.MonkeyPatch, limit: float, *, passed: bool
    ) -> None:
        change("max_single_feature_auc: 0.95", f"max_single_feature_auc: {limit}")
        (check,) = leaks(monkeypatch)
        assert check.passed is passed
        assert "'x' (AUC 0.80)" in check.message


class TestSeveralClasses:
    @pytest.mark.parametrize(("kind", "noise", "passed"), [("category", 0.0, False), ("category", 1.0, True)])
    def test_a_category_that_is_the_answer_fails(
        self, monkeypatch: pytest.MonkeyPatch, kind: str, noise: float, *, passed: bool
    ) -> None:
        change("late: {type: boolean, feature: false}", "late: {type: category, feature: false}")
        change("metric: roc_auc", "metric: accuracy")
        change("first: {roc_auc: 0.6}", "first: {accuracy: 0.4}")
        other = CLASS_OF_SEVERAL.where(RANDOM.random(len(LATE)) >= noise, RANDOM.integers(0, 3, len(LATE)))
        frame = add_column(kind, other.map("abc".__getitem__))
        frame["late"] = CLASS_OF_SEVERAL.map("xyz".__getitem__)
        (check,) = leaks(monkeypatch, frame)
        assert check.passed is passed, check.message


class TestRegression:
    def test_a_feature_in_another_unit_fails_for_the_target_that_it_tells(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        use_several_targets(monkeypatch)
        store(pd.read_parquet(_copy_of_events()).assign(y=lambda rows: 1.8 * rows["bikes"] + 32))
        bikes, docks = leaks(monkeypatch)
        assert (bikes.passed, bikes.column) == (False, "y")
        assert bikes.message.startswith("alone, 'y' (a correlation of 1.00) tells 'bikes'; above 0.99 it was probably")
        assert docks.passed

    def test_a_strong_feature_is_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        use_several_targets(monkeypatch)
        assert all(check.passed for check in leaks(monkeypatch))


def _copy_of_events() -> Path:
    import duckdb

    path = Path("events.parquet")
    with duckdb.connect(".ct/warehouse.duckdb", read_only=True) as connection:
        connection.execute(f"COPY events TO '{path}'")
    return path
