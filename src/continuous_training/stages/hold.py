"""Hold and Release: a person decides that no run promotes a version of a model by itself, and ends this."""

from __future__ import annotations

import logging
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from continuous_training.documents import Hold, HoldStatus, Stopwatch
from continuous_training.errors import UsageError, UserError
from continuous_training.registry import holds, model_versions, promotion
from continuous_training.stages import person

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)

UNITS = {"h": "hours", "d": "days"}


def hold(client: MlflowClient, model: str, reason: str, until: datetime | None, timer: Stopwatch) -> HoldStatus:
    """Put a model on hold, in place of any hold that it has.

    Raises:
        UserError: the model has no version yet.
    """
    if model_versions.registered_model(client, model) is None:
        raise UserError(f"{model} has no version, so there is nothing to hold")
    before = holds.find_if_readable(client, model)
    new = make_hold(reason, until)
    holds.write(client, model, new)
    # Deploy writes its claim before it looks for a hold for the last time, so one of both sees the other
    for claim in promotion.read_aliases(client, model).claims.values():
        if not claim.is_stale:
            log.warning("Run %s is %s: it may have begun to before this hold", claim.build_tag, claim.activity)
    return HoldStatus(name=model, hold=new, before=before, **timer.stop())


def release(client: MlflowClient, model: str, timer: Stopwatch) -> HoldStatus:
    """End the hold of a model, if it has one.

    Raises:
        UserError: the model has no version yet.
    """
    if model_versions.registered_model(client, model) is None:
        raise UserError(f"{model} has no version, so there is nothing to release")
    before = holds.find_if_readable(client, model)
    holds.remove(client, model)
    return HoldStatus(name=model, hold=None, before=before, **timer.stop())


def make_hold(reason: str, until: datetime | None = None, by: str | None = None) -> Hold:
    """Return a hold that begins now, by `by`, or else by the person who started the build or uses this machine."""
    return Hold(reason=reason, by=by or person.name(), since=_now(), until=until)


def parse_until(text: str) -> datetime | None:
    """Return when a hold ends; None without a text.

    Args:
        text: a date, whose beginning in UTC it is, a time in ISO 8601, or a duration from now such as 3d or 12h.

    Raises:
        UsageError: it is nothing of these, or not in the future.
    """
    text = text.strip()
    if not text:
        return None
    duration = re.fullmatch(r"([0-9]+)([dh])", text)
    try:
        if duration:
            end = _now() + timedelta(**{UNITS[duration[2]]: int(duration[1])})
        else:
            end = datetime.fromisoformat(text)
            end = end.astimezone(UTC) if end.tzinfo else end.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise UsageError(f"--until {text} is no end: write it as 2026-12-24, 2026-12-24T12:00, 3d or 12h") from None
    if end <= _now():
        raise UsageError(f"--until {text} is not in the future: leave it out for a hold without an end")
    return end


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)
