"""A real MLflow server on this machine, with its own database and artifacts."""

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

from ports import free_port

MLFLOW = Path(sys.executable).with_name("mlflow")
START_TIMEOUT = 300  # seconds: a first start creates the database while other tests run


class MlflowServer:
    """`mlflow server` at `uri`, with its data in `folder` and its output in `log`.

    It starts faster if the folder has an mlflow.db, and with an `mlflow` that forks.
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
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command,
                env={**environment, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
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
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(requests.RequestException):
                if requests.get(f"{self.uri}/health", timeout=5).ok:
                    return
            time.sleep(0.1)
        raise RuntimeError(f"mlflow server does not start: {self.log.read_text(errors='replace')[-2000:]}")
