"""Slices: each has enough cases to judge by, those of few groups too, and what is judged nowhere is named."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import stdtrit

from continuous_training.comparison import bootstrap, jackknife
from continuous_training.comparison.cases import count_by_class, count_cases, count_groups
from continuous_training.comparison.difference import Difference
from continuous_training.comparison.evaluation import ClassifierPredictions, RegressorPredictions
from continuous_training.comparison.ground_truth import GroundTruth
from continuous_training.comparison.slice_rules import SliceRules, check_slice, report_rare_values
from continuous_training.comparison.slices import MIN_CASES, slice_by_value
from continuous_training.documents import Rule
from continuous_training.formatting import format_number
from continuous_training.formatting.scorers import format_improvement
from continuous_training.settings import Compare

ROWS = st.lists(st.tuples(st.sampled_from(["a", "b", "c", "d", None]), st.booleans()), min_size=1, max_size=90)
SIMULATIONS = 400


@given(rows=ROWS)
@settings(deadline=None)
def test_every_row_is_in_one_slice_or_its_value_is_named_as_rare(rows: list[tuple[str | None, bool]]) -> None:
    column = pd.Series([value for value, _ in rows], name="c")
    labels = pd.Series([label for _, label in rows])
    for classes in (None, labels):
        slices, rare = slice_by_value(column, classes, None)
        is_rare = column.astype(object).fillna("null").isin(rare)
        covered = [*np.flatnonzero(is_rare), *(row for part in slices for row in part.rows)]
        assert sorted(covered) == list(range(len(rows)))
        for part in slices:
            sizes = count_by_class(None if classes is None else classes.iloc[part.rows])
            assert part.cases == count_cases(len(part.rows), sizes, None) >= MIN_CASES
        assert all(cases < MIN_CASES for cases in rare.values())


def test_rare_values_form_one_slice_that_is_named_so() -> None:
    column = pd.Series(["UA"] * 50 + ["AA"] * MIN_CASES + ["HA"] * (MIN_CASES - 1) + ["OO"], name="carrier")
    slices, rare = slice_by_value(column, None, None)
    assert [(part.name, part.cases) for part in slices] == [
        ("carrier = AA", MIN_CASES),
        ("carrier = UA", 50),
        ("carrier = others (HA, OO)", MIN_CASES),
    ]
    assert not rare


def test_rare_values_are_not_judged_if_they_are_too_few_together_or_all_rows() -> None:
    few = pd.Series(["UA"] * 50 + ["HA"] * (MIN_CASES - 2) + ["OO"], name="carrier")
    slices, rare = slice_by_value(few, None, None)
    assert [part.name for part in slices] == ["carrier = UA"]
    assert rare == {"HA": MIN_CASES - 2, "OO": 1}
    nothing_else = pd.Series(["HA"] * (MIN_CASES - 1) + ["OO"] * (MIN_CASES - 1), name="carrier")
    assert slice_by_value(nothing_else, None, None) == ([], {"HA": MIN_CASES - 1, "OO": MIN_CASES - 1})


def test_a_single_rare_value_is_not_mixed_with_others() -> None:
    column = pd.Series(["UA"] * 50 + ["AA"] * 20 + ["HA"] * 3, name="carrier")
    slices, rare = slice_by_value(column, None, None)
    assert [part.name for part in slices] == ["carrier = AA", "carrier = UA"]
    assert rare == {"HA": 3}


def test_a_slice_with_many_rare_values_names_five() -> None:
    column = pd.Series(["UA"] * 50 + [f"r{number}" for number in range(8)], name="carrier")
    assert slice_by_value(column, None, None).slices[-1].name == "carrier = others (r0, r1, r2, r3, r4 and 3 more)"


@pytest.mark.parametrize(("values", "slices"), [(20, 20), (21, 4)])
def test_a_number_with_more_than_20_values_is_sliced_by_its_quartiles(values: int, slices: int) -> None:
    column = pd.Series(np.repeat(np.arange(float(values)), 10), name="age")
    parts = slice_by_value(column, None, None).slices
    assert len(parts) == slices
    assert sum(len(part.rows) for part in parts) == len(column)


def test_times_are_sliced_by_their_quartiles() -> None:
    column = pd.Series(pd.date_range("2020-01-01", periods=40), name="day")
    assert [len(part.rows) for part in slice_by_value(column, None, None).slices] == [10, 10, 10, 10]


def test_nulls_are_a_slice() -> None:
    parts = slice_by_value(pd.Series([1.0, None] * MIN_CASES, name="age"), None, None).slices
    assert [part.name for part in parts] == ["age = 1.0", "age = null"]


def test_a_boolean_is_sliced_by_its_values() -> None:
    parts = slice_by_value(pd.Series([True, False] * MIN_CASES, name="open"), None, None).slices
    assert [part.name for part in parts] == ["open = False", "open = True"]


def test_rows_of_a_single_class_are_no_cases() -> None:
    assert count_cases(2, count_by_class(pd.Series([True, True])), None) == 0
    assert count_cases(3, count_by_class(pd.Series([True, False, False])), None) == 1
    assert count_cases(7, None, None) == 7


def test_the_rows_of_a_group_are_one_case() -> None:
    days = np.repeat(np.arange(MIN_CASES), 5)
    assert count_cases(len(days), None, count_groups(days)) == MIN_CASES
    column = pd.Series(["UA"] * len(days), name="carrier")
    assert [part.cases for part in slice_by_value(column, None, days).slices] == [MIN_CASES]
    assert slice_by_value(column, None, np.minimum(days, MIN_CASES - 2)).rare == {"UA": MIN_CASES - 1}


class TestRule:
    """Whether a slice is significantly worse, at and on both sides of the limit."""

    @pytest.mark.parametrize(
        ("value", "passed"), [(-0.3, True), (-0.3001, False)], ids=["worse by no more than that", "worse by more"]
    )
    def test_a_slice_may_be_worse_by_the_limit_and_by_chance(self, value: float, passed: bool) -> None:
        difference = Difference(value, standard_error=0.1, cases=10_000_000)  # Student's t is then normal
        rule = check_slice("a = b", 1234, difference, max_decrease=0.3 - 0.1959964, tail=0.025)
        assert rule.passed is passed
        assert rule.limit == pytest.approx(-0.1040036)
        assert rule.value == pytest.approx(value + 0.1959964)
        assert rule.message.startswith("a = b (1,234 rows): improvement −0.300")
        assert ("significantly worse by more than 0.104" in rule.message) is not passed

    def test_few_cases_need_a_clearer_difference(self) -> None:
        rule = check_slice("a = b", 96, Difference(-2.34, 1.0, cases=8), max_decrease=0, tail=0.025)
        assert rule.passed
        assert rule.value == pytest.approx(-2.34 + 2.3646, abs=1e-4)  # the 97.5 % quantile of t with 7 degrees
        assert not check_slice("a = b", 96, Difference(-2.34, 1.0, cases=9), max_decrease=0, tail=0.025).passed

    def test_an_undefined_metric_fails(self) -> None:
        rule = check_slice("a = b", 96, None, max_decrease=0.1, tail=0.025)
        assert not rule.passed
        assert (rule.value, rule.limit) == (None, -0.1)
        assert rule.message == "a = b (96 rows): the metric is not defined on most of its resamples"


def check(fresh: pd.DataFrame, candidate_error: np.ndarray, resample_by: str = "day") -> list[Rule]:
    """Check the slices of a regression whose champion errs by 1 everywhere."""
    limits = Compare(
        metric="neg_mean_absolute_error",
        first={"neg_mean_absolute_error": -9},
        slices={"open": 0.1},
        resample_by=resample_by,
        resamples=200,
    )
    models = RegressorPredictions(candidate_error), RegressorPredictions(np.ones(len(fresh)))
    groups = None if resample_by == "row" else fresh["day"].to_numpy()
    rules = SliceRules(fresh, limits, models, GroundTruth.of_labels(np.zeros(len(fresh))), None, groups, 42)
    return [*rules.check()]


class TestFewDays:
    """42 days of which 12 are closed: fewer than the 40 that a percentile at 95 % needs, and yet enough."""

    @staticmethod
    def fresh(closed: int = 12) -> pd.DataFrame:
        day = np.repeat(np.arange(42), 24)
        return pd.DataFrame({"day": day, "open": day >= closed})

    def test_each_value_is_judged_by_itself(self) -> None:
        rules = check(self.fresh(), np.zeros(1008))
        assert [(rule.name, rule.passed, rule.judged) for rule in rules] == [
            ("open = False", True, True),
            ("open = True", True, True),
        ]
        assert [rule.message for rule in rules] == [
            "open = False (288 rows): improvement +1.0000 ± 0",
            "open = True (720 rows): improvement +1.0000 ± 0",
        ]

    def test_a_value_in_which_the_candidate_is_worse_is_noticed(self) -> None:
        fresh = self.fresh()
        random = np.random.default_rng(0)
        error = np.where(fresh["open"], 0.5, 2.0) + 0.3 * random.normal(size=42)[fresh["day"]]
        assert {rule.name: rule.passed for rule in check(fresh, error)} == {"open = False": False, "open = True": True}

    def test_a_value_of_too_few_days_is_not_judged_and_says_how_many_it_needs(self) -> None:
        rules = check(self.fresh(closed=3), np.where(self.fresh(closed=3)["open"], 0.0, 100.0))
        assert [(rule.name, rule.passed, rule.judged, rule.mark) for rule in rules] == [
            ("open = True", True, True, "✓"),
            ("open: rare values", True, False, "?"),
        ]
        assert not rules[1].rejects
        assert rules[1].message == (
            "open is not judged for every value: at least 8 days are needed, and False has 3 (about 112 fresh days "
            "would do)"
        )
        assert rules[1].limit == 8

    def test_the_error_rate_is_divided_by_the_number_of_slices(self) -> None:
        random = np.random.default_rng(1)
        error = 1 + random.normal(size=42)[self.fresh()["day"]]
        two = {rule.name: rule for rule in check(self.fresh(), error)}["open = True"]
        one = check(self.fresh(closed=0).iloc[12 * 24 :], error[12 * 24 :])[0]
        change = float(two.message.split("improvement ")[1].split(" ")[0].replace("−", "-"))
        assert two.value is not None
        assert one.value is not None
        assert (two.value - change) / (one.value - change) == pytest.approx(2.3638 / 2.0452, abs=0.01)  # t with 29

    def test_equal_models_rarely_fail_in_few_days(self) -> None:
        """Of the limit's 2.5 %, in groups of unequal size: the bootstrap's normal interval fails 6 %."""
        random, failures = np.random.default_rng(2), 0
        for _ in range(SIMULATIONS):
            sizes = random.integers(5, 35, MIN_CASES)
            days = np.repeat(np.arange(MIN_CASES), sizes)
            effect = random.normal(size=MIN_CASES)[days] + random.normal(size=len(days))
            models = RegressorPredictions(10 - effect), RegressorPredictions(np.full(len(days), 10.0))
            truth = GroundTruth.of_labels(np.zeros(len(days)))
            value, error = jackknife.estimate_difference("neg_mean_absolute_error", *models, truth, days)
            rule = check_slice("a", len(days), Difference(value, error, MIN_CASES), max_decrease=0, tail=0.025)
            failures += not rule.passed
        assert failures <= 0.05 * SIMULATIONS


class TestJackknife:
    def test_the_error_of_a_mean_is_its_standard_error(self) -> None:
        errors = np.array([1.0, 2.0, 4.0, 7.0, 11.0])
        models = RegressorPredictions(errors), RegressorPredictions(np.zeros(5))
        value, error = jackknife.estimate_difference(
            "neg_mean_absolute_error", *models, GroundTruth.of_labels(np.zeros(5)), np.arange(5)
        )
        assert value == pytest.approx(-errors.mean())
        assert error == pytest.approx(errors.std(ddof=1) / 5**0.5)

    def test_an_auc_without_positives_in_all_groups_but_one_is_undefined(self) -> None:
        labels, groups = np.array([True, False, False, False]), np.array([0, 0, 1, 2])
        model = ClassifierPredictions(np.full((4, 2), 0.5), np.array([False, True]))
        value, error = jackknife.estimate_difference("roc_auc", model, model, GroundTruth.of_labels(labels), groups)
        assert value == 0
        assert np.isnan(error)

    def test_it_shrinks_with_the_number_of_groups(self) -> None:
        errors = np.random.default_rng(3).normal(size=400) + 5
        models = RegressorPredictions(errors), RegressorPredictions(np.zeros(400))
        truth = GroundTruth.of_labels(np.zeros(400))
        results = [
            jackknife.estimate_difference("neg_mean_absolute_error", *models, truth, np.arange(400) // size)[1]
            for size in (1, 4, 16)
        ]
        assert all(abs(later / first - 1) < 0.4 for first, later in pairwise(results))  # independent rows


class TestMethod:
    """The jackknife where groups are fewer than a percentile needs, 40 at 95 %; else the bootstrap."""

    @pytest.mark.parametrize(
        ("days", "resample_by", "is_jackknife"), [(39, "day", True), (40, "day", False), (39, "row", False)]
    )
    def test_few_groups_are_judged_by_the_jackknife(self, days: int, resample_by: str, is_jackknife: bool) -> None:
        fresh = pd.DataFrame({"day": np.repeat(np.arange(days), 5), "open": True})
        error = 1 + np.random.default_rng(4).normal(size=len(fresh)) ** 2
        (rule,) = check(fresh, error, resample_by)
        models = RegressorPredictions(error), RegressorPredictions(np.ones(len(fresh)))
        truth, groups = GroundTruth.of_labels(np.zeros(len(fresh))), fresh["day"].to_numpy()
        metric = "neg_mean_absolute_error"
        if is_jackknife:
            value, spread = jackknife.estimate_difference(metric, *models, truth, groups)
        else:
            by_day = groups if resample_by == "day" else None
            differences = bootstrap.differences(metric, *models, truth, resamples=200, groups=by_day)
            value, spread = differences.mean(), differences.std()
        expected = f"improvement {format_improvement(value)} ± {format_number(spread)}"
        assert rule.message.startswith(f"open = True ({len(fresh)} rows): {expected}")
        cases = len(fresh) if resample_by == "row" else days
        assert rule.value == pytest.approx(value + stdtrit(cases - 1, 0.975) * spread)

    @pytest.mark.parametrize(("undefined", "judged"), [(100, True), (101, False)])
    def test_a_metric_may_be_undefined_on_half_of_the_resamples(
        self, undefined: int, judged: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        differences = np.append(np.full(undefined, np.nan), np.ones(200 - undefined))
        monkeypatch.setattr(bootstrap, "differences", lambda *_, **__: differences)
        (rule,) = check(pd.DataFrame({"day": np.arange(50), "open": True}), np.ones(50), "row")
        assert rule.passed is judged
        assert rule.value == (1 if judged else None)

    def test_a_metric_that_is_undefined_without_a_day_fails(self) -> None:
        day = np.repeat(np.arange(10), 20)
        labels = (day == 0) & (np.arange(200) < 10)
        fresh = pd.DataFrame({"day": day, "open": True})
        model = ClassifierPredictions(np.full((200, 2), 0.5), np.array([False, True]))
        limits = Compare(metric="roc_auc", first={"roc_auc": 0}, slices={"open": 0.1}, resample_by="day")
        arguments = limits, (model, model), GroundTruth.of_labels(labels)
        (rule,) = SliceRules(fresh, *arguments, pd.Series(labels), day, 10).check()
        assert not rule.passed
        assert rule.message == "open = True (200 rows): the metric is not defined on most of its resamples"

    @pytest.mark.parametrize(
        ("classes", "resample_by", "unit"),
        [
            (None, "day", "days"),
            (pd.Series([True] * 9 + [False]), "row", "rows of the rarest class"),
            (pd.Series([True] * 9 + [False]), "hour", "hours and rows of the rarest class"),
        ],
    )
    def test_what_is_missing_is_named(self, classes: pd.Series | None, resample_by: str, unit: str) -> None:
        limits = Compare(metric="accuracy", first={"accuracy": 0}, slices={"open": 0.1}, resample_by=resample_by)
        fresh = pd.DataFrame({"open": [True] * 10})
        model = RegressorPredictions(np.ones(10))
        groups = None if resample_by == "row" else np.zeros(10)
        truth = GroundTruth.of_labels(np.ones(10))
        (rule,) = SliceRules(fresh, limits, (model, model), truth, classes, groups, days=5).check()
        assert rule.message.startswith(f"open is not judged for every value: at least 8 {unit} are needed, and ")

    def test_a_value_without_any_case_has_no_estimate_of_days(self) -> None:
        rule = report_rare_values("open", {"False": 0, "True": 4}, "rows", 10)
        assert rule.message.endswith("False has 0, True has 4 (about 20 fresh days would do)")

    def test_at_the_limit_a_slice_passes(self) -> None:
        assert check_slice("a", 9, Difference(-0.5, 0.0, cases=9), max_decrease=0.5, tail=0.025).passed
        assert not check_slice("a", 9, Difference(-0.51, 0.0, cases=9), max_decrease=0.5, tail=0.025).passed
