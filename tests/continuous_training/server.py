"""Prediction servers for tests: one in a thread of this process, and one with its own processes, like `ct serve`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import requests

from application import Application
from conftest import ROOT, TIMEOUT, wait_until
from continuous_training.registry import connection
from continuous_training.serving.following.assignment import Assignment
from continuous_training.serving.following.cache import VersionCache
from continuous_training.serving.following.follower import Follower
from continuous_training.serving.following.hosts import VersionHosts
from continuous_training.serving.following.loader import VersionLoader
from continuous_training.serving.following.worker_status import WorkerStatuses
from continuous_training.serving.http.access_control import AccessControl
from continuous_training.serving.http.app import Endpoints, create_app
from continuous_training.serving.http.tokens import Tokens
from continuous_training.serving.metrics import Metrics
from continuous_training.serving.prediction.batching import Batcher
from continuous_training.settings import load_settings
from continuous_training.versions.examination import Policy
from ports import free_port

POLL_SECONDS = 0.05


class ServerClient:
    """What a client does with a server."""

    url: str

    def get(self, path: str) -> requests.Response:
        return requests.get(f"{self.url}{path}", timeout=TIMEOUT)

    def invoke(self, **body: Any) -> requests.Response:
        return requests.post(f"{self.url}/invocations", json=body, timeout=TIMEOUT)

    def predict(self, *rows: dict[str, Any]) -> requests.Response:
        return requests.post(f"{self.url}/predict", json={"rows": rows}, timeout=TIMEOUT)

    def wait_for_failure(self, part: str = "") -> str:
        """Wait until the server reports that it cannot follow the registry, for a reason with this part; return it."""
        failure = ""

        def fails() -> bool:
            nonlocal failure
            failure = self.get("/health").json()["failure"] or ""
            return bool(failure) and part in failure

        wait_until(fails, f"the server reports a failure with '{part}'")
        return failure

    def wait_for_version(self, version: str) -> None:
        """Wait until every worker serves a version."""
        wait_until(lambda: self.get("/version").json()["model_version"] == version, f"version {version} is served")


class Server(ServerClient):
    """The application in a thread of this process."""

    def __init__(self, *, max_queue: int = 1000, max_body: int = 10_000_000, tokens: Tokens | None = None) -> None:
        self._resources = ExitStack()
        self._shared = shared = Path(self._resources.enter_context(tempfile.TemporaryDirectory()))
        cache, metrics, statuses = VersionCache("toy"), Metrics(), WorkerStatuses(shared / "workers", 1)
        self._hosts = VersionHosts(
            shared, cache, Policy("toy", load_settings("toy").model), ("id",), metrics.count_death
        )
        self.follower = Follower(connection.open_client, "toy", cache, self._hosts, shared)
        loader = VersionLoader(shared, cache, ("id",), statuses.write)
        batcher = Batcher(metrics, None, max_queue)
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        app = create_app(Endpoints("toy", loader, batcher, statuses, metrics, max_body), batcher.close)
        self._application = Application(AccessControl(app, tokens, None) if tokens else app, port)

    def set_registry(self, identity: str) -> None:
        """Make it a server of another registry."""
        self.follower.stop()
        Assignment(registry=identity).write(self._shared)
        while self.get("/version").json()["registry"] != identity:
            time.sleep(POLL_SECONDS)

    def __enter__(self) -> Self:
        self._hosts.start()
        self._resources.callback(self._hosts.stop)
        self.follower.start()
        self._resources.callback(self.follower.stop)
        self._resources.enter_context(self._application)
        return self

    def __exit__(self, *_: object) -> None:
        self._resources.close()


class ServerProcess(ServerClient):
    """`ct serve` for the toy model in the current workspace."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        script = str(ROOT / "scripts/serve.py")
        self._command = [sys.executable, script, "--model", "toy", "--port", str(port), *arguments]
        self._environment = environment

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            self._command, env=os.environ | self._environment, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        self._lines: list[str] = []
        self._reader = threading.Thread(target=lambda: self._lines.extend(self.process.stderr or ()))
        self._reader.start()
        while self.process.poll() is None:
            try:
                self.get("/health")
            except requests.ConnectionError:
                time.sleep(POLL_SECONDS)
            else:
                return self
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> str:
        """End it as Jenkins or a person would; return its standard error."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)
        self._reader.join()
        return "".join(self._lines)
