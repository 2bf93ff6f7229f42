"""The number of rows: enough, recent, once each, and as many as before."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from continuous_training.documents import Check
from continuous_training.stages.data_checks import EXAMPLES

if TYPE_CHECKING:
    from continuous_training.data.snapshot_rows import SnapshotRows
    from continuous_training.documents import Run, Snapshot
    from continuous_training.settings import Settings


def check_duplicates(rows: SnapshotRows) -> Check:
    """Check that no two rows have the same key."""
    count = rows.count_duplicates() if rows.key else 0
    if not count:
        return Check(name="duplicates", passed=True, message="every key occurs once")
    message = f"{count:,} rows share their key ({', '.join(rows.key)})"
    return Check(name="duplicates", passed=False, message=message, rows=rows.duplicates(EXAMPLES))


def check_freshness(run: Run, settings: Settings, snapshot: Snapshot) -> Check:
    """Check that the newest row is not too old at AS_OF."""
    age = run.as_of - snapshot.newest
    limit = timedelta(days=settings.checks.max_age_days)
    days = age / timedelta(days=1)
    message = f"the newest row is {days:.1f} days before AS_OF; at most {settings.checks.max_age_days:g} are allowed"
    return Check(name="freshness", column=settings.data.time, passed=age <= limit, message=message)


def check_row_counts(settings: Settings, snapshot: Snapshot) -> list[Check]:
    """Check that there are enough training rows and fresh rows."""
    limits = settings.checks
    return [
        Check(name=name, passed=rows >= minimum, message=f"{rows:,} rows; at least {minimum:,} are needed")
        for name, rows, minimum in (
            ("number of training rows", snapshot.train.rows, limits.min_train_rows),
            ("number of fresh rows", snapshot.fresh.rows, limits.min_fresh_rows),
        )
    ]


def check_volume(settings: Settings, snapshot: Snapshot, champion: dict[str, str] | None) -> Check:
    """Check that the fresh rows per day are about as many as in the champion's snapshot."""
    before = float((champion or {}).get("ct.fresh_rows_per_day", 0))
    now = snapshot.fresh_rows_per_day
    if not before:
        why = "there is no champion to compare with" if champion is None else "those of the champion are not known"
        return Check(name="volume", passed=True, message=f"{now:,.0f} rows a day; {why}")
    low, high = settings.checks.volume
    message = (
        f"{now:,.0f} rows a day, {now / before:.2f} times the champion's {before:,.0f}; {low:g} to {high:g} are allowed"
    )
    return Check(name="volume", passed=low <= now / before <= high, message=message)
