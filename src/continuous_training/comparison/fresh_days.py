"""The length of the window of fresh rows, with `data.fresh_days: auto` as few weeks as find what matters.

The standard error of a difference shrinks with the square root of the days. So past comparisons tell how many days a
test of the configured power needs (Cohen, Statistical Power Analysis for the Behavioral Sciences, 1988, chapter 2, for
a one-sided test at the error rate that nightly runs leave to one of them).
"""

from __future__ import annotations

import math
from statistics import NormalDist, median
from typing import TYPE_CHECKING, NamedTuple

from continuous_training.formatting import format_number, format_percent, pluralize

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from continuous_training.documents import Look
    from continuous_training.settings import Compare, Settings

WEEK = 7  # whole weeks: each has all days of the week
MIN_LOOKS, MAX_LOOKS = 3, 10  # comparisons from which the length is computed: the newest ones
GROW, SHRINK = 3.5, 10.5  # days beyond the present length, or below it, at which it changes: not every night


class FreshDays(NamedTuple):
    """The length of the window in days, and why it is that long."""

    days: int
    reason: str


def choose_fresh_days(settings: Settings, find_looks: Callable[[], Sequence[Look]], until: datetime) -> FreshDays:
    """Return the length of the window of fresh rows that ends at `until`: the configured one or, with `auto`, the best.

    Comparisons on rows up to then or later do not count, so that a run that is repeated gets the same rows.

    Args:
        settings: the settings of the model.
        find_looks: returns the looks of the model, the last one first; it is called with `data.fresh_days: auto` only.
        until: the end of the window.
    """
    data, limits = settings.data, settings.compare
    if data.fresh_days != "auto":
        return FreshDays(data.fresh_days, "")
    low, high = settings.min_fresh_days, data.max_fresh_days
    known = [look for look in find_looks() if look.until < until and look.metric == limits.metric]
    errors = [(look, look.standard_error) for look in known if look.standard_error][:MAX_LOOKS]
    current = min(max(round(known[0].days) if known else data.usual_fresh_days, low), high)
    if len(errors) < MIN_LOOKS:
        count = pluralize(len(errors), "comparison")
        return FreshDays(current, f"{count} of {MIN_LOOKS} are known that tell how many days are needed")
    needed = median(needed_days(look, error, limits) for look, error in errors)
    days = current
    if needed > current + GROW or needed < current - SHRINK:
        days = min(max(WEEK * math.ceil(needed / WEEK), low), high)
    difference = f"a difference of {format_number(limits.smallest_difference)}"
    reason = f"{len(errors)} comparisons tell that {difference} needs {math.ceil(needed)} days for a power of "
    reason += format_percent(limits.power)
    if needed > high:
        reason += f"; data.max_fresh_days allows {high}"
    return FreshDays(days, reason)


def needed_days(look: Look, standard_error: float, limits: Compare) -> float:
    """Return how many days a comparison such as this one needs for the configured power.

    Args:
        look: a past comparison.
        standard_error: of its difference.
        limits: the section `compare`.
    """
    normal = NormalDist()
    quantiles = normal.inv_cdf(1 - limits.tail * look.spent) + normal.inv_cdf(limits.power)
    return look.days * (quantiles * standard_error / (limits.smallest_difference - limits.margin)) ** 2
