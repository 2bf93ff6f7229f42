"""A prediction server in this process, on a free port."""

from __future__ import annotations

import socket
import threading
import time
from typing import Any, Self

import requests
import uvicorn

from continuous_training import registry
from continuous_training.serving import app
from continuous_training.serving.follower import Follower


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


class Server:
    """The application in a thread of this process."""

    def __init__(self) -> None:
        self.follower = Follower(registry.open_client, "toy", ("numpy.dtype",))
        self.url = f"http://127.0.0.1:{free_port()}"
        port = int(self.url.rpartition(":")[2])
        self._uvicorn = uvicorn.Server(uvicorn.Config(app.create(self.follower), port=port, log_level="error"))
        self._thread = threading.Thread(target=self._uvicorn.run)

    def __enter__(self) -> Self:
        self._thread.start()
        while not self._uvicorn.started:
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        self._uvicorn.should_exit = True
        self._thread.join()

    def get(self, path: str) -> requests.Response:
        return requests.get(f"{self.url}{path}", timeout=10)

    def ask(self, **body: Any) -> requests.Response:
        return requests.post(f"{self.url}/invocations", json=body, timeout=10)

    def wait_for_failure(self) -> str:
        """Wait until something keeps it from following; return what."""
        while (failure := self.get("/health").json()["failure"]) is None:
            time.sleep(0.05)
        return str(failure)

    def wait_for(self, version: str) -> None:
        while self.get("/version").json()["model_version"] != version:
            time.sleep(0.05)
