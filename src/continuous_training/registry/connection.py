"""The connection to MLflow: the tracking server's address, the client, and errors that mean 'not found'."""

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

TAG_LENGTH = 5000  # MLflow documents 100,000, but its column holds no more, and PostgreSQL refuses longer values


def tracking_uri() -> str:
    """Return MLFLOW_TRACKING_URI, or the embedded default: SQLite under .ct/."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(STATE / 'mlflow.db').resolve()}"


def open_client() -> MlflowClient:
    """Set MLflow's tracking server and return a client.

    A request times out after 30 seconds and is tried three times, unless MLflow's variables change this.

    Raises:
        UserError: the server does not answer.
    """
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    import mlflow  # takes seconds, which only stages that use MLflow should pay

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
    """Shorten a text to the length that a tag can hold."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def none_if_missing(call: Callable[[], Entity], what: str) -> Entity | None:
    """Call MLflow and return its result, or None if the entity does not exist.

    Raises:
        UserError: MLflow reports another error: an unreachable registry is not a missing champion.
    """
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, RESOURCE_DOES_NOT_EXIST, ErrorCode

    codes_of_missing_entities = {ErrorCode.Name(RESOURCE_DOES_NOT_EXIST), ErrorCode.Name(INVALID_PARAMETER_VALUE)}
    try:
        return call()
    except MlflowException as error:
        if error.error_code in codes_of_missing_entities:
            return None
        raise UserError(f"the registry cannot read {what}: {error.message.splitlines()[0]}") from error
