"""AWS's clock for the launching process, whose own clock is wrong."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime

from cloud.call import Call, Handler, Response

ELEMENTS = re.compile(rb"<(\w*Time|LastModified|Initiated)>(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)")


class Clock:
    """Shifts the times in responses, except to instances, which have AWS's clock, and to the test."""

    def __init__(self) -> None:
        self.skew = timedelta()

    def now(self, call: Call) -> datetime:
        """Return the time at which a call arrives."""
        return datetime.now(UTC) + (timedelta() if call.is_from_instance else self.skew)

    def wrap(self, handler: Handler) -> Handler:
        """Return a handler whose responses have AWS's time."""

        def shifted(call: Call) -> Response:
            response = handler(call)
            if not call.caller or call.is_from_instance or not self.skew:
                return response
            response = response.with_header("Date", format_datetime(self.now(call), usegmt=True))
            if modified := response.header("last-modified"):
                shifted_time = parsedate_to_datetime(modified) + self.skew
                response = response.with_header("Last-Modified", format_datetime(shifted_time, usegmt=True))
            if call.operation != "GetObject":
                response.body = ELEMENTS.sub(self._shift, response.body)
            return response

        return shifted

    def _shift(self, match: re.Match[bytes]) -> bytes:
        time = datetime.fromisoformat(match[2].decode()) + self.skew
        return b"<%s>%s" % (match[1], time.strftime("%Y-%m-%dT%H:%M:%S").encode())
