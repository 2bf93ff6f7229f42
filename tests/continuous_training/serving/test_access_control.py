"""Access control: requests without a valid token or beyond the rate limit do not reach the application."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from fastapi import FastAPI, Request

from application import Application
from conftest import TIMEOUT
from continuous_training.serving.http.access_control import AccessControl
from continuous_training.serving.http.rate_limit import RateLimit
from continuous_training.serving.http.tokens import Tokens
from manual_clock import ManualClock

ALICE, BOB, UNKNOWN = "alices-token-0123456789", "bobs-token-0123456789", "carols-token-0123456789"
TOKENS = Tokens.parse(f"alice:{ALICE},bob:{BOB}")
SLOW = 1e-6  # requests per second: no bucket is refilled during a test


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rate"


class ProtectedApplication(Application):
    """A small application behind access control, on a real server in a thread."""

    def __init__(self, tokens: Tokens, rate_limit: RateLimit | None = None) -> None:
        self.rejections: list[int] = []
        self.lifespan_events: list[str] = []
        app = AccessControl(self._create_app(), tokens, rate_limit, self.rejections.append)
        super().__init__(app, log_level="debug")

    def _create_app(self) -> FastAPI:
        @asynccontextmanager
        async def lifespan(_: FastAPI) -> Any:
            self.lifespan_events.append("started")
            yield
            self.lifespan_events.append("stopped")

        app = FastAPI(lifespan=lifespan)

        @app.api_route("/{path:path}", methods=["GET", "POST"])
        async def describe(path: str, request: Request) -> dict[str, Any]:
            return {"path": path, "client": getattr(request.state, "client", None), "bytes": len(await request.body())}

        return app

    def send(self, path: str, token: str | None = None, method: str = "GET", body: bytes = b"") -> requests.Response:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return requests.request(method, f"{self.url}{path}", headers=headers, data=body, timeout=TIMEOUT)

    def predict(self, token: str | None = None) -> int:
        return self.send("/predict", token, "POST").status_code


class TestAccessControl:
    def test_only_probes_need_no_token(self) -> None:
        with ProtectedApplication(TOKENS) as server:
            assert {server.send(path).status_code for path in ("/health", "/ready", "/ping")} == {200}
            for path in ("/version", "/metrics", "/openapi.json", "/docs", "/", "/health/", "//health", "/health%2F.."):
                assert server.send(path).status_code == 401, path
            for path in ("/predict", "/invocations"):
                assert server.send(path, method="POST").status_code == 401, path

    def test_a_missing_and_a_wrong_token_get_the_same_response(self) -> None:
        with ProtectedApplication(TOKENS) as server:
            missing, wrong = server.send("/version"), server.send("/version", UNKNOWN)
        assert missing.json()["error_code"] == "UNAUTHENTICATED"
        assert "Authorization: Bearer" in missing.json()["message"]
        assert missing.headers["WWW-Authenticate"] == "Bearer"
        for response in (missing, wrong):
            response.headers.pop("Date")
        assert (missing.status_code, missing.headers, missing.content) == (
            wrong.status_code,
            wrong.headers,
            wrong.content,
        )

    def test_the_application_gets_the_name_of_the_client(self) -> None:
        with ProtectedApplication(TOKENS) as server:
            assert server.send("/version", BOB).json()["client"] == "bob"
            assert server.send("/predict", ALICE, "POST", b"abc").json() == {
                "path": "predict",
                "client": "alice",
                "bytes": 3,
            }

    def test_a_scope_without_state_gets_one(self) -> None:
        async def application(scope: Any, *_: object) -> None:
            states.append(scope["state"])

        states: list[Any] = []
        scope = {
            "type": "http",
            "path": "/version",
            "method": "GET",
            "headers": [(b"authorization", f"Bearer {ALICE}".encode())],
        }
        asyncio.run(AccessControl(application, TOKENS, None)(scope, None, None))  # type: ignore[arg-type]
        assert states == [{"client": "alice"}]

    def test_without_tokens_every_request_is_accepted(self) -> None:
        with ProtectedApplication(Tokens()) as server:
            assert server.send("/version").json()["client"] is None
            assert server.send("/version", ALICE).status_code == 200

    def test_a_large_request_without_a_token_is_rejected_and_the_connection_stays_open(self) -> None:
        with ProtectedApplication(TOKENS) as server, requests.Session() as session:
            for _ in range(3):
                response = session.post(f"{server.url}/predict", data=bytes(3_000_000), timeout=TIMEOUT)
                assert response.json()["error_code"] == "UNAUTHENTICATED"

    def test_beyond_the_rate_limit_the_response_has_retry_after_and_others_are_accepted(self, path: Path) -> None:
        with ProtectedApplication(TOKENS, RateLimit(path, TOKENS.names, 0.01, 2, clock=ManualClock(100))) as server:
            assert [server.predict(ALICE) for _ in range(2)] == [200, 200]
            rejection = server.send("/invocations", ALICE, "POST")
            assert server.predict(BOB) == 200
        assert (rejection.status_code, rejection.json()["error_code"]) == (429, "RESOURCE_EXHAUSTED")
        assert rejection.headers["Retry-After"] == "100"
        assert "try again in 100 s" in rejection.json()["message"]

    def test_retry_after_is_at_least_one_second(self, path: Path) -> None:
        with ProtectedApplication(Tokens(), RateLimit(path, (), 2, 1, clock=ManualClock(100))) as server:
            server.predict()
            assert server.send("/predict", method="POST").headers["Retry-After"] == "1"

    def test_only_predictions_are_limited(self, path: Path) -> None:
        with ProtectedApplication(TOKENS, RateLimit(path, TOKENS.names, SLOW, 1)) as server:
            for path in ("/version", "/metrics", "/predict"):
                assert [server.send(path, ALICE).status_code for _ in range(2)] == [200, 200]
            assert [server.predict(ALICE) for _ in range(2)] == [200, 429]

    def test_wrong_tokens_do_not_use_a_bucket(self, path: Path) -> None:
        with ProtectedApplication(TOKENS, RateLimit(path, TOKENS.names, SLOW, 1)) as server:
            assert [server.predict(UNKNOWN) for _ in range(3)] == [401] * 3
            assert server.predict(ALICE) == 200

    def test_without_tokens_all_clients_share_a_bucket(self, path: Path) -> None:
        with ProtectedApplication(Tokens(), RateLimit(path, (), SLOW, 2)) as server:
            assert [server.predict(token) for token in (None, ALICE, BOB)] == [200, 200, 429]

    def test_every_rejection_is_counted(self, path: Path) -> None:
        with ProtectedApplication(TOKENS, RateLimit(path, TOKENS.names, SLOW, 1)) as server:
            for token in (None, ALICE, ALICE, UNKNOWN):
                server.predict(token)
            assert server.rejections == [401, 429, 401]

    def test_the_application_starts_and_stops_with_the_server(self) -> None:
        with ProtectedApplication(TOKENS) as server:
            assert server.lifespan_events == ["started"]
        assert server.lifespan_events == ["started", "stopped"]

    def test_a_websocket_is_closed_before_it_reaches_the_application(self) -> None:
        async def application(*_: object) -> None:
            pytest.fail("the application was called")

        async def send(message: Any) -> None:
            messages.append(message)

        messages: list[Any] = []
        app = AccessControl(application, Tokens(), None)
        asyncio.run(app({"type": "websocket", "path": "/health", "headers": []}, None, send))  # type: ignore[arg-type]
        assert messages == [{"type": "websocket.close", "code": 1008}]

    def test_no_token_is_in_any_log(self, caplog: pytest.LogCaptureFixture, path: Path) -> None:
        with (
            caplog.at_level(logging.DEBUG),
            ProtectedApplication(TOKENS, RateLimit(path, TOKENS.names, SLOW, 1)) as server,
        ):
            for token in (ALICE, ALICE, UNKNOWN):
                server.predict(token)
        assert "/predict" in caplog.text
        assert "-token-0123456789" not in caplog.text
