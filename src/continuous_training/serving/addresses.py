"""Where a person finds what a run has made: MLflow's pages, and the server that answers."""

from __future__ import annotations

import os
from pathlib import Path

import requests

from continuous_training.errors import UserError
from continuous_training.serving.rollout import client as questions
from continuous_training.settings import STATE
from continuous_training.urls import without_password


def addresses() -> list[str]:
    """Return a line for each thing that can be looked at or asked after a run in this workspace."""
    lines = []
    database = STATE / "mlflow.db"
    if uri := os.environ.get("MLFLOW_TRACKING_URI"):
        lines.append(f"MLflow: {without_password(uri)}")
    elif database.exists():
        mlflow = Path(".venv/bin/mlflow")
        lines.append(f"MLflow: {mlflow} ui --backend-store-uri sqlite:///{database}, then http://127.0.0.1:5000")
    try:
        servers = questions.servers()
    except UserError:
        return lines
    for url in servers:
        try:
            told = questions.told(url)
        except (UserError, requests.RequestException):
            continue  # nobody, or somebody else: nothing to show
        if told["model_version"]:
            lines.append(f"Server: {url}/invocations answers with version {told['model_version']} of {told['model']}")
    return lines
