"""What has come since a snapshot was taken: new rows, late ones, and days whose rows were corrected."""

from __future__ import annotations

import hashlib
from datetime import datetime, time, timedelta
from typing import TYPE_CHECKING

from continuous_training.documents import Value
from continuous_training.monitoring.new_data.counted import Day
from continuous_training.reports.formatting import pluralize

if TYPE_CHECKING:
    from continuous_training.monitoring.new_data.counted import Counted
    from continuous_training.monitoring.new_data.kept import Watermark

NONE = Day(rows=0, checksum=0)


class News(Value):
    """What has come since a snapshot of so many `known` rows was taken.

    `new` rows are of the time after it, `late` ones of days that it has. Of a day with as many rows as before and
    another checksum nobody can tell how many were corrected, so all of them count: `corrected` in `corrected_days`.
    Rows that are `gone` do not count. The same rows have the same `digest`.
    """

    since: datetime
    known: int
    newest: datetime
    new: int
    late: int = 0
    corrected: int = 0
    corrected_days: int = 0
    gone: int = 0
    digest: str

    @property
    def rows(self) -> int:
        """How many rows are news."""
        return self.new + self.late + self.corrected

    @property
    def summary(self) -> str:
        """What has come, as the reason of a run says it."""
        share = f" ({self.new / self.known:+.1%})" if self.new else ""
        many = f"{self.new:,}" if self.new else "no"
        message = [f"{many} new row{'' if self.new == 1 else 's'} since {self.since:%Y-%m-%d}{share}"]
        message += [f"{self.late:,} late"] if self.late else []
        message += [pluralize(self.corrected_days, "corrected day")] if self.corrected_days else []
        message += [f"{self.gone:,} gone"] if self.gone else []
        return ", ".join(message)


def news(then: Watermark, now: Counted, by: str, window: datetime) -> News:
    """Hold what there is now against what a snapshot had.

    Args:
        then: of the snapshot.
        now: of the rows that begin where those of the snapshot do, and are the later ones where they end.
        by: what it was counted by; if that is something else than then, only later rows can be told.
        window: where the rows begin that a run would use now: what comes of older ones is no news.
    """
    whole = window.time() == time.min or window <= then.since
    first = window.date() + timedelta(days=0 if whole else 1)
    comparable = [day for day in sorted({*then.days, *now.before}) if day >= first] if by == then.by else []
    pairs = [(then.days.get(day, NONE), now.before.get(day, NONE)) for day in comparable]
    corrected = [one.rows for was, one in pairs if one.rows == was.rows and one.checksum != was.checksum]
    seen = (by, sorted(now.before.items()), sorted(now.after.items()))
    return News(
        since=then.until,
        known=then.rows,
        newest=now.newest or then.newest,
        new=sum(day.rows for day in now.after.values()),
        late=sum(max(0, one.rows - was.rows) for was, one in pairs),
        corrected=sum(corrected),
        corrected_days=len(corrected),
        gone=sum(max(0, was.rows - one.rows) for was, one in pairs),
        digest=hashlib.sha256(repr(seen).encode()).hexdigest()[:16],
    )
