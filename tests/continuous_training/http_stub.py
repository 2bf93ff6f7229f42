"""An HTTP server whose responses a function returns."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple


class Request(NamedTuple):
    """An HTTP request."""

    path: str
    headers: Mapping[str, str]
    body: bytes


Respond = Callable[[Request], tuple[int, str] | tuple[int, str, Mapping[str, str]]]


@contextmanager
def http_stub(respond: Respond) -> Iterator[str]:
    """Serve GET and POST requests on a free port; yield the URL, without a slash at its end.

    Args:
        respond: returns the status, the body, and optionally headers.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, message, *headers = respond(Request(self.path, self.headers, body))
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
