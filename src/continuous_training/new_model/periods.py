"""The windows of time that fit the data: how long they are, and when they end."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from continuous_training.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from continuous_training.new_model.profile import Day

FRESH_SHARE, MAX_FRESH_SHARE = 0.2, 0.5  # of the data's length
MAX_FRESH_DAYS, MAX_TRAIN_DAYS = 28, 365
MANY_ROWS = 20_000  # in a year: more history than that is not needed
MIN_TRAIN_ROWS = 50
CONFIDENCES = {0.95: 40, 0.9: 20, 0.8: 10}  # and the cases in the fresh rows that each of them needs


class Periods(NamedTuple):
    """The windows, in days, and the rows in them."""

    clock: date | None  # None if the data are live
    label_delay_days: int
    train_days: int
    fresh_days: int
    train_rows: int
    fresh_rows: int
    max_age_days: int
    rows_per_day: float
    confidence: float
    oldest: date
    newest: date


def choose_periods(days: Sequence[Day], *, by_class: bool, today: date | None = None) -> Periods:
    """Choose windows that fit the data's length, and in which the fresh rows suffice for a comparison.

    Args:
        days: the rows of each day, in order.
        by_class: whether the rarest class decides how many fresh rows there must be, not their number.
        today: for tests; the current date in UTC otherwise.

    Raises:
        UserError: there are too few rows, or they cover too little time.
    """
    today = today or datetime.now(UTC).date()
    past = [day for day in days if day.day <= today]
    dates = sorted({day.day for day in past if day.rows})
    if not dates:
        raise UserError("all rows are in the future: is the time column right?")
    oldest, newest = dates[0], dates[-1]
    gap = max([(later - earlier).days for earlier, later in itertools.pairwise(dates)], default=1)
    live = today - newest <= timedelta(days=max(2, 2 * gap))
    end = today if live else newest + timedelta(days=1)
    delay = _label_delay(past, end)
    until = end - timedelta(days=delay)
    length = (until - oldest).days
    if length < 2:
        raise UserError(
            f"the rows cover {oldest} to {newest}: at least two full days are needed, one for training and one for "
            "the comparison"
        )
    first = min(MAX_FRESH_DAYS, max(1, round(FRESH_SHARE * length)))
    for confidence, needed in CONFIDENCES.items():
        for fresh_days in range(first, max(first, int(MAX_FRESH_SHARE * length)) + 1):
            fresh_since = until - timedelta(days=fresh_days)
            fresh = _count(past, fresh_since, until)
            cases = (min(fresh.values()) if len(fresh) > 1 else 0) if by_class else fresh.total()
            if cases < needed:
                continue
            train_days = min(length - fresh_days, MAX_TRAIN_DAYS)
            train = _count(past, fresh_since - timedelta(days=train_days), fresh_since)
            if train.total() < MANY_ROWS:
                train_days = length - fresh_days
                train = _count(past, oldest, fresh_since)
            if train.total() < MIN_TRAIN_ROWS:
                break
            return Periods(
                clock=None if live else end,
                label_delay_days=delay,
                train_days=train_days,
                fresh_days=fresh_days,
                train_rows=train.total(),
                fresh_rows=fresh.total(),
                max_age_days=delay + max(gap, (end - newest).days) + 1,
                rows_per_day=(train + fresh).total() / (train_days + fresh_days),
                confidence=confidence,
                oldest=oldest,
                newest=newest,
            )
    what = "rows of each class" if by_class else "rows"
    raise UserError(
        f"there are too few rows ({sum(day.rows for day in past):,} from {oldest} to {newest}): "
        f"at least {MIN_TRAIN_ROWS} are needed for training, and {min(CONFIDENCES.values())} {what} for the comparison"
    )


def has_scattered_nulls(days: Sequence[Day], label_delay_days: int, end: date) -> bool:
    """Whether rows that are old enough have no target."""
    return any(day.targets < day.rows for day in days if day.day < end - timedelta(days=label_delay_days))


def _label_delay(days: Sequence[Day], end: date) -> int:
    """Return after how many days all rows have their target; 0 if some never get one."""
    open_days = [day.day for day in days if day.targets < day.rows]
    if not open_days:
        return 0
    delay = (end - min(open_days)).days
    length = (end - min(day.day for day in days)).days
    return delay if delay <= length / 4 else 0


def _count(days: Sequence[Day], since: date, until: date) -> Counter[Any]:
    counter: Counter[Any] = Counter()
    for day in days:
        if since <= day.day < until and day.targets:
            counter[day.value] += day.targets
    return counter


def round_down(number: float) -> int:
    """Round to one significant digit, downwards; at least 1."""
    if number < 1:
        return 1
    scale = 10 ** math.floor(math.log10(number))
    return int(number // scale * scale)
