"""Check data: what makes a snapshot unfit to train on, and what is said about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from continuous_training.stages import check_data
from pipeline import Pipeline
from toy import change, events, store

if TYPE_CHECKING:
    from continuous_training.documents import Check

pytestmark = pytest.mark.usefixtures("workspace")


def failures(monkeypatch: pytest.MonkeyPatch, frame: pd.DataFrame, **parameters: str) -> dict[str, Check]:
    store(frame)
    found = Pipeline(monkeypatch, **parameters).checks()
    return {f"{check.name} {check.column or ''}".strip(): check for check in found if not check.passed}


def test_good_data_passes_every_check(monkeypatch: pytest.MonkeyPatch) -> None:
    assert failures(monkeypatch, events()) == {}


def test_a_value_out_of_its_range_is_shown_with_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = events()
    frame.loc[1000, "x"] = 99.0
    found = failures(monkeypatch, frame)
    assert list(found) == ["values x"]
    assert "in 1 rows, with 99.0" in found["values x"].message
    assert found["values x"].rows == [{"id": 1000, "x": 99.0}]


def test_an_unknown_category_fails_where_the_values_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = events()
    frame.loc[1000:1009, "shade"] = "mauve"
    found = failures(monkeypatch, frame)
    assert "with 'mauve' for one" in found["values shade"].message
    assert len(found["values shade"].rows) == check_data.EXAMPLES


def test_a_null_fails_where_none_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = events()
    frame.loc[1000, "x"] = np.nan
    found = failures(monkeypatch, frame)
    assert "0% are allowed" in found["values x"].message
    assert found["values x"].rows == [{"id": 1000, "x": None}]


def test_more_nulls_than_allowed_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = events()
    frame.loc[frame.index % 3 == 0, "y"] = np.nan
    assert "20% are allowed" in failures(monkeypatch, frame)["values y"].message


def test_a_source_that_has_dried_up_shows_although_the_fresh_rows_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = events().assign(y=lambda rows: rows["y"].fillna(0.0))
    frame.loc[frame["seen"] >= "2020-02-22", "y"] = np.nan
    assert frame.loc[frame["seen"] < "2020-02-29", "y"].isna().mean() < 0.2
    assert "20% are allowed" in failures(monkeypatch, frame)["values y"].message


def test_a_column_that_is_all_nan_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = failures(monkeypatch, events().assign(y=np.nan))
    assert found["columns empty"].message == "«y» has no value in any row"


def test_a_changed_type_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = failures(monkeypatch, events().assign(x=lambda rows: rows["x"].astype(str)))
    assert "should be number" in found["values x"].message


def test_rows_that_are_there_twice_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = pd.concat([events(), events().iloc[[1000]]])
    found = failures(monkeypatch, frame)
    assert found["duplicates"].rows == [{"id": 1000}, {"id": 1000}]


def test_stale_data_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    found = failures(monkeypatch, events(), AS_OF="2020-04-10")
    assert "days before AS_OF, at most 3 may be" in found["freshness seen"].message


def test_too_few_rows_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    found = failures(monkeypatch, events(a_day=1))
    assert set(found) >= {"rows to train on", "rows to judge by"}


@pytest.mark.parametrize(("before", "passed"), [(40.0, True), (15.0, False), (100.0, False)])
def test_the_volume_is_held_against_the_champions(monkeypatch: pytest.MonkeyPatch, before: float, passed: bool) -> None:
    run = Pipeline(monkeypatch)
    check = check_data.volume(run.given, run.snapshot(), {"ct.fresh_rows_per_day": str(before)})
    assert check.passed == passed
    assert "times the champion's" in check.message


class TestWhatIsKnownOnlyAfterwards:
    def test_an_undeclared_column_fails(self, monkeypatch: pytest.MonkeyPatch) -> None:
        change("x, y, late FROM", "x, y, late, x AS z FROM")
        assert failures(monkeypatch, events())["columns undeclared"].message == "training.yaml does not declare «z»"

    def test_a_column_of_a_listed_name_fails_even_when_it_is_declared(self, monkeypatch: pytest.MonkeyPatch) -> None:
        change("x, y, late FROM", "x, y, late, y AS regret FROM")
        change("    x: {type", "    regret: {type: number, max_null_share: 0.2}\n    x: {type")
        assert "asked with it: «regret»" in failures(monkeypatch, events())["known afterwards"].message

    def test_a_feature_made_from_the_answer_fails_under_any_name(self, monkeypatch: pytest.MonkeyPatch) -> None:
        frame = events()
        frame["x"] = frame["late"] + 0.1 * frame["x"]
        found = failures(monkeypatch, frame)
        assert list(found) == ["leaks x"]
        assert "must have been made from it" in found["leaks x"].message

    @pytest.mark.parametrize("sign", [1, -1])
    def test_how_well_it_ranks_the_answer_is_what_scikit_learn_says(
        self, monkeypatch: pytest.MonkeyPatch, sign: int
    ) -> None:
        change("max_single_feature_auc: 0.95", "max_single_feature_auc: 0.7")
        frame = events()
        frame["x"] = sign * frame["x"].round()  # so that many are equal
        known = frame[frame["seen"] < "2020-02-29"]
        auc = roc_auc_score(known["late"], sign * known["x"])
        assert f"AUC {auc:.2f}; above 0.7" in failures(monkeypatch, frame)["leaks x"].message

    def test_a_column_that_is_missing_fails(self, monkeypatch: pytest.MonkeyPatch) -> None:
        change("x, y, late FROM", "x, late FROM")
        assert failures(monkeypatch, events())["columns missing"].message == "the query does not return «y»"


def test_fresh_rows_of_one_class_can_judge_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    on_time = events()
    on_time.loc[on_time["seen"] >= "2020-02-10", "late"] = False
    store(on_time)
    found = {check.name: check for check in Pipeline(monkeypatch).checks()}
    assert not found["cases to judge by"].passed
    assert found["cases to judge by"].message == "the fresh rows are all of one class: nothing can be judged by them"
