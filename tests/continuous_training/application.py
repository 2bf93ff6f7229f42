"""An ASGI application on a real server, in a thread of this process."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Self

import uvicorn

if TYPE_CHECKING:
    from types import TracebackType


class Application:
    """A context manager that serves an application on a port (default: a free one)."""

    def __init__(self, app: Any, port: int = 0, log_level: str = "error") -> None:
        self._server = _Server(uvicorn.Config(app, port=port, log_level=log_level, log_config=None))
        self._thread = threading.Thread(target=self._server.run)

    def __enter__(self) -> Self:
        self._thread.start()
        self._server.listening.wait()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        self._thread.join()

    @property
    def url(self) -> str:
        """Its address."""
        port = self._server.servers[0].sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}"


class _Server(uvicorn.Server):
    """Sets an event when it listens, or cannot."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = threading.Event()

    async def startup(self, sockets: Any = None) -> None:
        try:
            await super().startup(sockets)
        finally:
            self.listening.set()
