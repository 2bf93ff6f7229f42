"""Changes of the warehouse since a snapshot: new rows, late rows, and days whose rows were corrected."""

from __future__ import annotations

import hashlib
from datetime import datetime, time, timedelta
from typing import TYPE_CHECKING

from continuous_training.documents import Value
from continuous_training.formatting import pluralize
from continuous_training.monitoring.new_data.row_counts import DayCount

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date

    from continuous_training.monitoring.new_data.row_counts import RowCounts
    from continuous_training.monitoring.new_data.watermark import Watermark

EMPTY = DayCount(rows=0, checksum=0)


class DataChanges(Value):
    """The changes since a snapshot of `snapshot_rows` rows, whose data ends at `since`.

    `new_rows` have a time after the snapshot, `late_rows` belong to a day of it. If a day has the same number of rows
    and another checksum, the number of corrected rows is unknown; therefore all its rows count: `corrected_rows`, in
    `corrected_days`. Deleted rows are reported and do not count. The same data have the same `digest`.
    """

    since: datetime
    snapshot_rows: int
    newest: datetime
    new_rows: int
    late_rows: int = 0
    corrected_rows: int = 0
    corrected_days: int = 0
    deleted_rows: int = 0
    digest: str

    @property
    def rows(self) -> int:
        """The number of rows that count."""
        return self.new_rows + self.late_rows + self.corrected_rows

    @property
    def summary(self) -> str:
        """The changes as text, for the reason of a run."""
        share = f" ({self.new_rows / self.snapshot_rows:+.1%})" if self.new_rows else ""
        count = f"{self.new_rows:,}" if self.new_rows else "no"
        parts = [f"{count} new row{'' if self.new_rows == 1 else 's'} since {self.since:%Y-%m-%d}{share}"]
        parts += [f"{self.late_rows:,} late"] if self.late_rows else []
        parts += [pluralize(self.corrected_days, "corrected day")] if self.corrected_days else []
        parts += [f"{self.deleted_rows:,} deleted"] if self.deleted_rows else []
        return ", ".join(parts)


def find_changes(watermark: Watermark, counts: RowCounts, query_hash: str, window_start: datetime) -> DataChanges:
    """Compare the present row counts with a watermark.

    Args:
        watermark: of the champion's snapshot.
        counts: the present rows, from the snapshot's first moment on, split at its end.
        query_hash: of the present query; if it differs from the watermark's, only new rows can be counted.
        window_start: the first moment of the rows that a run would use now: changes of older rows do not count.
    """
    starts_with_whole_day = window_start.time() == time.min or window_start <= watermark.since
    first_day = window_start.date() + timedelta(days=0 if starts_with_whole_day else 1)
    days = sorted({*watermark.days, *counts.before}) if query_hash == watermark.query_hash else []
    pairs = [(watermark.days.get(day, EMPTY), counts.before.get(day, EMPTY)) for day in days if day >= first_day]
    corrected_counts = [after.rows for before, after in pairs if after.rows == before.rows and after != before]
    state = (query_hash, *(_as_tuples(part) for part in (counts.before, counts.after)))
    return DataChanges(
        since=watermark.until,
        snapshot_rows=watermark.rows,
        newest=counts.newest or watermark.newest,
        new_rows=sum(day.rows for day in counts.after.values()),
        late_rows=sum(max(0, after.rows - before.rows) for before, after in pairs),
        corrected_rows=sum(corrected_counts),
        corrected_days=len(corrected_counts),
        deleted_rows=sum(max(0, before.rows - after.rows) for before, after in pairs),
        digest=hashlib.sha256(repr(state).encode()).hexdigest()[:16],
    )


def _as_tuples(counts: Mapping[date, DayCount]) -> list[tuple[str, int, int]]:
    return sorted((f"{day}", count.rows, count.checksum) for day, count in counts.items())
