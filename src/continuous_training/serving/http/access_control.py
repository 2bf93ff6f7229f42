"""Access control: requests without a valid token, or beyond the rate limit, do not reach the application."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from fastapi.responses import JSONResponse

from continuous_training.serving.http.rate_limit import ALL_CLIENTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Receive, Scope, Send

    from continuous_training.serving.http.rate_limit import RateLimit
    from continuous_training.serving.http.tokens import Tokens

OPEN_PATHS = frozenset({"/health", "/ready", "/ping"})  # for probes, which have no token
LIMITED_PATHS = frozenset({"/predict", "/invocations"})
POLICY_VIOLATION = 1008  # the code with which a WebSocket is closed, RFC 6455

UNAUTHENTICATED = JSONResponse(
    {
        "error_code": "UNAUTHENTICATED",
        "message": "the token is missing or wrong: send the header 'Authorization: Bearer <token>'",
    },
    401,
    headers={"WWW-Authenticate": "Bearer"},
)


class AccessControl:
    """ASGI middleware that checks the token and the rate limit of each request.

    Probes need no token. If there are tokens, the client's name is in scope["state"]["client"] for the application's
    log. `on_rejection` is called with the status of each rejected request. WebSockets are not supported.
    """

    def __init__(
        self,
        app: ASGIApp,
        tokens: Tokens,
        rate_limit: RateLimit | None,
        on_rejection: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._app = app
        self._tokens = tokens
        self._rate_limit = rate_limit
        self._on_rejection = on_rejection

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Reject a request, or pass it to the application."""
        if scope["type"] == "http":
            if rejection := self._check(scope):
                self._on_rejection(rejection.status_code)
            await (rejection or self._app)(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": POLICY_VIOLATION})

    def _check(self, scope: Scope) -> JSONResponse | None:
        """Return the response with which a request is rejected, if it is."""
        if scope["path"] in OPEN_PATHS:
            return None
        client = ALL_CLIENTS
        if self._tokens.names:
            header = next((value for key, value in scope["headers"] if key == b"authorization"), None)
            name = self._tokens.find_client(header)
            if name is None:
                return UNAUTHENTICATED
            scope.setdefault("state", {})["client"] = client = name
        if self._rate_limit and scope["path"] in LIMITED_PATHS and scope["method"] == "POST":
            seconds = self._rate_limit.take(client)
            if seconds:
                return _too_many_requests(self._rate_limit.per_second, math.ceil(seconds))
        return None


def _too_many_requests(per_second: float, seconds: int) -> JSONResponse:
    message = f"the rate limit of {per_second:g} requests per second is exceeded: try again in {seconds} s"
    body = {"error_code": "RESOURCE_EXHAUSTED", "message": message}
    return JSONResponse(body, 429, headers={"Retry-After": str(seconds)})
