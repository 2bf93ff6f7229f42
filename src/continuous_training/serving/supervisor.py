"""The server's processes: uvicorn's supervisor, the follower beside it, and the workers, each replaced when it dies.

Each worker listens on a socket of its own to the same port (SO_REUSEPORT), and only when it has something to answer
with: so the kernel spreads connections evenly, and a worker that is replaced is missed by nobody.
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
from continuous_training.serving import logs
from continuous_training.serving.following.cache import Cache
from continuous_training.serving.following.follower import Follower
from continuous_training.serving.http.authentication import Tokens

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from continuous_training.serving.options import Options

log = logging.getLogger(__name__)

SWITCH_SECONDS = 0.0005  # between Python's threads: a request should not wait 5 ms for the model's thread
CHECK_SECONDS = 10  # that a worker may be silent before it is taken for hung
MEMORY = Path("/dev/shm")  # noqa: S108 - of this machine: metrics are mapped files, and a full disk would be a SIGBUS
SHUTDOWN_SECONDS = 8  # for requests under way when the server ends


class Listener:
    """An address that becomes a bound socket in the process that it is sent to."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)

    def __reduce__(self) -> tuple[object, ...]:
        return (listen, self._address)


def listen(host: str, port: int, *, shared: bool = True) -> socket.socket:
    """Bind a socket; other processes may bind the same address if it is shared.

    Raises:
        UserError: the address cannot be had.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind(address)
    except OSError as error:
        raise UserError(f"cannot listen on {host}:{port}: {error.strerror}; choose another --port") from error
    return bound


class Supervisor(Multiprocess):
    """Starts one worker, and the others when it answers: together they would only keep each other from starting."""

    def __init__(self, config: uvicorn.Config, listener: Listener, workers: int) -> None:
        super().__init__(config, [listener])  # type: ignore[list-item]  # it is only sent to the workers
        self._workers = workers

    def keep_subprocess_alive(self) -> None:
        """Replace the dead, and start those that are still missing."""
        super().keep_subprocess_alive()
        if self.processes_num < self._workers and self.processes[0].is_ready():
            for _ in range(self._workers - self.processes_num):
                self.handle_ttin()


def serve(options: Options) -> None:
    """Serve with so many workers, and replace those that die, until SIGTERM or Ctrl-C.

    Raises:
        UserError: the address is taken, or a worker cannot start with these settings.
    """
    Tokens.from_environment()  # what is wrong with them is told once, and here
    listen(options.host, options.port, shared=False).close()  # sockets of workers would share it with a stranger's
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // options.workers)))
    logs.configure(debug=options.debug)
    cache = Cache(options.model)
    place = MEMORY if os.access(MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="ct-serve-", dir=place) as shared:
        follower = Follower(connection.open_client, options.model, cache, Path(shared))
        numbers = Path(shared, "metrics")
        numbers.mkdir()
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(numbers)
        config = uvicorn.Config(
            partial(make, options, Path(shared), os.getpid()),
            factory=True,
            workers=1,  # to begin with
            http="httptools",
            loop="uvloop",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            timeout_worker_healthcheck=CHECK_SECONDS,
            timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        )
        follower.start()
        supervisor = Supervisor(config, Listener(options.host, options.port), options.workers)
        supervisor.run()
        follower.stop()
    if any(process.exitcode == STARTUP_FAILURE for process in supervisor.processes):
        raise UserError("a worker could not start: see above")


def make(options: Options, shared: Path, parent: int) -> ASGIApp:
    """Make a worker's application, in the worker."""
    logs.configure(debug=options.debug)
    sys.setswitchinterval(SWITCH_SECONDS)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    from continuous_training.serving import worker  # scikit-learn: the supervisor needs none

    try:
        return worker.application(options, shared)
    except UserError as error:  # another worker would have the same
        log.error("%s", error)  # noqa: TRY400 - a UserError says all
        sys.exit(STARTUP_FAILURE)


def _end_with(parent: int) -> None:
    """End when the supervisor has gone: nobody would stop this process, nor hear that it serves."""
    pause = threading.Event()
    while os.getppid() == parent:
        pause.wait(1)
    os.kill(os.getpid(), signal.SIGTERM)
