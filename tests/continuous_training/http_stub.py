"""A server of this machine that is as simple as can be: what it answers, a function says."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple


class Heard(NamedTuple):
    """A request."""

    path: str
    headers: Mapping[str, str]
    body: bytes


Answer = Callable[[Heard], tuple[int, str] | tuple[int, str, Mapping[str, str]]]


@contextmanager
def listening(answer: Answer) -> Iterator[str]:
    """Answer GET and POST with what a function says: a status, a body, and headers if need be.

    Gives the address, without a slash.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, message, *headers = answer(Heard(self.path, self.headers, body))
            self.send_response(status)
            for name, value in headers[0].items() if headers else ():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(message.encode())))
            self.end_headers()
            self.wfile.write(message.encode())

        do_POST = do_GET  # noqa: N815 - http.server calls them so

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
