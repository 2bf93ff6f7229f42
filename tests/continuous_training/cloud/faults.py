"""Faults of AWS's API that a test causes: errors, throttling, a wrong clock; and callbacks before and after calls."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from cloud.call import Call, Handler, Response
from cloud.clock import Clock
from cloud.errors import THROTTLING, ApiError, error_response, protocol

Condition = Callable[[dict[str, Any]], bool]  # of a call's parameters


@dataclass
class Rule:
    """A callback for the calls of an operation that meet a condition, `times` times or always."""

    service: str
    operation: str
    callback: Callable[[Call], None]
    times: int | None
    condition: Condition | None

    def applies(self, call: Call) -> bool:
        return (
            self.times != 0
            and (call.service, call.operation) == (self.service, self.operation)
            and (self.condition is None or self.condition(call.parameters))
        )


class Faults:
    """The rules of a test, and the `calls` of the launching process and of instances.

    The newest rules apply first. A call that is refused has no effect. A callback runs in the thread that serves the
    call, so the caller waits for it.
    """

    def __init__(self, handler: Handler, clock: Clock) -> None:
        self.calls: list[Call] = []
        self._handler = handler
        self._clock = clock
        self._before: list[Rule] = []
        self._after: list[Rule] = []
        self._throttled = 0
        self._counts: Counter[tuple[str, str, str]] = Counter()
        self._lock = threading.Lock()

    def refuse(
        self,
        service: str,
        operation: str,
        code: str,
        status: int = 400,
        *,
        times: int | None = None,
        condition: Condition | None = None,
    ) -> None:
        """Refuse an operation, such as refuse("ec2", "RunInstances", "InsufficientInstanceCapacity")."""

        def refuse(_: Call) -> None:
            raise ApiError(code, f"{code}, caused by the test", status)

        self.before(service, operation, refuse, times=times, condition=condition)

    def throttle(self, times: int = 2) -> None:
        """Refuse the first `times` calls of each operation by each caller as too many requests."""
        self._counts.clear()
        self._throttled = times

    def before(
        self,
        service: str,
        operation: str,
        callback: Callable[[Call], None],
        *,
        times: int | None = None,
        condition: Condition | None = None,
    ) -> None:
        """Call back before an operation takes effect."""
        self._before.insert(0, Rule(service, operation, callback, times, condition))

    def after(
        self,
        service: str,
        operation: str,
        callback: Callable[[Call], None],
        *,
        times: int | None = None,
        condition: Condition | None = None,
    ) -> None:
        """Call back after an operation has taken effect, before its response."""
        self._after.insert(0, Rule(service, operation, callback, times, condition))

    def skew(self, minutes: float) -> None:
        """Set AWS's clock ahead of the launching process's. Beyond 15 minutes AWS refuses its calls."""
        self._clock.skew = timedelta(minutes=minutes)

    def clear(self) -> None:
        """Remove all faults."""
        self._before.clear()
        self._after.clear()
        self._throttled = 0
        self._clock.skew = timedelta()

    def calls_of(self, service: str, operation: str) -> list[Call]:
        """Return the calls of an operation, including refused ones."""
        return [call for call in self.calls if (call.service, call.operation) == (service, operation)]

    def __call__(self, call: Call) -> Response:
        self.calls.append(call)
        try:
            self._throttle(call)
            self._apply(self._before, call)
        except ApiError as error:
            return error_response(call, error)
        response = self._handler(call)
        self._apply(self._after, call)
        return response

    def _throttle(self, call: Call) -> None:
        with self._lock:
            key = (call.caller, call.service, call.operation)
            self._counts[key] += 1
            if self._counts[key] <= self._throttled:
                raise ApiError(*THROTTLING[protocol(call.service)])

    def _apply(self, rules: list[Rule], call: Call) -> None:
        for rule in list(rules):
            with self._lock:
                due = rule.applies(call)
                if due and rule.times:
                    rule.times -= 1
            if due:
                rule.callback(call)
