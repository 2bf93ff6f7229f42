"""fresh_days: auto: the window is as long as past comparisons need, and does not change every night."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from continuous_training.comparison.fresh_days import FreshDays, choose_fresh_days, needed_days
from continuous_training.documents import Look
from continuous_training.errors import UserError
from continuous_training.registry import looks as tracked_looks
from continuous_training.registry import runs
from continuous_training.settings import Settings, load_settings
from pipeline import Pipeline
from toy import change

UNTIL = datetime(2020, 3, 1)

pytestmark = pytest.mark.usefixtures("workspace")

Choose = Callable[..., FreshDays]


def make_look(*, night: int = 1, days: float = 28, error: float | None = 0.01, metric: str = "roc_auc") -> Look:
    """Return the look of a run so many nights before."""
    until = UNTIL - timedelta(days=night)
    more: dict[str, Any] = {"metric": metric, "standard_error": error, "spent": 1, "left": 0, "number": 1}
    return Look(fingerprint=f"{night}", champion="1", newest=until, until=until, days=days, **more)


def make_settings(difference: float = 0.05, data: str = "", compare: str = "") -> Settings:
    change("fresh_days: 14", f"fresh_days: auto{data}")
    change("metric: roc_auc", f"metric: roc_auc\n  smallest_difference: {difference}{compare}")
    return load_settings("toy")


def choose(settings: Settings, *earlier: Look) -> FreshDays:
    return choose_fresh_days(settings, lambda: earlier, UNTIL)


def difference_for(days: float) -> float:
    """Return the difference for which comparisons with an error of 0.01 in 28 days need so many days."""
    return (1.959964 + 0.841621) * 0.01 * math.sqrt(28 / days)


class TestNeededDays:
    def test_the_power_for_the_difference_is_80_percent(self) -> None:
        """A difference of 2.8 standard errors is found with 80 % power at a one-sided 2.5 %."""
        limits = make_settings(difference=0.01 * 2.80159).compare
        assert needed_days(make_look(), 0.01, limits) == pytest.approx(28, rel=1e-4)
        assert needed_days(make_look(), 0.02, limits) == pytest.approx(4 * 28, rel=1e-4)
        assert needed_days(make_look(days=14), 0.01, limits) == pytest.approx(14, rel=1e-4)

    def test_a_look_with_a_part_of_the_error_rate_needs_more(self) -> None:
        limits = make_settings(difference=0.01 * 2.80159).compare
        nightly = make_look().model_copy(update={"spent": 1 / 30})
        assert needed_days(nightly, 0.01, limits) == pytest.approx(28 * ((3.1440 + 0.8416) / 2.80159) ** 2, rel=1e-3)

    def test_the_margin_counts(self) -> None:
        limits = make_settings(difference=0.03, compare="\n  min_improvement: 0.02").compare
        assert needed_days(make_look(), 0.01, limits) == pytest.approx(28 * 2.80159**2, rel=1e-4)

    def test_non_inferior_needs_no_difference(self) -> None:
        limits = make_settings(difference=0, compare="\n  non_inferior: 0.0280159").compare
        assert needed_days(make_look(), 0.01, limits) == pytest.approx(28, rel=1e-4)


class TestLength:
    @pytest.mark.parametrize("number", [0, 1, 2])
    def test_until_there_are_three_comparisons_it_is_28_days(self, number: int) -> None:
        length = choose(make_settings(), *(make_look(night=night + 1) for night in range(number)))
        assert length.days == 28
        assert f"{number} comparison{'' if number == 1 else 's'} of 3 are known" in length.reason

    @pytest.mark.parametrize(
        ("needed", "days"),
        [(31.4, 28), (31.6, 35), (17.6, 28), (17.4, 21), (41.9, 42), (42.9, 49), (2.9, 7), (399.9, 56)],
    )
    def test_it_changes_to_whole_weeks_when_it_is_clearly_too_long_or_too_short(self, needed: float, days: int) -> None:
        settings = make_settings(difference=difference_for(needed))
        length = choose(settings, *(make_look(night=night) for night in (1, 2, 3)))
        assert length.days == days
        assert f"needs {math.ceil(needed)} days for a power of 80%" in length.reason
        assert length.reason.endswith("; data.max_fresh_days allows 56") is (needed > 56)

    def test_it_stays_where_it_is_after_a_change(self) -> None:
        settings = make_settings(difference=difference_for(31.6))
        error = 0.01 * math.sqrt(28 / 35)
        later = [make_look(night=night, days=35, error=error) for night in (1, 2, 3)]
        assert choose(settings, *later).days == 35
        assert choose(settings, later[0], *(make_look(night=night) for night in (2, 3, 4))).days == 35

    def test_one_unusual_night_changes_nothing(self) -> None:
        settings = make_settings(difference=difference_for(28))
        assert choose(settings, make_look(error=1.0), make_look(night=2), make_look(night=3)).days == 28

    def test_comparisons_of_equal_models_or_by_another_metric_tell_nothing(self) -> None:
        settings = make_settings(difference=difference_for(50))
        others = [make_look(error=0), make_look(error=None), make_look(metric="accuracy", days=14)]
        length = choose(settings, *others, make_look(night=2), make_look(night=3))
        assert (length.days, length.reason[:16]) == (28, "2 comparisons of")

    def test_a_run_that_is_repeated_gets_the_same_rows(self) -> None:
        settings = make_settings(difference=difference_for(50))
        before = [make_look(night=2), make_look(night=3)]
        assert choose(settings, make_look(night=0), *before) == choose(settings, *before)

    def test_only_the_newest_ten_count(self) -> None:
        settings = make_settings(difference=difference_for(28))
        newest = [make_look(night=night) for night in range(1, 11)]
        old = [make_look(night=night, error=1.0) for night in range(11, 30)]
        assert choose(settings, *newest, *old).days == 28

    def test_its_bounds_can_be_set(self) -> None:
        settings = make_settings(difference_for(400), data="\n  min_fresh_days: 10\n  max_fresh_days: 30")
        looks = [make_look(night=night) for night in (1, 2, 3)]
        assert choose(settings, *looks).days == 30
        few = settings.model_copy(update={"compare": settings.compare.model_copy(update={"smallest_difference": 1})})
        assert choose(few, *looks).days == 10
        assert choose(few).days == 28

    def test_days_as_cases_need_as_many_days(self) -> None:
        settings = make_settings(difference=1, compare="\n  resample_by: day")
        assert choose(settings).days == 40
        assert choose(settings, *(make_look(night=night, days=40) for night in (1, 2, 3))).days == 40


def test_a_number_of_days_asks_for_no_comparisons() -> None:
    def fail() -> list[Look]:
        raise AssertionError

    assert choose_fresh_days(load_settings("toy"), fail, UNTIL) == FreshDays(14, "")


@pytest.mark.parametrize(
    ("data", "compare", "message"),
    [
        ("", "", "compare: data.fresh_days: auto needs a smallest_difference above 0, the margin"),
        ("\n  min_fresh_days: 57", "\n  smallest_difference: 1", "min_fresh_days is above max_fresh_days, 56"),
        ("", "\n  smallest_difference: 1\n  resample_by: week", "resample_by: week needs 280 days for its cases"),
        ("matic", "\n  smallest_difference: 1", "data.fresh_days"),
    ],
)
def test_mistakes_in_training_yaml_are_named(data: str, compare: str, message: str) -> None:
    change("fresh_days: 14", f"fresh_days: auto{data}")
    change("metric: roc_auc", f"metric: roc_auc{compare}")
    with pytest.raises(UserError, match=message):
        load_settings("toy")


@pytest.mark.usefixtures("mlflow_workspace")
def test_a_run_takes_the_rows_of_as_many_days_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    make_settings(difference=0.2)
    run = Pipeline(monkeypatch, AS_OF="2020-03-05")
    first = run.take_snapshot()
    assert (first.until - first.fresh_since).days == 28
    assert "0 comparisons of 3 are known" in first.fresh_days_reason
    experiment = runs.experiment_id(run.client, "toy")
    for night in (1, 2, 3):
        tracked = run.client.create_run(experiment)
        tracked_looks.record(run.client, tracked.info.run_id, make_look(night=night, error=0.05))
        run.client.set_terminated(tracked.info.run_id)
    later = run.take_snapshot()
    assert (later.until - later.fresh_since).days == 14
    assert "3 comparisons tell that a difference of 0.2000 needs 14 days" in later.fresh_days_reason
    assert later.fresh_since - later.since == first.fresh_since - first.since
