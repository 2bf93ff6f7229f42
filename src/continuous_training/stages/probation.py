"""Probation: look at a new champion that is on probation, and restore the version before it if it is surely worse."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from continuous_training.documents import Stopwatch
from continuous_training.errors import UserError
from continuous_training.jenkins import notifications
from continuous_training.monitoring.findings import Finding
from continuous_training.monitoring.probation import Probation
from continuous_training.serving.rollout.client import read_server_urls
from continuous_training.stages.roll_back import roll_back

if TYPE_CHECKING:
    from collections.abc import Iterator

    from continuous_training.monitoring.monitor import ModelMonitor

log = logging.getLogger(__name__)

MONITOR = "the monitor"  # who holds the model


def check(monitor: ModelMonitor) -> list[Finding]:
    """Return what is to be said of the champion's probation; nothing if it has none.

    A champion that is surely worse than the version before it is rolled back, and the model is on hold. What cannot be
    read is a finding, so that the monitor's own check follows all the same.
    """
    try:
        return [*_check(monitor)]
    except UserError as error:
        return [Finding(kind="error", message=f"the probation of the champion cannot be checked: {error}")]


def _check(monitor: ModelMonitor) -> Iterator[Finding]:
    client, model = monitor.client, monitor.model
    probation = Probation.find(client, model, monitor.settings, monitor.source, monitor.as_of, monitor.now)
    if probation is None:
        return
    result = probation.look(read_server_urls() if "SERVING_URLS" in os.environ else [])
    if not result.is_worse:
        yield Finding(kind="note", message=result.message)
        return
    reason = f"on probation, {result.message}"
    rollback, errors = roll_back(client, model, reason, Stopwatch.of_environment(), by=MONITOR)
    message = (
        f"version {rollback.rolled_back_version} of {model} was rolled back, and version {rollback.model_version} is "
        f"champion again: {reason}; {rollback.hold_message}"
    )
    yield Finding(kind="warning", message=message)
    yield from (Finding(kind="warning", message=error) for error in errors)
    if os.environ.get(notifications.CHANNEL, "").strip():
        try:
            notifications.send(notifications.escape(f"Rolled back: {message}"))
        except UserError as error:
            yield Finding(kind="warning", message=f"no notice was sent: {error}")
