"""The connection to MLflow: where its tracking server is, and what its errors mean."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypeVar

from continuous_training.errors import UserError
from continuous_training.settings import STATE
from continuous_training.urls import without_password

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow import MlflowClient

Entity = TypeVar("Entity")

TAG_LENGTH = 5000  # MLflow documents 100,000, but its column holds no more; PostgreSQL refuses what is longer


def tracking_uri() -> str:
    """Return MLFLOW_TRACKING_URI, or the embedded default: SQLite under .ct/."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(STATE / 'mlflow.db').resolve()}"


def open_client() -> MlflowClient:
    """Point MLflow at the tracking server and return a client of it.

    Requests end after 30 seconds and three tries, unless MLflow's own variables say otherwise.

    Raises:
        UserError: nothing answers there.
    """
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    import mlflow  # five seconds that only the stages which ask MLflow pay

    uri = tracking_uri()
    if uri.startswith("sqlite"):
        STATE.mkdir(exist_ok=True)
    mlflow.set_tracking_uri(uri)
    client = mlflow.MlflowClient()
    try:
        client.search_experiments(max_results=1)
    except Exception as error:
        message = str(error).strip().splitlines()[0]
        raise UserError(without_password(f"MLflow at {uri} cannot be used: {message}")) from error
    return client


def clip(text: str, length: int = TAG_LENGTH) -> str:
    """Shorten a text to what a tag holds."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def if_there(call: Callable[[], Entity], what: str) -> Entity | None:
    """Call MLflow about something; return None if there is no such thing.

    Raises:
        UserError: MLflow does not answer; that is not the same as there being no champion.
    """
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, RESOURCE_DOES_NOT_EXIST, ErrorCode

    absent = {ErrorCode.Name(RESOURCE_DOES_NOT_EXIST), ErrorCode.Name(INVALID_PARAMETER_VALUE)}
    try:
        return call()
    except MlflowException as error:
        if error.error_code in absent:
            return None
        raise UserError(f"the registry does not tell {what}: {error.message.splitlines()[0]}") from error
