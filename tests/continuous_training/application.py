"""An ASGI application on a real server, in a thread of this process."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Self

import uvicorn

if TYPE_CHECKING:
    from types import TracebackType


class Application:
    """Runs it on a port of its own, or a given one, for as long as the context lasts."""

    def __init__(self, app: Any, port: int = 0, log_level: str = "error") -> None:
        self._uvicorn = uvicorn.Server(uvicorn.Config(app, port=port, log_level=log_level, log_config=None))
        self._thread = threading.Thread(target=self._uvicorn.run)

    def __enter__(self) -> Self:
        self._thread.start()
        while not self._uvicorn.started:
            time.sleep(0.01)
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._uvicorn.should_exit = True
        self._thread.join()

    @property
    def url(self) -> str:
        """Its address."""
        port = self._uvicorn.servers[0].sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}"
