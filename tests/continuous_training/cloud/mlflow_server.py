"""A real MLflow server of this machine, with a database and artifacts of its own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

import psutil
import requests

from server import free_port

MLFLOW = Path(sys.executable).with_name("mlflow")
PATIENCE = 300  # seconds: a first start makes the database, and other tests run meanwhile


class Tracking:
    """`mlflow server` at `uri`, with all that it keeps in `folder`; `log` is what it prints.

    It starts sooner if there is an mlflow.db in the folder already, and with an `mlflow` that forks.
    """

    def __init__(self, folder: Path, mlflow: Path = MLFLOW) -> None:
        port = free_port()
        self.uri = f"http://127.0.0.1:{port}"
        self.log = folder / "mlflow-server.log"
        self._command = [
            *(mlflow, "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
            *("--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"),
            *("--artifacts-destination", (folder / "artifacts").as_uri(), "--serve-artifacts"),
        ]

    def __enter__(self) -> Self:
        quiet = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command,
                env={**quiet, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Kill the server and its workers."""
        with contextlib.suppress(psutil.NoSuchProcess):
            server = psutil.Process(self._process.pid)
            for process in [server, *server.children(recursive=True)]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        self._process.wait()

    def _wait(self) -> None:
        patience = time.monotonic() + PATIENCE
        while time.monotonic() < patience and self._process.poll() is None:
            with contextlib.suppress(requests.RequestException):
                if requests.get(f"{self.uri}/health", timeout=5).ok:
                    return
            time.sleep(0.1)
        raise RuntimeError(f"mlflow server does not start: {self.log.read_text(errors='replace')[-2000:]}")
