"""The evaluation windows: the periods whose labels are known by now and on which the live metric is computed."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from continuous_training.monitoring.reference import ReferenceProfile
    from continuous_training.settings import Settings

    Period = tuple[datetime, datetime]  # since, until


def evaluation_days(settings: Settings) -> float:
    """Return the length of all evaluation windows in days: as many whole windows as the fresh rows had, at least 2."""
    return max(2, settings.data.usual_fresh_days // settings.monitor.window_days) * settings.monitor.window_days


def evaluation_windows(settings: Settings, profile: ReferenceProfile, as_of: datetime) -> list[Period]:
    """Return the windows whose labels are certain at `as_of`, the newest last.

    None of them overlaps the rows that the version was trained or compared on.
    """
    length = timedelta(days=settings.monitor.window_days)
    fresh_until = profile.fresh_until or profile.until + timedelta(days=settings.data.usual_fresh_days)
    until = as_of - timedelta(days=settings.data.label_delay_days)
    since = max(until - timedelta(days=evaluation_days(settings)), fresh_until)
    return [(until - length * back, until - length * (back - 1)) for back in range((until - since) // length, 0, -1)]
