"""The HTTP server: WSGI on the outside, moto's application on the inside."""

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

from cloud.call import Answer, Call, Handler, read


class Moto:
    """moto's answer to a call."""

    def __init__(self) -> None:
        self._application = DomainDispatcherApplication(create_backend_app)

    def __call__(self, call: Call) -> Answer:
        environ = {**call.environ, "wsgi.input": io.BytesIO(call.body), "CONTENT_LENGTH": str(len(call.body))}
        environ.pop("HTTP_TRANSFER_ENCODING", None)
        parts, status, headers = run_wsgi_app(self._application, environ, buffered=True)
        return Answer(int(status.split()[0]), list(headers.items()), b"".join(parts))


class Quiet(MotoRequestHandler):
    """Says nothing about each request, nor what time it is."""

    def log_request(self, *_: Any) -> None:
        pass

    def send_response(self, code: int, message: str | None = None) -> None:
        self.send_response_only(code, message)  # without a second Date: AWS's clock is told by the answer itself


class Server:
    """A server of this machine, in threads of this process, on a free port."""

    def __init__(self, handler: Handler) -> None:
        def application(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
            answer = handler(read(environ))
            if environ["REQUEST_METHOD"] != "HEAD":  # whose answer tells the length of a body that it has not
                answer = answer.with_header("Content-Length", str(len(answer.body)))
            if not answer.header("date"):
                answer = answer.with_header("Date", formatdate(usegmt=True))
            start(f"{answer.status} {HTTPStatus(answer.status).phrase}", answer.headers)
            return [answer.body]

        self._server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=Quiet)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self.url = f"http://127.0.0.1:{self._server.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
