"""Log messages about a failure that lasts: one when it begins, and one when it ends."""

from __future__ import annotations

import logging

log = logging.getLogger(__name__)


class FailureLog:
    """Logs the first of consecutive failures, and the first success after them."""

    def __init__(self, failure: str, recovery: str) -> None:
        """Create the log of one operation.

        Args:
            failure: the message when it begins to fail.
            recovery: the message when it succeeds again.
        """
        self._failure = failure
        self._recovery = recovery
        self._failing = False

    def report_failure(self, reason: object) -> None:
        """Report that the operation has failed."""
        if not self._failing:
            log.warning("%s: %s", self._failure, (str(reason).strip() or type(reason).__name__).splitlines()[0])
        self._failing = True

    def report_success(self) -> None:
        """Report that the operation has succeeded."""
        if self._failing:
            log.info("%s", self._recovery)
        self._failing = False
