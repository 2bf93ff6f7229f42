"""AS_OF, the point in time of a run, and the windows of time that it determines."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

from continuous_training.errors import UserError

if TYPE_CHECKING:
    from continuous_training.settings.data import Data


def parse_as_of(text: str, clock: date | None) -> datetime:
    """Return the moment at which a run stands, in UTC and without a time zone.

    It is AS_OF, or else the settings' clock, or else today's midnight: a day has one snapshot, however often it is
    taken.

    Raises:
        UserError: AS_OF is neither a date nor a time in ISO 8601.
    """
    if not text.strip():
        day = clock or datetime.now(UTC).date()
        return datetime(day.year, day.month, day.day)
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise UserError(f"AS_OF={text} is not a date: write it as 2013-04-01 or 2013-04-01T12:00") from None
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment


def future_warning(moment: datetime, now: datetime) -> str | None:
    """Return a warning if a program's moment lies in the future."""
    if moment <= now.astimezone(UTC).replace(tzinfo=None):
        return None
    return f"AS_OF={moment:%Y-%m-%d %H:%M} lies in the future: is a clock wrong?"


def time_windows(data: Data, moment: datetime, fresh_days: int | None = None) -> tuple[datetime, datetime, datetime]:
    """Return where the training rows begin, where the fresh rows begin, and where both end.

    Rows younger than `label_delay_days` are left out whether their target is known or not: those with an early target
    are not like the others.

    Args:
        data: the section `data`.
        moment: AS_OF.
        fresh_days: the length of the window of fresh rows; the usual one by default.
    """
    until = moment - timedelta(days=data.label_delay_days)
    fresh = until - timedelta(days=fresh_days or data.usual_fresh_days)
    return fresh - timedelta(days=data.train_days), fresh, until
