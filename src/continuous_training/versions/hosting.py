"""The program in which versions run for a prediction server: `host.py` starts it and has its other end.

    server ──standard input──> this process ──fork──> host of a version ──fork──> process for a worker's connection

The first process has only imported libraries. For each version it forks a host, which opens the version and waits at a
Unix socket. For each connection the host forks a process that predicts until the connection ends. So a version is
opened once, its memory is shared, and whatever it does ends the process of one connection only.

A process that predicts has one thread, or `OMP_NUM_THREADS`: there are as many processes as workers, and more threads
would compete for the cores. The processes before it have one: GNU's OpenMP hangs in a fork whose parent has used
several. They see no GPU, which a fork of a process that has used it cannot use.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import socket
import sys
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import pandas as pd
import pyarrow as pa
import sklearn
import sklearn.ensemble
import sklearn.pipeline
from threadpoolctl import threadpool_limits

from continuous_training.errors import UserError
from continuous_training.versions.answering import answer, open_version
from continuous_training.versions.messages import send

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_REQUEST = 1 << 16  # bytes
THREADS = "OMP_NUM_THREADS"


def main() -> None:
    """Fork a host for each request of the server, until the server ends."""
    control = socket.socket(fileno=0)
    os.dup2(2, 1)  # whatever a version prints goes to the server's log
    gc.collect()
    gc.freeze()  # a collection would write to all pages, which are shared with the forks
    threads = int(os.environ[THREADS]) if os.environ.get(THREADS, "").isdecimal() else 1
    _limit_threads(1)
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    children: dict[int, int] = {}
    while True:
        for descriptor in select.select([control.fileno(), *children], [], [])[0]:
            if descriptor in children:
                _collect(children, descriptor)
                continue
            request, descriptors, _, _ = socket.recv_fds(control, MAX_REQUEST, 2)
            if not request:
                return
            listener, server = (socket.socket(fileno=number) for number in descriptors)
            with listener, server:
                _fork(children, lambda: _host(listener, server, threads, **json.loads(request)), control)  # noqa: B023


def _host(
    listener: socket.socket,
    server: socket.socket,
    threads: int,
    version: dict[str, Any],
    open_seconds: int,
    call_seconds: int,
) -> None:
    """Open a version, and fork a process for each connection, until the server closes its end.

    Args:
        listener: gets the connections.
        server: gets the version's description or the error, and later how processes of connections have died.
        threads: of each process that predicts.
        version: the arguments of `open_version`.
        open_seconds: the time limit for opening it.
        call_seconds: the time limit for a call of the model.
    """
    events = server.makefile("wb")
    signal.alarm(open_seconds)
    try:
        description, predict = open_version(**version)
    except UserError as error:
        send(events, {"error": str(error)})
        return
    signal.alarm(0)
    sklearn.set_config(skip_parameter_validation=True)  # the parameters were validated in fit
    gc.collect()
    gc.freeze()
    send(events, description)
    children: dict[int, int] = {}
    while True:
        for descriptor in select.select([listener.fileno(), server.fileno(), *children], [], [])[0]:
            if descriptor == server.fileno():
                return
            if descriptor == listener.fileno():
                connection, _ = listener.accept()
                serve = partial(_serve, connection, description, predict, threads, call_seconds)
                _fork(children, serve, listener, server)
                connection.close()
            elif cause := _collect(children, descriptor):
                with contextlib.suppress(BrokenPipeError):
                    send(events, {"death": cause})


def _serve(
    connection: socket.socket,
    description: dict[str, Any],
    predict: Callable[[pd.DataFrame], Any],
    threads: int,
    call_seconds: int,
) -> None:
    """Describe the version, and predict until the worker closes the connection."""
    if threads > 1:  # one is what it inherits
        _limit_threads(threads)
    requests, responses = connection.makefile("rb"), connection.makefile("wb")
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        send(responses, description)
        answer(predict, _read_columns, requests, responses, call_seconds)


def _limit_threads(count: int) -> None:
    """Set how many threads the numeric libraries may use: those that are loaded, and those that will be."""
    os.environ[THREADS] = str(count)
    threadpool_limits(count)
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(count)


def _read_columns(content: bytes) -> pd.DataFrame:
    """Read rows from an Arrow stream as NumPy's types; pandas' own conversion takes several times as long."""
    batch = pa.ipc.open_stream(content).read_next_batch()
    columns = zip(batch.schema.names, batch.columns, strict=True)
    arrays = {name: column.to_numpy(zero_copy_only=False, writable=True) for name, column in columns}
    return pd.DataFrame(arrays, copy=False)


def _fork(children: dict[int, int], run: Callable[[], None], *inherited: socket.socket) -> None:
    """Fork a process that runs a function and exits; `children` gets its process id by the descriptor of its end."""
    pid = os.fork()
    if pid == 0:
        _run(run, [*children], inherited)
    children[os.pidfd_open(pid)] = pid


def _run(run: Callable[[], None], descriptors: list[int], inherited: tuple[socket.socket, ...]) -> NoReturn:
    code = 1
    try:
        for descriptor in descriptors:
            os.close(descriptor)
        for connection in inherited:
            os.close(connection.detach())  # close() would wait for its files
        run()
        code = 0
    except BaseException as error:  # as at the end of a program, but without its cleaning up
        print(f"A process of a version failed: {error!r}", file=sys.stderr, flush=True)
    finally:
        os._exit(code)


def _collect(children: dict[int, int], descriptor: int) -> str | None:
    """Collect a child that has ended; return how it died, or None if it has come to its end."""
    _, status = os.waitpid(children.pop(descriptor), 0)
    os.close(descriptor)
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        return f"killed by signal {-code} ({signal.Signals(-code).name})"
    return f"its process exited with {code}" if code else None


if __name__ == "__main__":
    main()
