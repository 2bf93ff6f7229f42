"""AWS's clock, as the launching process sees it: it is the clock of that process which is wrong."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime

from cloud.call import Answer, Call, Handler

ELEMENTS = re.compile(rb"<(\w*Time|LastModified|Initiated)>(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)")


class Clock:
    """Shifts the times in the answers to all but the machines, which have AWS's clock, and the test itself."""

    def __init__(self) -> None:
        self.skew = timedelta()

    def now(self, call: Call) -> datetime:
        """Return the time at which a call arrives."""
        return datetime.now(UTC) + (timedelta() if call.by_machine else self.skew)

    def shifting(self, handler: Handler) -> Handler:
        """Give a handler whose answers tell AWS's time."""

        def shifted(call: Call) -> Answer:
            answer = handler(call)
            if not call.caller or call.by_machine or not self.skew:
                return answer
            answer = answer.with_header("Date", format_datetime(self.now(call), usegmt=True))
            if modified := answer.header("last-modified"):
                later = parsedate_to_datetime(modified) + self.skew
                answer = answer.with_header("Last-Modified", format_datetime(later, usegmt=True))
            if call.operation != "GetObject":
                answer.body = ELEMENTS.sub(self._later, answer.body)
            return answer

        return shifted

    def _later(self, found: re.Match[bytes]) -> bytes:
        moment = datetime.fromisoformat(found[2].decode()) + self.skew
        return b"<%s>%s" % (found[1], moment.strftime("%Y-%m-%dT%H:%M:%S").encode())
