"""The live windows: the rows that tell what the champion's answers are worth by now, and none that it knew before."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from continuous_training.monitoring.reference import Learnt
    from continuous_training.settings import Settings

    Window = tuple[datetime, datetime]  # since, until


def days(settings: Settings) -> float:
    """Return how long the live metric is looked at: in whole windows as long as the fresh rows were, two at least."""
    return max(2, settings.data.fresh_days // settings.monitor.window_days) * settings.monitor.window_days


def windows(settings: Settings, learnt: Learnt, as_of: datetime) -> list[Window]:
    """Return the windows whose labels are surely known by now, the newest last.

    None of them reaches back to rows that the version was trained on or judged by.
    """
    each = timedelta(days=settings.monitor.window_days)
    judged_until = learnt.judged_until or learnt.until + timedelta(days=settings.data.fresh_days)
    until = as_of - timedelta(days=settings.data.label_delay_days)
    since = max(until - timedelta(days=days(settings)), judged_until)
    return [(until - each * back, until - each * (back - 1)) for back in range((until - since) // each, 0, -1)]
