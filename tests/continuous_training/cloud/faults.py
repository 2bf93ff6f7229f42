"""What can go wrong with AWS's API, on demand: refusals, throttling, a wrong clock; and hooks at a call's moment."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from cloud.call import Answer, Call, Handler
from cloud.clock import Clock
from cloud.errors import TOO_OFTEN, Refusal, document, protocol

Only = Callable[[dict[str, Any]], bool]


@dataclass
class Rule:
    """A thing to do at a call of an operation, `times` times or always, if the parameters are such."""

    service: str
    operation: str
    act: Callable[[Call], None]
    times: int | None
    only: Only | None

    def applies(self, call: Call) -> bool:
        return (
            self.times != 0
            and (call.service, call.operation) == (self.service, self.operation)
            and (self.only is None or self.only(call.parameters))
        )


class Faults:
    """The rules of a test, and the `calls` that were made, by the launching process and by machines alike.

    The newest rules are asked first. A call that is refused here has no effect. All runs in the thread that serves the
    call, so a hook that waits makes the caller wait.
    """

    def __init__(self, handler: Handler, clock: Clock) -> None:
        self.calls: list[Call] = []
        self._handler = handler
        self._clock = clock
        self._before: list[Rule] = []
        self._after: list[Rule] = []
        self._throttled = 0
        self._seen: Counter[tuple[str, str, str]] = Counter()
        self._lock = threading.Lock()

    def refuse(
        self,
        service: str,
        operation: str,
        code: str,
        status: int = 400,
        *,
        times: int | None = None,
        only: Only | None = None,
    ) -> None:
        """Answer an operation with an error, such as refuse("ec2", "RunInstances", "InsufficientInstanceCapacity")."""

        def refuse(_: Call) -> None:
            raise Refusal(code, f"{code}, as the test asked", status)

        self.before(service, operation, refuse, times=times, only=only)

    def throttle(self, times: int = 2) -> None:
        """Tell each caller that it asks too often, the first `times` times that it calls each operation."""
        self._seen.clear()
        self._throttled = times

    def before(
        self,
        service: str,
        operation: str,
        callback: Callable[[Call], None],
        *,
        times: int | None = None,
        only: Only | None = None,
    ) -> None:
        """Call back when an operation is asked for and has no effect yet."""
        self._before.insert(0, Rule(service, operation, callback, times, only))

    def after(
        self,
        service: str,
        operation: str,
        callback: Callable[[Call], None],
        *,
        times: int | None = None,
        only: Only | None = None,
    ) -> None:
        """Call back when an operation has taken effect and is not answered yet."""
        self._after.insert(0, Rule(service, operation, callback, times, only))

    def skew(self, minutes: float) -> None:
        """Set AWS's clock ahead of that of the launching process. Beyond 15 minutes AWS refuses all its calls."""
        self._clock.skew = timedelta(minutes=minutes)

    def clear(self) -> None:
        """Let nothing go wrong any more."""
        self._before.clear()
        self._after.clear()
        self._throttled = 0
        self._clock.skew = timedelta()

    def made(self, service: str, operation: str) -> list[Call]:
        """Return the calls of an operation, those that were refused too."""
        return [call for call in self.calls if (call.service, call.operation) == (service, operation)]

    def __call__(self, call: Call) -> Answer:
        self.calls.append(call)
        try:
            self._throttle(call)
            self._follow(self._before, call)
        except Refusal as refusal:
            return document(call, refusal)
        answer = self._handler(call)
        self._follow(self._after, call)
        return answer

    def _throttle(self, call: Call) -> None:
        with self._lock:
            kind = (call.caller, call.service, call.operation)
            self._seen[kind] += 1
            if self._seen[kind] <= self._throttled:
                raise Refusal(*TOO_OFTEN[protocol(call.service)])

    def _follow(self, rules: list[Rule], call: Call) -> None:
        for rule in list(rules):
            with self._lock:
                due = rule.applies(call)
                if due and rule.times:
                    rule.times -= 1
            if due:
                rule.act(call)
