"""The HTTP server, and moto's application as a handler of calls."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterable
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Self

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server
from werkzeug.test import run_wsgi_app

from cloud.call import Call, Handler, Response, parse_call


class Moto:
    """A handler that returns moto's response."""

    def __init__(self) -> None:
        self._application = DomainDispatcherApplication(create_backend_app)

    def __call__(self, call: Call) -> Response:
        environ = {**call.environ, "wsgi.input": io.BytesIO(call.body), "CONTENT_LENGTH": str(len(call.body))}
        environ.pop("HTTP_TRANSFER_ENCODING", None)
        parts, status, headers = run_wsgi_app(self._application, environ, buffered=True)
        return Response(int(status.split()[0]), list(headers.items()), b"".join(parts))


class QuietRequestHandler(MotoRequestHandler):
    """Logs no requests, and sends no Date."""

    def log_request(self, *_: Any) -> None:
        pass

    def send_response(self, code: int, message: str | None = None) -> None:
        self.send_response_only(code, message)  # the response has a Date, of AWS's clock


class Server:
    """A context manager that serves calls on a free port, in threads of this process."""

    def __init__(self, handler: Handler) -> None:
        def application(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
            response = handler(parse_call(environ))
            if environ["REQUEST_METHOD"] != "HEAD":  # whose Content-Length is that of a body it does not have
                response = response.with_header("Content-Length", str(len(response.body)))
            if not response.header("date"):
                response = response.with_header("Date", formatdate(usegmt=True))
            start(f"{response.status} {HTTPStatus(response.status).phrase}", response.headers)
            return [response.body]

        self._server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=QuietRequestHandler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self.url = f"http://127.0.0.1:{self._server.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
