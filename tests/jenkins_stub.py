"""Jenkins' Generic Webhook Trigger on this machine: it knows one token, hears pings and answers as the plugin does."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

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

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status, said = here.answer(self.path, self.headers.get("Authorization"), body)
            told = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(told)))
            self.end_headers()
            self.wfile.write(told)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        here.url = f"http://127.0.0.1:{server.server_port}"
        yield here
        server.shutdown()
