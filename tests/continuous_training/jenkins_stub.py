"""A stub of Jenkins' Generic Webhook Trigger: it knows one token, records pings and responds like the plugin."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from http_stub import Request, http_stub

TOKEN = "5ecr3t"


@dataclass
class Jenkins:
    """The stub: the first `busy` requests get status 503, and `triggers` is whether a ping starts a job."""

    url: str = ""
    busy: int = 0
    triggers: bool = True
    pings: list[dict[str, Any]] = field(default_factory=list)
    requests: int = 0

    def respond(self, path: str, token: str | None, body: bytes) -> tuple[int, dict[str, Any]]:
        self.requests += 1
        if self.busy:
            self.busy -= 1
            return 503, {}
        if path != "/generic-webhook-trigger/invoke" or token != f"Bearer {TOKEN}":
            return 404, {"jobs": None, "message": "Did not find any jobs with GenericWebhookTrigger configured!"}
        self.pings.append(json.loads(body))
        return 200, {"jobs": {"model/main": {"triggered": self.triggers, "id": 1 if self.triggers else 0}}}


@contextmanager
def jenkins(**behaviour: Any) -> Iterator[Jenkins]:
    """Run the stub on a free port."""
    stub = Jenkins(**behaviour)

    def respond(request: Request) -> tuple[int, str]:
        status, message = stub.respond(request.path, request.headers.get("Authorization"), request.body)
        return status, json.dumps(message)

    with http_stub(respond) as stub.url:
        yield stub
