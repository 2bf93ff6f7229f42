"""The server's processes: the supervisor with the follower, and the workers, each of which is replaced when it dies.

Each worker listens on its own socket at the same port (SO_REUSEPORT), and only once it can predict. So the kernel
distributes connections evenly, and a worker that is being replaced gets none.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import tempfile
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from continuous_training.errors import UserError
from continuous_training.registry import connection
from continuous_training.serving.following.cache import VersionCache
from continuous_training.serving.following.follower import Follower
from continuous_training.serving.following.hosts import VersionHosts
from continuous_training.serving.http.tokens import Tokens
from continuous_training.serving.logs import configure_logging
from continuous_training.settings import load_settings
from continuous_training.versions.examination import Policy

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from continuous_training.serving.options import Options

log = logging.getLogger(__name__)

SWITCH_SECONDS = 0.0005  # Python's switch interval: with the default, a request waits 5 ms for the model's thread
HEALTH_CHECK_SECONDS = 10  # a worker that does not respond for so long is replaced
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - metrics are memory-mapped files: a full disk would raise SIGBUS
SHUTDOWN_SECONDS = 8  # the time limit for current requests when the server ends


class SharedListener:
    """An address that becomes a listening socket in the process to which it is sent."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)

    def __reduce__(self) -> tuple[object, ...]:
        return (bind_socket, self._address)


def bind_socket(host: str, port: int, *, shared: bool = True) -> socket.socket:
    """Bind a socket; if it is shared, other processes can bind the same address.

    Raises:
        UserError: the address is in use or invalid.
    """
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = addresses[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(address)
    except OSError as error:
        raise UserError(f"cannot listen on {host}:{port}: {error.strerror}; choose another --port") from error
    return listener


class Supervisor(Multiprocess):
    """Starts one worker, and the others once it is ready: started together, they would only slow each other down."""

    def __init__(self, config: uvicorn.Config, listener: SharedListener, workers: int) -> None:
        super().__init__(config, [listener])  # type: ignore[list-item]  # it is only sent to the workers
        self._workers = workers

    def keep_subprocess_alive(self) -> None:
        """Replace dead workers, and start those that are still missing."""
        super().keep_subprocess_alive()
        if self.processes_num < self._workers and self.processes[0].is_ready():
            for _ in range(self._workers - self.processes_num):
                self.handle_ttin()


def serve(options: Options) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Raises:
        UserError: the address is in use, or a worker cannot start with these settings.
    """
    settings = load_settings(options.model)
    Tokens.from_environment()  # report an error once, not in each worker
    bind_socket(options.host, options.port, shared=False).close()  # a shared socket would join another server's port
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // options.workers)))
    configure_logging(debug=options.debug)
    cache = VersionCache(options.model)
    parent = SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="ct-serve-", dir=parent) as shared:
        metrics = Path(shared, "metrics")
        metrics.mkdir()
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(metrics)
        from continuous_training.serving.metrics import Metrics  # reads the variable when it is imported

        policy = Policy(options.model, settings.model)
        hosts = VersionHosts(Path(shared), cache, policy, settings.data.key, Metrics().count_death)
        follower = Follower(connection.open_client, options.model, cache, hosts, Path(shared))
        config = uvicorn.Config(
            partial(create_worker_app, options, Path(shared), os.getpid()),
            factory=True,
            workers=1,  # the supervisor starts the others
            http="httptools",
            loop="uvloop",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            timeout_worker_healthcheck=HEALTH_CHECK_SECONDS,
            timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        )
        hosts.start()
        follower.start()
        supervisor = Supervisor(config, SharedListener(options.host, options.port), options.workers)
        supervisor.run()
        follower.stop()
        hosts.stop()
    if any(process.exitcode == STARTUP_FAILURE for process in supervisor.processes):
        raise UserError("a worker could not start: see the messages above")


def create_worker_app(options: Options, shared: Path, supervisor_pid: int) -> ASGIApp:
    """Create a worker's application, in the worker's process."""
    configure_logging(debug=options.debug)
    sys.setswitchinterval(SWITCH_SECONDS)
    threading.Thread(target=_end_with_supervisor, args=(supervisor_pid,), daemon=True).start()
    from continuous_training.serving.worker import (
        create_worker,  # imports FastAPI, which the supervisor does not need
    )

    try:
        return create_worker(options, shared)
    except UserError as error:  # every other worker would fail too
        log.error("%s", error)  # noqa: TRY400 - the traceback of a UserError adds nothing
        sys.exit(STARTUP_FAILURE)


def _end_with_supervisor(pid: int) -> None:
    """End this worker when the supervisor has died: nothing else would stop it, or update its versions."""
    pause = threading.Event()
    while os.getppid() == pid:
        pause.wait(1)
    os.kill(os.getpid(), signal.SIGTERM)
