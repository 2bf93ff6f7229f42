"""The HTTP face of the champion: MLflow's scoring protocol, the typed one, and what is asked about a server."""

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

from continuous_training.serving import SERVICE, metrics
from continuous_training.serving.http import openapi
from continuous_training.serving.prediction.routing import Answering
from continuous_training.serving.protocols import mlflow_protocol as protocol
from continuous_training.serving.protocols.signature import Refused

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from continuous_training.serving.following.loaded_version import Served
    from continuous_training.serving.following.loader import Memory
    from continuous_training.serving.following.worker_status import Board
    from continuous_training.serving.prediction.batching import Answers, Batches
    from continuous_training.serving.protocols.signature import Rows

log = logging.getLogger(__name__)

BODY_SECONDS = 30.0  # that a client may take to send a request
LARGE = 32 * 1024  # bytes, beyond which a body is read in a thread, so that others' answers do not wait for it
LISTEN_SECONDS = 30.0  # after which a server says that it is not ready, rather than nothing
REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")


class Face:
    """The endpoints of one worker."""

    def __init__(
        self, model: str, memory: Memory, batches: Batches, board: Board, counted: metrics.Metrics, most: int
    ) -> None:
        """Gather what the endpoints need.

        Args:
            model: the registered model.
            memory: has the champion.
            batches: ask it.
            board: tells of the other workers.
            counted: counts requests.
            most: bytes that a body may have.
        """
        self.model = model
        self.memory = memory
        self.board = board
        self.metrics = counted
        self._answering = Answering(memory, batches, counted)
        self._most = most

    async def invocations(self, request: Request) -> Response:
        """Answer in MLflow's formats; the header X-Model-Version names the version that did."""
        content_type = request.headers.get("content-type", protocol.JSON)

        def read(body: bytes, model: Served) -> Rows:
            return protocol.read(body, content_type, model.signature)

        return await self._answer(request, read, lambda _served, _name, answers: protocol.write(answers))

    async def predict(self, request: Request) -> Response:
        """Answer typed rows, with the probability of each class where the champion has them."""

        def write(model: Served, request_id: str, answers: Answers) -> bytes:
            return model.typed.write(model.number, request_id, answers)

        return await self._answer(request, lambda body, served: served.typed.read(body), write)

    async def _answer(
        self,
        request: Request,
        read: Callable[[bytes, Served], Rows],
        write: Callable[[Served, str, Answers], bytes],
    ) -> Response:
        began = time.perf_counter()
        path = request.scope["path"]
        request_id = _request_id(request)
        headers = {"X-Request-ID": request_id}
        try:
            body = await self._body(request)

            async def rows(model: Served) -> Rows:
                return await asyncio.to_thread(read, body, model) if len(body) > LARGE else read(body, model)

            served, answers = await self._answering.answer(request_id, rows)
            headers["X-Model-Version"] = served.number
            response = Response(write(served, request_id, answers), 200, headers, "application/json")
        except Refused as error:
            if error.status == 503:
                headers["Retry-After"] = "1"
            response = Response(_refusal(error.code, error.message), error.status, headers, "application/json")
        except Exception:  # an error of this program: it is in the log, and none of the client's business
            log.exception("Request %s failed", request_id)
            response = Response(
                _refusal("INTERNAL_ERROR", f"see the log for {request_id}"), 500, headers, "application/json"
            )
        seconds = time.perf_counter() - began
        self.metrics.requested(path, response.status_code, seconds)
        if log.isEnabledFor(logging.DEBUG):
            told = {"request_id": request_id, "status": response.status_code, "seconds": round(seconds, 6)}
            client = request.scope.get("state", {}).get("client")
            log.debug("%s", path, extra=told | ({"client": client} if client else {}))
        return response

    async def _body(self, request: Request) -> bytes:
        """Read a body of bounded size, in bounded time.

        Raises:
            Refused: it is larger, slower, or its end never comes.
        """
        told = request.headers.get("content-length", "0")
        too_large = Refused(
            413, "INVALID_PARAMETER_VALUE", f"the body is larger than {self._most:,} bytes: send fewer rows"
        )
        if told.isdigit() and int(told) > self._most:
            raise too_large
        chunks, size = [], 0
        try:
            async with asyncio.timeout(BODY_SECONDS):
                async for chunk in request.stream():
                    size += len(chunk)
                    if size > self._most:
                        raise too_large
                    chunks.append(chunk)
        except TimeoutError:
            raise Refused(408, "INVALID_PARAMETER_VALUE", f"the body did not arrive in {BODY_SECONDS:.0f} s") from None
        except ClientDisconnect:
            raise Refused(400, "INVALID_PARAMETER_VALUE", "the client left before its body had arrived") from None
        return b"".join(chunks)

    async def health(self) -> Response:
        """Say 200 while the server lives, with what it answers, and what keeps a newer version from being followed."""
        status = self.memory.status()
        return _json({"status": "ok" if status["model_version"] else "no champion"} | status)

    async def ready(self) -> Response:
        """Say 200 when there is a model to answer with: a balancer sends requests to such a server only."""
        return Response("\n", 200 if self.memory.served else 503)

    def version(self) -> Response:
        """Say which version of which registered model all workers answer with; null while they differ."""
        workers = self.board.read()
        versions = {worker["model_version"] for worker in workers}
        together = len(versions) == 1 and len(workers) == self.board.workers
        own = self.memory.status()
        told = {"service": SERVICE, "model": self.model, **own, "workers": workers}
        told["model_version"] = own["model_version"] if together and own["model_version"] in versions else None
        told["failure"] = next((worker["failure"] for worker in workers if worker["failure"]), own["failure"])
        return _json(told)

    def numbers(self) -> Response:
        """Tell Prometheus the numbers of all workers."""
        return Response(self.metrics.text(), 200, media_type=metrics.CONTENT_TYPE)


def create(face: Face, closing: Callable[[], None] = lambda: None) -> FastAPI:
    """Make the application; its memory starts and stops with it, and `closing` is called at the end.

    It does not listen before the champion is loaded or cannot be had, so that nobody is told that there is none because
    the server has not seen it yet.
    """
    memory = face.memory

    @asynccontextmanager
    async def follow(_: FastAPI) -> AsyncIterator[None]:
        memory.start()
        await asyncio.to_thread(memory.settled.wait, LISTEN_SECONDS)
        yield
        await asyncio.to_thread(memory.stop)
        await asyncio.to_thread(closing)

    app = FastAPI(title=f"{face.model} champion", lifespan=follow, redoc_url=None, redirect_slashes=False)
    # Plain routes: FastAPI's own would look at each request for parameters that these do not have.
    app.router.routes += [
        Route("/invocations", face.invocations, methods=["POST"]),
        Route("/predict", face.predict, methods=["POST"]),
    ]
    for path, endpoint in {
        "/health": face.health,
        "/ready": face.ready,
        "/ping": face.ready,
        "/version": face.version,
        "/metrics": face.numbers,
    }.items():
        app.add_api_route(path, endpoint, operation_id=path.removeprefix("/"), response_class=Response)
    app.openapi = lambda: openapi.describe(app, memory.served)  # type: ignore[method-assign]  # as FastAPI documents it
    app.add_exception_handler(HTTPException, _elsewhere)
    return app


async def _elsewhere(_: Request, error: Exception) -> Response:
    """Answer what no endpoint answers in the form of all other refusals."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    message = error.detail if isinstance(error, HTTPException) else "internal error"
    return Response(
        _refusal("ENDPOINT_NOT_FOUND", message), status, getattr(error, "headers", None), "application/json"
    )


def _request_id(request: Request) -> str:
    given = request.headers.get("x-request-id", "")
    return given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def _refusal(code: str, message: str) -> bytes:
    return orjson.dumps({"error_code": code, "message": message})


def _json(told: dict[str, Any]) -> Response:
    return Response(orjson.dumps(told), media_type="application/json")
