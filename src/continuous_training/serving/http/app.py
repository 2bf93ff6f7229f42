"""The HTTP endpoints: predictions by MLflow's and by the typed protocol, and the state of the server."""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import orjson
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Route

from continuous_training.serving import SERVICE
from continuous_training.serving.http import openapi
from continuous_training.serving.metrics import CONTENT_TYPE
from continuous_training.serving.prediction.routing import SERVICE_UNAVAILABLE, Router
from continuous_training.serving.protocols import mlflow_protocol
from continuous_training.serving.protocols.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from continuous_training.serving.following.hosted_version import HostedVersion
    from continuous_training.serving.following.loader import VersionLoader
    from continuous_training.serving.following.worker_status import WorkerStatuses
    from continuous_training.serving.metrics import Metrics
    from continuous_training.serving.prediction.batching import Batcher, Predictions
    from continuous_training.serving.protocols.signature import Rows

log = logging.getLogger(__name__)

BODY_SECONDS = 30.0  # the time limit for a client to send a request
LARGE_BODY = 32 * 1024  # bytes; a larger body is parsed in a thread, so that other requests do not wait for it
STARTUP_SECONDS = 30.0  # without a version for so long, the server listens and reports that it is not ready
REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")


class Endpoints:
    """The endpoints of one worker."""

    def __init__(
        self,
        model: str,
        loader: VersionLoader,
        batcher: Batcher,
        statuses: WorkerStatuses,
        metrics: Metrics,
        max_body: int,
    ) -> None:
        """Create the endpoints.

        Args:
            model: the registered model.
            loader: has the champion.
            batcher: calls the model.
            statuses: the statuses of all workers.
            metrics: counts requests.
            max_body: the maximum size of a request's body, in bytes.
        """
        self.model = model
        self.loader = loader
        self._statuses = statuses
        self._metrics = metrics
        self._router = Router(loader, batcher, metrics)
        self._max_body = max_body

    async def invocations(self, request: Request) -> Response:
        """Predict in MLflow's formats; the header X-Model-Version has the version."""
        content_type = request.headers.get("content-type", mlflow_protocol.JSON)

        def parse(body: bytes, version: HostedVersion) -> Rows:
            return mlflow_protocol.parse_rows(body, content_type, version.signature)

        def write(_version: HostedVersion, _request_id: str, predictions: Predictions) -> bytes:
            return mlflow_protocol.write_predictions(predictions)

        return await self._respond(request, parse, write)

    async def predict(self, request: Request) -> Response:
        """Predict typed rows, with the probability of each class if the champion predicts them."""

        def write(version: HostedVersion, request_id: str, predictions: Predictions) -> bytes:
            return version.typed_protocol.write_predictions(version.number, request_id, predictions)

        return await self._respond(request, lambda body, version: version.typed_protocol.parse_rows(body), write)

    async def _respond(
        self,
        request: Request,
        parse: Callable[[bytes, HostedVersion], Rows],
        write: Callable[[HostedVersion, str, Predictions], bytes],
    ) -> Response:
        start = time.perf_counter()
        path = request.scope["path"]
        request_id = _request_id(request)
        headers = {"X-Request-ID": request_id}
        try:
            body = await self._read_body(request)

            async def parse_body(version: HostedVersion) -> Rows:
                return await asyncio.to_thread(parse, body, version) if len(body) > LARGE_BODY else parse(body, version)

            version, predictions = await self._router.predict(request_id, parse_body)
            headers["X-Model-Version"] = version.number
            response = Response(write(version, request_id, predictions), 200, headers, "application/json")
        except RequestError as error:
            if error.status == SERVICE_UNAVAILABLE:
                headers["Retry-After"] = "1"
            response = Response(_error_body(error.code, error.message), error.status, headers, "application/json")
        except Exception:  # a bug: the details go to the log, not to the client
            log.exception("Request %s failed", request_id)
            message = f"internal error: see the server's log for request {request_id}"
            response = Response(_error_body("INTERNAL_ERROR", message), 500, headers, "application/json")
        seconds = time.perf_counter() - start
        self._metrics.count_request(path, response.status_code, seconds)
        if log.isEnabledFor(logging.DEBUG):
            fields = {"request_id": request_id, "status": response.status_code, "seconds": round(seconds, 6)}
            client = request.scope.get("state", {}).get("client")
            log.debug("%s", path, extra=fields | ({"client": client} if client else {}))
        return response

    async def _read_body(self, request: Request) -> bytes:
        """Read a body within the limits of size and time.

        Raises:
            RequestError: it is too large or too slow, or the client has disconnected.
        """
        length = request.headers.get("content-length", "0")
        too_large = RequestError(
            413, "INVALID_PARAMETER_VALUE", f"the body is larger than {self._max_body:,} bytes: send fewer rows"
        )
        if length.isdigit() and int(length) > self._max_body:
            raise too_large
        chunks, size = [], 0
        try:
            async with asyncio.timeout(BODY_SECONDS):
                async for chunk in request.stream():
                    size += len(chunk)
                    if size > self._max_body:
                        raise too_large
                    chunks.append(chunk)
        except TimeoutError:
            message = f"the body did not arrive in {BODY_SECONDS:.0f} s"
            raise RequestError(408, "INVALID_PARAMETER_VALUE", message) from None
        except ClientDisconnect:
            raise RequestError(400, "INVALID_PARAMETER_VALUE", "the client disconnected too early") from None
        return b"".join(chunks)

    async def health(self) -> Response:
        """Return 200 while the worker is alive, with its version and what keeps it from following the registry."""
        status = self.loader.status()
        return _to_json({"status": "ok" if status["model_version"] else "no champion"} | status)

    async def ready(self) -> Response:
        """Return 200 if there is a champion, else 503: a load balancer then sends no requests here."""
        return Response("\n", 200 if self.loader.champion else SERVICE_UNAVAILABLE)

    def version(self) -> Response:
        """Return the version that all workers serve, or null while they differ, and each worker's status."""
        workers = self._statuses.read()
        versions = {worker["model_version"] for worker in workers}
        complete = len(versions) == 1 and len(workers) == self._statuses.workers
        own = self.loader.status()
        status = {"service": SERVICE, "model": self.model, **own, "workers": workers}
        status["model_version"] = own["model_version"] if complete and own["model_version"] in versions else None
        status["failure"] = next((worker["failure"] for worker in workers if worker["failure"]), own["failure"])
        return _to_json(status)

    def prometheus_metrics(self) -> Response:
        """Return the metrics of all workers."""
        return Response(self._metrics.render(), 200, media_type=CONTENT_TYPE)


def create_app(endpoints: Endpoints, on_shutdown: Callable[[], None] = lambda: None) -> FastAPI:
    """Create the application; the version loader starts and stops with it, and `on_shutdown` is called at the end.

    It does not listen before the champion is loaded or cannot be loaded: otherwise it would report that there is no
    champion only because it has not looked yet.
    """
    loader = endpoints.loader

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        loader.start()
        await asyncio.to_thread(loader.initialized.wait, STARTUP_SECONDS)
        yield
        await asyncio.to_thread(loader.stop)
        await asyncio.to_thread(on_shutdown)

    app = FastAPI(title=f"{endpoints.model} champion", lifespan=lifespan, redoc_url=None, redirect_slashes=False)
    # Plain Starlette routes: FastAPI's would search each request for parameters that these do not have.
    app.router.routes += [
        Route("/invocations", endpoints.invocations, methods=["POST"]),
        Route("/predict", endpoints.predict, methods=["POST"]),
    ]
    for path, endpoint in {
        "/health": endpoints.health,
        "/ready": endpoints.ready,
        "/ping": endpoints.ready,
        "/version": endpoints.version,
        "/metrics": endpoints.prometheus_metrics,
    }.items():
        app.add_api_route(path, endpoint, operation_id=path.removeprefix("/"), response_class=Response)
    app.openapi = lambda: openapi.describe(app, loader.champion)  # type: ignore[method-assign]  # as FastAPI documents
    app.add_exception_handler(HTTPException, _respond_to_http_exception)
    return app


async def _respond_to_http_exception(_: Request, error: Exception) -> Response:
    """Return errors of the framework, such as an unknown path, in the same form as all others."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    message = error.detail if isinstance(error, HTTPException) else "internal error"
    body = _error_body("ENDPOINT_NOT_FOUND", message)
    return Response(body, status, getattr(error, "headers", None), "application/json")


def _request_id(request: Request) -> str:
    header = request.headers.get("x-request-id", "")
    return header if REQUEST_ID.fullmatch(header) else uuid.uuid4().hex


def _error_body(code: str, message: str) -> bytes:
    return orjson.dumps({"error_code": code, "message": message})


def _to_json(document: dict[str, Any]) -> Response:
    return Response(orjson.dumps(document), media_type="application/json")
