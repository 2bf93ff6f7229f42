"""Check data: which snapshots fail, and the messages of the checks."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from continuous_training.data import duckdb_connection, single_features
from continuous_training.data.single_features import Feature
from continuous_training.data.snapshot_rows import SnapshotRows
from continuous_training.data.snapshots import read_snapshot
from continuous_training.stages import data_checks
from continuous_training.stages.data_checks import volume
from pipeline import Pipeline
from toy import change, events, store

if TYPE_CHECKING:
    from pathlib import Path

    from continuous_training.documents import Check

pytestmark = pytest.mark.usefixtures("workspace")


def failures(monkeypatch: pytest.MonkeyPatch, frame: pd.DataFrame, **parameters: str) -> dict[str, Check]:
    store(frame)
    checks = Pipeline(monkeypatch, **parameters).check_data()
    return {f"{check.name} {check.column or ''}".strip(): check for check in checks if not check.passed}


def test_valid_data_passes_all_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    assert failures(monkeypatch, events()) == {}


def test_a_value_out_of_range_is_reported_with_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = events()
    frame.loc[1000, "x"] = 99.0
    failed = failures(monkeypatch, frame)
    assert list(failed) == ["values x"]
    assert "is above the maximum 10 in 1 rows, for example 99.0" in failed["values x"].message
    assert failed["values x"].rows == [{"id": 1000, "x": 99.0}]


def test_a_category_that_is_not_allowed_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = events()
    frame.loc[1000:1009, "shade"] = "mauve"
    failed = failures(monkeypatch, frame)
    assert "in 10 rows, for example 'mauve'" in failed["values shade"].message
    assert len(failed["values shade"].rows) == data_checks.EXAMPLES


def test_a_null_fails_if_nulls_are_not_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = events()
    frame.loc[1000, "x"] = np.nan
    failed = failures(monkeypatch, frame)
    assert "0% are allowed" in failed["values x"].message
    assert failed["values x"].rows == [{"id": 1000, "x": None}]


def test_more_nulls_than_allowed_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = events()
    frame.loc[frame.index % 3 == 0, "y"] = np.nan
    assert "20% are allowed" in failures(monkeypatch, frame)["values y"].message


def test_nulls_in_the_fresh_rows_alone_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = events().assign(y=lambda rows: rows["y"].fillna(0.0))
    frame.loc[frame["seen"] >= "2020-02-22", "y"] = np.nan
    assert frame.loc[frame["seen"] < "2020-02-29", "y"].isna().mean() < 0.2
    assert "20% are allowed" in failures(monkeypatch, frame)["values y"].message


def test_an_empty_column_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = failures(monkeypatch, events().assign(y=np.nan))
    assert failed["columns empty"].message == "'y' has no value in any row"


def test_a_changed_type_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = failures(monkeypatch, events().assign(x=lambda rows: rows["x"].astype(str)))
    assert "is of type string, should be number" in failed["values x"].message


def test_duplicate_rows_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = pd.concat([events(), events().iloc[[1000]]])
    failed = failures(monkeypatch, frame)
    assert failed["duplicates"].rows == [{"id": 1000}, {"id": 1000}]


def test_old_data_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = failures(monkeypatch, events(), AS_OF="2020-04-10")
    assert "days before AS_OF; at most 3 are allowed" in failed["freshness seen"].message


def test_too_few_rows_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = failures(monkeypatch, events(per_day=1))
    assert set(failed) >= {"number of training rows", "number of fresh rows"}


@pytest.mark.parametrize(("before", "passed"), [(40.0, True), (15.0, False), (100.0, False)])
def test_the_volume_is_compared_with_the_champions(
    monkeypatch: pytest.MonkeyPatch, before: float, passed: bool
) -> None:
    run = Pipeline(monkeypatch)
    check = volume.check_volume(run.settings, run.take_snapshot(), {"ct.fresh_rows_per_day": str(before)})
    assert check.passed == passed
    assert "times the champion's" in check.message


class TestColumns:
    def test_an_undeclared_column_fails(self, monkeypatch: pytest.MonkeyPatch) -> None:
        change("x, y, late FROM", "x, y, late, x AS z FROM")
        assert failures(monkeypatch, events())["columns undeclared"].message == "training.yaml does not declare 'z'"

    def test_a_column_that_is_known_only_afterwards_fails_even_if_it_is_declared(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        change("x, y, late FROM", "x, y, late, y AS regret FROM")
        change("    x: {type", "    regret: {type: number, max_null_share: 0.2}\n    x: {type")
        assert "no request could contain it: 'regret'" in failures(monkeypatch, events())["known afterwards"].message

    def test_a_feature_that_is_computed_from_the_target_fails(self, monkeypatch: pytest.MonkeyPatch) -> None:
        frame = events()
        frame["x"] = frame["late"] + 0.1 * frame["x"]
        failed = failures(monkeypatch, frame)
        assert list(failed) == ["leaks x"]
        assert "alone, 'x' (AUC 1.00) tells 'late'; above 0.95 it was probably made" in failed["leaks x"].message

    @pytest.mark.parametrize("sign", [1, -1])
    def test_the_auc_of_a_feature_equals_scikit_learns(self, monkeypatch: pytest.MonkeyPatch, sign: int) -> None:
        frame = events()
        frame["x"] = sign * frame["x"].round()  # with many ties
        store(frame)
        labelled = frame[frame["seen"] < "2020-02-29"]
        run = Pipeline(monkeypatch)
        with SnapshotRows(run.take_snapshot(), run.settings.data.key) as rows:
            scores = single_features.aucs(rows, [Feature("x", "x", is_category=False)], "late")
        assert scores["x"] == pytest.approx(roc_auc_score(labelled["late"], sign * labelled["x"]))

    def test_a_missing_column_fails(self, monkeypatch: pytest.MonkeyPatch) -> None:
        change("x, y, late FROM", "x, late FROM")
        assert failures(monkeypatch, events())["columns missing"].message == "the data does not have 'y'"


def test_fresh_rows_of_a_single_class_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = events()
    frame.loc[frame["seen"] >= "2020-02-10", "late"] = False
    store(frame)
    checks = {check.name: check for check in Pipeline(monkeypatch).check_data()}
    assert not checks["number of fresh cases"].passed
    assert (
        checks["number of fresh cases"].message
        == "the fresh rows are all of one class: models cannot be compared on them"
    )


class TestNullsOfIntegersAndBooleans:
    """Nulls of integers and booleans are limited like those of other columns."""

    @pytest.fixture(params=["integer", "boolean"])
    def column(self, request: pytest.FixtureRequest, workspace: Path) -> None:  # noqa: ARG002 - changes its files
        """Add a column with one null in ten rows."""
        kind = request.param
        expression = {"integer": "CAST(id % 7 AS INTEGER)", "boolean": "id % 7 > 3"}[kind]
        change("x, y, late FROM", f"x, y, late, CASE WHEN id % 10 > 0 THEN {expression} END AS part FROM")
        change("    x: {type", f"    part: {{type: {kind}, max_null_share: 0.2}}\n    x: {{type")

    @pytest.mark.usefixtures("column")
    def test_nulls_within_the_limit_pass(self, monkeypatch: pytest.MonkeyPatch) -> None:
        run = Pipeline(monkeypatch)
        [check] = [check for check in run.check_data() if check.column == "part"]
        assert check.passed
        assert check.message.endswith("10.0% null")

    @pytest.mark.usefixtures("column")
    def test_nulls_above_the_limit_fail(self, monkeypatch: pytest.MonkeyPatch) -> None:
        change("max_null_share: 0.2}\n    x:", "max_null_share: 0.05}\n    x:")
        failed = failures(monkeypatch, events())
        assert list(failed) == ["values part"]
        assert "5% are allowed" in failed["values part"].message
        assert failed["values part"].rows[0]["part"] is None

    @pytest.mark.usefixtures("column")
    def test_nulls_are_nan_for_the_model(self, monkeypatch: pytest.MonkeyPatch) -> None:
        run = Pipeline(monkeypatch)
        frame = read_snapshot(run.take_snapshot().train.path, run.settings.data)
        assert frame["part"].dtype == "float64"
        assert frame["part"].isna().mean() == pytest.approx(0.1, abs=0.01)


def test_an_infinite_number_is_reported_with_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = events()
    frame.loc[1000, "y"] = -np.inf  # which has no minimum
    failed = failures(monkeypatch, frame)
    assert failed["values y"].message == "is infinite in 1 rows, for example '-inf'"
    assert failed["values y"].rows == [{"id": 1000, "y": "-inf"}]


def test_columns_can_have_any_name(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a b", 'quo"te', "it's", "SELECT", "Größe", "rows", "value"):
        quoted_name = '"' + name.replace('"', '""') + '"'
        change("x, y, late", f"x AS {quoted_name}, x, y, late")
        change("    x: {type", f"    {json.dumps(name)}: {{type: number, min: -10, max: 10}}\n    x: {{type")
    run = Pipeline(monkeypatch)
    assert all(check.passed for check in run.check_data())


@pytest.mark.integration(seconds=20)
def test_a_thousand_columns_are_checked_in_several_statements(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"c{place}" for place in range(1000)]
    change("x, y, late FROM", f"x, y, late, {', '.join(f'x + {n} AS {name}' for n, name in enumerate(names))} FROM")
    declarations = "".join(f"    {name}: {{type: number, max: 1100, feature: false}}\n" for name in names)
    change("    x: {type", f"{declarations}    x: {{type")
    store(events(per_day=3))
    change("min_train_rows: 100, min_fresh_rows: 50", "min_train_rows: 30, min_fresh_rows: 30")
    checks = {check.column: check for check in Pipeline(monkeypatch).check_data() if check.name == "values"}
    assert len(checks) == 1006
    assert all(check.passed for check in checks.values())


def test_of_many_rows_a_part_is_ranked_which_is_the_same_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Pipeline(monkeypatch)
    snapshot, key = run.take_snapshot(), run.settings.data.key

    def rank() -> tuple[int, float]:
        with SnapshotRows(snapshot, key) as rows:
            auc = single_features.aucs(rows, [Feature("x", "x", is_category=False)], "late")["x"]
            [[count]] = rows.query("SELECT count(*) FROM copy")
            return count, auc

    all_rows, exact = rank()
    assert all_rows == snapshot.rows
    monkeypatch.setattr(single_features, "MAX_ROWS", 600)
    part, auc = rank()
    assert 500 < part < 1000
    assert (part, auc) == rank()
    assert auc == pytest.approx(exact, abs=0.05)
    assert auc != exact


def test_duckdb_gets_memory_for_many_rows_up_to_a_limit() -> None:
    limits = [duckdb_connection.settings_for(20, rows)["memory_limit"] for rows in (0, 20_000_000, 10**10)]
    assert limits == ["138MB", "1138MB", "1638MB"]


def test_a_class_that_no_fresh_row_has_fails_for_a_metric_that_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    change("late: {type: boolean", "late: {type: category")
    frame = events().assign(late=lambda rows: np.array(["blue", "green", "red"])[rows["id"] % 3])
    frame.loc[frame["seen"] >= "2020-02-10", "late"] = "blue"
    frame.loc[frame["id"] % 2 == 0, "late"] = "green"
    assert "classes late" not in failures(monkeypatch, frame)
    change("report: [neg_log_loss]", "report: [roc_auc_ovr]")
    assert failures(monkeypatch, frame)["classes late"].message == (
        "the fresh rows lack the class red, without which roc_auc_ovr is not defined: increase fresh_days, or use "
        "neg_log_loss"
    )
    assert "classes late" not in failures(monkeypatch, frame, AS_OF="2020-02-15")
