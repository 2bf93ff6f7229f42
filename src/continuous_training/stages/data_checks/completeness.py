"""Completeness: days without rows, or with far fewer than usual, and rows that were ingested twice."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from continuous_training.data.snapshot_rows import EPOCH
from continuous_training.data.snapshots import ARROW_TYPES
from continuous_training.documents import Check
from continuous_training.formatting import format_percent, join_names

if TYPE_CHECKING:
    from continuous_training.data.snapshot_rows import SnapshotRows
    from continuous_training.documents import Snapshot
    from continuous_training.settings import Checks, Settings

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
DENSE_ROWS = 50  # an hour: from here on hours are counted, not days
MIN_USUAL_ROWS = 5  # with fewer rows, a period without any is no wonder
WEEK_SECONDS = 7 * 86_400
EXAMPLES = 5  # names of periods in a message


class Period(NamedTuple):
    """A day or an hour: its begin, its rows, and how many it usually has."""

    begin: datetime
    rows: int
    usual: float


def check_completeness(rows: SnapshotRows, settings: Settings, snapshot: Snapshot) -> list[Check]:
    """Check that few days, or hours, of either window have far fewer rows than usual.

    The usual number is the median of the same weekday, or hour of the week, in the whole snapshot: so neither weekends
    nor nights are missing. Periods before the first row are not, either: the data may begin there.
    """
    time = settings.data.time
    if rows.types.get(time) != str(ARROW_TYPES["timestamp"]):
        return []  # reported for the column
    length = DAY
    counts = rows.count_by_period(time, DAY.total_seconds())
    if counts and median(counts.values()) >= 24 * DENSE_ROWS:
        length = HOUR
        counts = rows.count_by_period(time, HOUR.total_seconds())
    periods = compare_with_usual(counts, snapshot.until, length)
    results = []
    for window, since, until in (
        ("training", snapshot.since, snapshot.fresh_since),
        ("fresh", snapshot.fresh_since, snapshot.until),
    ):
        within = [period for period in periods if since <= period.begin and period.begin + length <= until]
        results.append(_check_window(window, within, settings.checks, length))
    return results


def compare_with_usual(counts: dict[datetime, int], until: datetime, length: timedelta) -> list[Period]:
    """Return all periods from the first one with rows on that usually have some, in their order.

    Args:
        counts: the number of rows of each period that has some, by its begin.
        until: the end of the last window; a period that ends after it is left out.
        length: a day or an hour, counted from 1970 on.
    """
    if not counts:
        return []
    begin, by_place = min(counts), defaultdict(list)
    begins = []
    while begin + length <= until:
        begins.append(begin)
        by_place[_place(begin)].append(counts.get(begin, 0))
        begin += length
    usual = {place: median(values) for place, values in by_place.items()}
    periods = [Period(begin, counts.get(begin, 0), usual[_place(begin)]) for begin in begins]
    return [period for period in periods if period.usual >= MIN_USUAL_ROWS]


def check_copies(rows: SnapshotRows, settings: Settings) -> list[Check]:
    """Check that few rows are equal to another one in everything but a number that each row gets when it is stored.

    That is a column of the key that is no feature, not the time, and different in each row. Where the key has none, it
    tells what a row is about, such as a station and an hour: rows that differ in it are different rows.
    """
    data, total = settings.data, rows.train + rows.fresh
    identifiers = [name for name in rows.key if name != data.time and not data.columns[name].feature]
    identifiers = [name for name in identifiers if rows.count_distinct([name]) == total]
    others = [name for name in rows.types if name not in identifiers]
    if not identifiers or not others:
        return []
    copies = total - rows.count_distinct(others)
    limit = settings.checks.max_copied_share
    message = f"no row is equal to another one but for {join_names(identifiers)}"
    if copies:
        message = (
            f"{copies:,} rows, {format_percent(copies / total)}, are equal to another one but for "
            f"{join_names(identifiers)}, as if they had been ingested twice; checks.max_copied_share allows "
            f"{format_percent(limit)}"
        )
    return [Check(name="copies", passed=copies <= limit * total, message=message)]


def _check_window(window: str, periods: list[Period], limits: Checks, length: timedelta) -> Check:
    noun, pattern = ("days", "%Y-%m-%d") if length == DAY else ("hours", "%Y-%m-%d %H:%M")
    name = f"completeness of the {window} rows"
    missing = [period for period in periods if period.rows < limits.min_share_of_usual * period.usual]
    if not missing:
        return Check(name=name, passed=True, message=f"none of {len(periods):,} {noun} has far fewer rows than usual")
    names = [f"{period.begin:{pattern}} ({period.rows:,} of {period.usual:,g} rows)" for period in missing[:EXAMPLES]]
    if len(missing) > EXAMPLES:
        names.append(f"{len(missing) - EXAMPLES:,} more")
    share, limit = len(missing) / len(periods), limits.max_missing_share
    message = (
        f"{len(missing):,} of {len(periods):,} {noun} have far fewer rows than usual: {join_names(names)}; "
        f"{format_percent(share)}, where checks.max_missing_share allows {format_percent(limit)}"
    )
    return Check(name=name, passed=share <= limit, message=message)


def _place(begin: datetime) -> float:
    """Return the place in the week."""
    return (begin - EPOCH).total_seconds() % WEEK_SECONDS
