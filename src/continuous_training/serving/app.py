"""The HTTP face of the champion: MLflow's scoring protocol, and what a deployment asks of a server."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from mlflow.exceptions import MlflowException
from mlflow.pyfunc.scoring_server import invocations

from continuous_training.serving import SERVICE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from continuous_training.serving.follower import Follower

NOT_READY = {"error_code": "TEMPORARILY_UNAVAILABLE", "message": "there is no champion to answer with yet"}


def create(follower: Follower) -> FastAPI:
    """Make the application around a follower, which starts and stops with it."""

    @asynccontextmanager
    async def follow(_: FastAPI) -> AsyncIterator[None]:
        follower.start()
        yield
        await asyncio.to_thread(follower.stop)

    app = FastAPI(title=f"{follower.model} champion", lifespan=follow)

    @app.get("/health")
    async def health() -> dict[str, Any]:
        """Say 200 while the server lives, with what it answers, and what keeps a newer version from being followed."""
        served = follower.served
        return {
            "status": "ok" if served else "no champion",
            "model_version": served.version.number if served else None,
            "failure": follower.failure,
        }

    @app.get("/ready")
    async def ready() -> Response:
        """Say 200 when there is a model to answer with: a balancer sends requests to such a server only."""
        return Response("\n", 200 if follower.served else 503)

    @app.get("/ping")
    async def ping() -> Response:
        """Say 200 when there is a model to answer with, as MLflow's own server does."""
        return Response("\n", 200 if follower.served else 503)

    @app.get("/version")
    async def version() -> dict[str, Any]:
        """Say which version of which registered model answers now."""
        served = follower.served
        return {
            "service": SERVICE,
            "model": follower.model,
            "registry": follower.registry,
            "model_version": served.version.number if served else None,
            "run_id": served.version.run_id if served else None,
            "failure": follower.failure,
        }

    @app.post("/invocations")
    async def answer(request: Request) -> Response:
        """Answer in MLflow's formats; the header X-Model-Version names the version that did."""
        served = follower.served
        if served is None:
            return JSONResponse(NOT_READY, 503, headers={"Retry-After": "1"})
        content_type = request.headers.get("content-type", "application/json")
        body = await request.body()
        schema = served.model.metadata.get_input_schema()  # type: ignore[no-untyped-call]
        try:
            made = await asyncio.to_thread(invocations, body, content_type, served.model, schema)
        except MlflowException as error:  # its message is for the caller, the stack trace in it is not
            return JSONResponse({"error_code": error.error_code, "message": error.message}, 400)
        headers = {"X-Model-Version": served.version.number}
        return Response(made.response, made.status, headers=headers, media_type=made.mimetype)

    return app
