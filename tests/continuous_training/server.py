"""A prediction server in this process, on a free port; and one with processes of its own, as `ct serve` starts it."""

from __future__ import annotations

import os
import signal
import socket
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
from conftest import ROOT
from continuous_training.registry import connection
from continuous_training.serving.following.assignment import Wanted
from continuous_training.serving.following.cache import Cache
from continuous_training.serving.following.follower import Follower
from continuous_training.serving.following.loader import Memory
from continuous_training.serving.following.worker_status import Board
from continuous_training.serving.http import app
from continuous_training.serving.http.authentication import Guard, Tokens
from continuous_training.serving.metrics import Metrics
from continuous_training.serving.prediction.batching import Batches


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


class Asked:
    """What a client does with a server."""

    url: str

    def get(self, path: str) -> requests.Response:
        return requests.get(f"{self.url}{path}", timeout=10)

    def ask(self, **body: Any) -> requests.Response:
        return requests.post(f"{self.url}/invocations", json=body, timeout=10)

    def predict(self, *rows: dict[str, Any]) -> requests.Response:
        return requests.post(f"{self.url}/predict", json={"rows": rows}, timeout=10)

    def wait_for_failure(self) -> str:
        """Wait until something keeps it from following; return what."""
        while (failure := self.get("/health").json()["failure"]) is None:
            time.sleep(0.05)
        return str(failure)

    def wait_for(self, version: str) -> None:
        """Wait until every worker answers with a version."""
        while self.get("/version").json()["model_version"] != version:
            time.sleep(0.05)


class Server(Asked):
    """The application in a thread of this process."""

    def __init__(self, *, waiting: int = 1000, most: int = 10_000_000, tokens: Tokens | None = None) -> None:
        self._up = ExitStack()
        self._shared = shared = Path(self._up.enter_context(tempfile.TemporaryDirectory()))
        cache, metrics, board = Cache("toy"), Metrics(), Board(shared / "board", 1)
        self.follower = Follower(connection.open_client, "toy", cache, shared)
        memory = Memory(shared, cache, ("numpy.dtype",), ("id",), board.post)
        batches = Batches(metrics, None, waiting)
        self.url = f"http://127.0.0.1:{free_port()}"
        port = int(self.url.rpartition(":")[2])
        made = app.create(app.Face("toy", memory, batches, board, metrics, most), batches.close)
        self._running = Application(Guard(made, tokens, None) if tokens else made, port)

    def belong_to(self, identity: str) -> None:
        """Become a server of another registry."""
        self.follower.stop()
        Wanted(registry=identity).write(self._shared)
        while self.get("/version").json()["registry"] != identity:
            time.sleep(0.05)

    def __enter__(self) -> Self:
        self.follower.start()
        self._up.callback(self.follower.stop)
        self._up.enter_context(self._running)
        return self

    def __exit__(self, *_: object) -> None:
        self._up.close()


class Processes(Asked):
    """`ct serve` for the toy model in the current workspace."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._command = [
            sys.executable,
            str(ROOT / "scripts/serve.py"),
            "--model",
            "toy",
            "--port",
            str(port),
            *arguments,
        ]
        self._environment = environment

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            self._command, env=os.environ | self._environment, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        self._said: list[str] = []
        self._reader = threading.Thread(target=lambda: self._said.extend(self.process.stderr or ()))
        self._reader.start()
        while self.process.poll() is None:
            try:
                self.get("/health")
            except requests.ConnectionError:
                time.sleep(0.05)
            else:
                return self
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> str:
        """End it as Jenkins or a person would; return what it said on standard error."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)
        self._reader.join()
        return "".join(self._said)
