"""Each rule of the comparison, on both sides of its limit and at it, with the numbers and the words that it reports."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pandas as pd
import pytest

from continuous_training.comparison import latency, rules
from continuous_training.comparison.cases import check_cases, count_by_class, count_groups
from continuous_training.documents import CHAMPION_OPENS, Check, Metric, Rule
from continuous_training.settings import Compare

FRESH_SINCE = datetime(2020, 3, 1)


def make_metric(low: float, high: float, name: str = "roc_auc") -> Metric:
    return Metric(name=name, candidate=0.7, champion=0.6, difference=(low, high))


def assert_rule(rule: Rule, *, passed: bool, value: float | None, limit: float | None, message: str) -> None:
    assert (rule.passed, rule.value, rule.limit) == (passed, pytest.approx(value), pytest.approx(limit))
    assert rule.message == message


class TestImprovement:
    @pytest.mark.parametrize(
        ("ends", "margin", "passed", "words"),
        [
            ((0.001, 0.02), 0.0, True, "is better: improvement +0.0010 to +0.0200 with 95% confidence"),
            ((0.0, 0.02), 0.0, False, "is not significantly better: improvement 0 to +0.0200 with 95% confidence"),
            ((-0.001, 0.02), 0.0, False, "is not significantly better: improvement −0.0010 to +0.0200 with 95%"),
            ((-0.02, 0.0), 0.0, False, "is not significantly better: improvement −0.0200 to 0 with 95%"),
            ((-0.02, -0.001), 0.0, False, "is worse: improvement −0.0200 to −0.0010 with 95% confidence"),
            ((0.006, 0.02), 0.005, True, "is better by more than 0.005: improvement +0.0060 to +0.0200"),
            ((0.005, 0.02), 0.005, False, "is better, but not surely by more than 0.005: improvement +0.0050"),
            ((-0.001, 0.02), 0.005, False, "is not significantly better: improvement −0.0010 to +0.0200"),
            ((0.001, 0.02), -0.01, True, "is better: improvement +0.0010 to +0.0200"),
            ((0.0, 0.02), -0.01, True, "is not worse by more than 0.01: improvement 0 to +0.0200"),
            ((-0.009, 0.02), -0.01, True, "is not worse by more than 0.01: improvement −0.0090 to +0.0200"),
            ((-0.009, -0.001), -0.01, True, "is not worse by more than 0.01: improvement −0.0090 to −0.0010"),
            ((-0.01, 0.02), -0.01, False, "may be worse by more than 0.01: improvement −0.0100 to +0.0200"),
            ((-0.01, -0.001), -0.01, False, "is worse: improvement −0.0100 to −0.0010"),
        ],
    )
    def test_the_lower_end_must_be_above_the_margin(
        self, ends: tuple[float, float], margin: float, passed: bool, words: str
    ) -> None:
        rule = rules.check_improvement(make_metric(*ends), margin, 0.95)
        assert (rule.passed, rule.value, rule.limit) == (passed, ends[0], margin)
        assert rule.message.startswith(f"the candidate's roc_auc {words}")
        assert ("; the lower end must be above " in rule.message) is not passed
        assert rule.rejects is not passed

    def test_a_rejection_says_what_was_missing(self) -> None:
        rule = rules.check_improvement(make_metric(-0.02, 0.01), -0.01, 0.99)
        assert rule.message.endswith("with 99% confidence; the lower end must be above −0.0100")

    @pytest.mark.parametrize(
        ("margin", "name"),
        [(0.0, "roc_auc improves"), (0.01, "roc_auc improves"), (-0.01, "roc_auc is not inferior")],
    )
    def test_its_name_is_what_it_checks(self, margin: float, name: str) -> None:
        assert rules.check_improvement(make_metric(0.1, 0.2), margin, 0.95).name == name

    def test_an_undefined_metric_fails(self) -> None:
        rule = rules.check_improvement(Metric(name="neg_log_loss", candidate=-1, champion=-1), 0.01, 0.95)
        words = "log_loss is not defined on enough resamples of the fresh rows: a class has too few rows"
        assert_rule(rule, passed=False, value=None, limit=0.01, message=words)
        assert rule.name == "log_loss improves"


class TestGuardrail:
    @pytest.mark.parametrize(("low", "passed"), [(-0.019, True), (-0.02, True), (-0.021, False)])
    def test_a_metric_may_worsen_by_the_limit(self, low: float, passed: bool) -> None:
        rule = rules.check_guardrail(make_metric(low, 0.1, "neg_log_loss"), 0.02, 0.95)
        says = "worsens by no more" if passed else "may worsen by more"
        ends = f"−{-low:.4f} to +0.1000 with 95% confidence"
        words = f"log_loss {says} than 0.02: improvement {ends}"
        assert_rule(rule, passed=passed, value=low, limit=-0.02, message=words)
        assert rule.name == "log_loss does not worsen"

    def test_an_undefined_metric_fails(self) -> None:
        rule = rules.check_guardrail(Metric(name="f1", candidate=0, champion=0), 0.02, 0.95)
        words = "f1 is not defined on enough resamples of the fresh rows: a class has too few rows"
        assert_rule(rule, passed=False, value=None, limit=-0.02, message=words)
        assert rule.name == "f1 does not worsen"


class TestFirstModel:
    @pytest.mark.parametrize(("score", "passed"), [(0.61, True), (0.6, True), (0.59, False)])
    def test_a_score_must_reach_the_limit(self, score: float, passed: bool) -> None:
        rule = rules.check_first_metric(Metric(name="roc_auc", candidate=score, champion=None), 0.6)
        words = f"roc_auc is {score:.4f}; a first model needs at least 0.6"
        assert_rule(rule, passed=passed, value=score, limit=0.6, message=words)

    @pytest.mark.parametrize(("score", "passed"), [(-39, True), (-40, True), (-41, False)])
    def test_an_error_must_not_exceed_it(self, score: float, passed: bool) -> None:
        rule = rules.check_first_metric(Metric(name="neg_max_error", candidate=score, champion=None), -40)
        words = f"max_error is {-score}.00; a first model needs at most 40"
        assert_rule(rule, passed=passed, value=-score, limit=40, message=words)


class TestOperation:
    @pytest.mark.parametrize(("error", "passed"), [(0.09, True), (0.1, True), (0.11, False)])
    def test_the_calibration_error_of_a_first_model_has_the_limit(self, error: float, passed: bool) -> None:
        words = f"the calibration error is {error:.4f}; at most 0.1 is allowed"
        rule = rules.check_calibration(error, None, 0.1)
        assert_rule(rule, passed=passed, value=error, limit=0.1, message=words)

    @pytest.mark.parametrize(
        ("error", "champion", "limit", "passed"),
        [(0.1, 0.05, 0.1, True), (0.11, 0.05, 0.1, False), (0.2, 0.2, 0.2, True), (0.21, 0.2, 0.2, False)],
    )
    def test_the_champions_error_is_the_limit_if_it_is_larger(
        self, error: float, champion: float, limit: float, passed: bool
    ) -> None:
        rule = rules.check_calibration(error, champion, 0.1)
        beside = f" (the champion's is {champion:.4f})"
        words = f"the calibration error is {error:.4f}{beside}; at most {limit:.4g} is allowed"
        assert_rule(rule, passed=passed, value=error, limit=limit, message=words)

    @pytest.mark.parametrize(("milliseconds", "passed"), [(199, True), (200, True), (201, False)])
    def test_latency(self, milliseconds: float, passed: bool) -> None:
        words = f"one prediction takes {milliseconds} ms; at most 200 ms are allowed"
        rule = rules.check_latency(milliseconds, 200)
        assert_rule(rule, passed=passed, value=milliseconds, limit=200, message=words)

    @pytest.mark.parametrize(("milliseconds", "passed"), [(19, True), (20, True), (21, False)])
    def test_slowdown(self, milliseconds: float, passed: bool) -> None:
        ratio = milliseconds / 4
        words = f"one prediction takes {ratio:.2f} times the champion's 4 ms; at most 5 times is allowed"
        rule = rules.check_slowdown(milliseconds, 4, 5)
        assert_rule(rule, passed=passed, value=ratio, limit=5, message=words)

    @pytest.mark.parametrize(("megabytes", "passed"), [(1.99, True), (2, True), (2.01, False)])
    def test_size(self, megabytes: float, passed: bool) -> None:
        words = f"the model has {megabytes:.2f} MB; at most 2 MB are allowed"
        assert_rule(rules.check_size(megabytes, 2), passed=passed, value=megabytes, limit=2, message=words)

    def test_a_size_that_is_not_known_fails(self) -> None:
        words = "the size of the model is not known; at most 2 MB are allowed"
        assert_rule(rules.check_size(None, 2), passed=False, value=None, limit=2, message=words)

    def test_the_time_is_the_median_of_30_and_the_first_call_warms_up(self) -> None:
        calls: list[int] = []

        def measure() -> float:
            calls.append(len(calls))
            return 9.0 if len(calls) == 1 else len(calls) / 1000

        assert latency.milliseconds([measure, lambda: 0.002]) == pytest.approx([16.5, 2.0])  # calls 2 to 31
        assert len(calls) == 31


class TestForm:
    """What a person may accept."""

    @pytest.mark.parametrize(("day", "passed"), [(29, True), (30, False)])
    def test_the_champion_must_not_know_the_fresh_rows(self, day: int, passed: bool) -> None:
        rule = rules.check_trained_until(datetime(2020, 3, 1) if day == 29 else datetime(2020, 3, 2), FRESH_SINCE)
        assert (rule.passed, rule.form) == (passed, True)
        assert ("choose a later AS_OF" in rule.message) is not passed

    def test_a_champion_of_unknown_rows_is_refused(self) -> None:
        rule = rules.check_trained_until(None, FRESH_SINCE)
        assert not rule.passed
        assert "neither its MLflow run nor its manifest has it" in rule.message

    @pytest.mark.parametrize(("columns", "missing"), [("xyz", ""), ("xy", ""), ("x", "y"), ("z", "x, y")])
    def test_the_query_must_return_the_champions_columns(self, columns: str, missing: str) -> None:
        rule = rules.check_champion_columns(["x", "y"], set(columns))
        number = len([name for name in missing.split(", ") if name])
        assert (rule.passed, rule.value, rule.limit, rule.form) == (not missing, number, 0, True)
        words = f"the query does not return {missing}, which" if missing else "the query returns all input columns"
        assert rule.message.startswith(words)

    @pytest.mark.parametrize(
        ("candidate", "new_inputs", "number", "message"),
        [
            ({"x": "double", "n": "long"}, [], 0, "clients of the champion can call the candidate"),
            ({"x": "double"}, [], 0, "clients of the champion can call the candidate"),
            ({"x": "double", "n": "double"}, [], 0, "clients of the champion can call the candidate"),
            ({"x": "double", "new": "long"}, ["new"], 0, "clients of the champion can call the candidate"),
            ({"x": "double", "new": "long"}, [], 1, "clients do not send new: add it to compare.new_inputs once they"),
            (
                {"x": "long"},
                [],
                1,
                "the candidate's input columns have other types than clients send: x (double to long)",
            ),
            (
                {"x": "string", "n": "boolean"},
                [],
                2,
                "the candidate's input columns have other types than clients send: ",
            ),
            (
                {"x": "long", "new": "long"},
                [],
                2,
                "clients do not send new: add it to compare.new_inputs once they do; ",
            ),
        ],
    )
    def test_clients_of_the_champion_must_be_able_to_call_the_candidate(
        self, candidate: dict[str, str], new_inputs: list[str], number: int, message: str
    ) -> None:
        rule = rules.check_input_types(candidate, {"x": "double", "n": "long"}, new_inputs)
        assert (rule.passed, rule.value, rule.limit, rule.form) == (not number, number, 0, True)
        assert rule.message.startswith(message)

    @pytest.mark.parametrize(
        ("champion", "kind", "passed"),
        [
            *(("integer", "double", True), ("long", "double", True), ("integer", "long", True)),
            *(("float", "double", True), ("double", "long", False), ("long", "integer", False)),
            *(("string", "double", False), ("boolean", "double", False), ("string", "string", True)),
        ],
    )
    def test_a_type_may_become_wider_only(self, champion: str, kind: str, passed: bool) -> None:
        assert rules.check_input_types({"x": kind}, {"x": champion}, []).passed is passed

    @pytest.mark.parametrize(
        ("candidate", "champion", "message"),
        [
            (["a", "b"], ["a", "b"], "both models predict a, b"),
            (["a", "b"], ["b", "a"], "the candidate predicts a, b, the champion b, a"),
            (["a", "b", "c"], ["a", "b"], "the candidate predicts a, b, c, the champion a, b"),
            (["a", "b"], [], "the candidate predicts a, b, the champion numbers"),
        ],
    )
    def test_both_must_have_the_same_classes(self, candidate: list[str], champion: list[str], message: str) -> None:
        rule = rules.check_classes(candidate, champion)
        assert (rule.passed, rule.form, rule.message) == (candidate == champion, True, message)

    @pytest.mark.parametrize(
        ("candidate", "champion", "message"),
        [
            (("a", "b"), ("a", "b"), "both models predict a, b"),
            (("a", "b"), ("b", "a"), "the candidate predicts a, b, the champion b, a"),
            (("a", "b"), (), "the candidate predicts a, b, the champion one target"),
        ],
    )
    def test_both_must_have_the_same_targets(
        self, candidate: tuple[str, ...], champion: tuple[str, ...], message: str
    ) -> None:
        rule = rules.check_targets(candidate, champion)
        assert (rule.passed, rule.form, rule.message) == (candidate == champion, True, message)

    def test_a_champion_that_is_lost_is_refused(self) -> None:
        rule = rules.reject_lost_champion("it is gone")
        assert (rule.name, rule.passed, rule.form, rule.message) == (CHAMPION_OPENS, False, True, "it is gone")

    def test_a_candidate_that_is_the_champion_passes(self) -> None:
        rule = rules.accept_champion()
        assert (rule.name, rule.passed, rule.form) == ("candidate is the champion", True, False)


def test_behaviour_tests_are_rules_of_their_own() -> None:
    checks = [Check(name="x helps", passed=True, message="-"), Check(name="y hurts", passed=False, message="0.3 > 0.2")]
    assert [(rule.name, rule.passed, rule.message, rule.form) for rule in rules.check_behaviour(checks)] == [
        ("behaviour: x helps", True, "x helps", False),
        ("behaviour: y hurts", False, "y hurts: 0.3 > 0.2", False),
    ]


class TestCases:
    limits = Compare(metric="roc_auc", first={"roc_auc": 0.6}, resample_by="day")

    @pytest.mark.parametrize(
        ("rows", "sizes", "groups", "passed", "message"),
        [
            (40, None, None, True, "40 rows; 95% confidence needs 40"),
            (39, None, None, False, "39 rows; 95% confidence needs 40"),
            (900, [860, 40], None, True, "40 rows of the rarest class; 95% confidence needs 40"),
            (900, [861, 39], None, False, "39 rows of the rarest class; 95% confidence needs 40"),
            (900, [450, 450], 40, True, "40 days; 95% confidence needs 40"),
            (900, [450, 450], 39, False, "39 days; 95% confidence needs 40"),
            (900, [861, 39], 39, False, "39 rows of the rarest class; 95% confidence needs 40"),
            (900, [900], 90, False, "the fresh rows are all of one class: models cannot be compared on them"),
        ],
    )
    def test_each_end_of_an_interval_needs_a_case(
        self, rows: int, sizes: list[int] | None, groups: int | None, passed: bool, message: str
    ) -> None:
        rule = check_cases(rows, sizes, groups, self.limits)
        assert (rule.passed, rule.limit, rule.message) == (passed, 40, message)
        assert rule.value == (0 if sizes == [900] else int(message.split()[0]))

    def test_a_regression_has_no_classes_and_single_rows_no_groups(self) -> None:
        assert (count_by_class(None), count_groups(None)) == (None, None)
        assert count_by_class(pd.Series(["a", "b", "a"])) == [2, 1]
        assert count_groups(np.array([5, 7, 5])) == 2
