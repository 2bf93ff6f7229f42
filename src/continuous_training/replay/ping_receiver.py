"""A local webhook in place of Jenkins': a ping to it triggers a job, whose stages the replay runs itself."""

from __future__ import annotations

import json
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

RESPONSE = json.dumps({"jobs": {"replay": {"triggered": True}}}).encode()


class _PingHandler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(RESPONSE)))
        self.end_headers()
        self.wfile.write(RESPONSE)

    def log_message(self, *_: object) -> None:
        """Log nothing: the monitor's report has the result of a ping."""


@contextmanager
def receive_pings() -> Iterator[str]:
    """Yield the address of a server that accepts pings."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _PingHandler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
