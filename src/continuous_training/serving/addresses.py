"""Where to find the results of a run: MLflow's pages, and the servers that serve its model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import requests

from continuous_training.documents import Run
from continuous_training.errors import UserError
from continuous_training.registry import connection, model_versions
from continuous_training.serving import local_server
from continuous_training.serving.rollout.client import read_server_urls, read_status
from continuous_training.settings import STATE
from continuous_training.urls import without_password

if TYPE_CHECKING:
    from collections.abc import Iterator


def describe_addresses() -> list[str]:
    """Return a line for MLflow, and one for each server that serves the model of the last run from its registry."""
    lines = []
    database = STATE / "mlflow.db"
    if uri := os.environ.get("MLFLOW_TRACKING_URI"):
        lines.append(f"MLflow: {without_password(uri)}")
    elif database.exists():
        mlflow = Path(".venv/bin/mlflow")
        lines.append(f"MLflow: {mlflow} ui --backend-store-uri sqlite:///{database}, then http://127.0.0.1:5000")
    try:
        run = Run.find()
        return [*lines, *(_describe_servers(run.model) if run else ())]
    except UserError:
        return lines


def _describe_servers(model: str) -> Iterator[str]:
    for url in read_server_urls():
        try:
            status = read_status(url)
            if status["model"] == model and status["model_version"] and _follows_this_registry(url, status):
                yield f"Server: {url}/invocations serves version {status['model_version']} of {model}"
        except (UserError, requests.RequestException):
            continue  # no server, or one that is not ours


def _follows_this_registry(url: str, status: dict[str, str | None]) -> bool:
    """Return whether a server follows this workspace's registry, without MLflow if this workspace has started it."""
    if local_server.started_here(url):
        return True
    return status["registry"] == model_versions.registry_identity(connection.open_client(), str(status["model"]))
