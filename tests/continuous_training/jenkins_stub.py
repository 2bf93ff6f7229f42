"""Jenkins' Generic Webhook Trigger on this machine: it knows one token, hears pings and answers as the plugin does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from listening import Heard, listening

TOKEN = "5ecr3t"


@dataclass
class Jenkins:
    """What it was asked for, and how it behaves: `busy` times it answers 503, and its job is started or not."""

    url: str = ""
    busy: int = 0
    triggers: bool = True
    pings: list[dict[str, Any]] = field(default_factory=list)
    asked: int = 0

    def answer(self, path: str, token: str | None, body: bytes) -> tuple[int, dict[str, Any]]:
        self.asked += 1
        if self.busy:
            self.busy -= 1
            return 503, {}
        if path != "/generic-webhook-trigger/invoke" or token != f"Bearer {TOKEN}":
            return 404, {"jobs": None, "message": "Did not find any jobs with GenericWebhookTrigger configured!"}
        self.pings.append(json.loads(body))
        return 200, {"jobs": {"model/main": {"triggered": self.triggers, "id": 1 if self.triggers else 0}}}


@contextmanager
def jenkins(**behaviour: Any) -> Iterator[Jenkins]:
    """Have it answer on a free port."""
    here = Jenkins(**behaviour)

    def answer(heard: Heard) -> tuple[int, str]:
        status, message = here.answer(heard.path, heard.headers.get("Authorization"), heard.body)
        return status, json.dumps(message)

    with listening(answer) as here.url:
        yield here
