"""The fork server of a run, and the supervisor of each of its forks."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import struct
import sys
import time
from typing import TYPE_CHECKING

from continuous_training.fork_server import client
from continuous_training.fork_server.client import (
    ACCEPTED,
    CONNECT_SECONDS,
    FOLDER,
    FORWARDED_SIGNALS,
    START,
    check_folder,
    check_peer,
    send,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

IDLE_SECONDS = 300  # without a verb, after which the server ends
TICK_SECONDS = 5
PR_SET_PDEATHSIG = 1  # of prctl(2)


def serve(path: str, state: str, *modules: str) -> None:
    """Import modules and serve clients until the run is over. Each fork runs its verb here and exits with its code.

    Args:
        path: of the socket.
        state: the fingerprint of the process that has started this one.
        *modules: their names.
    """
    check_folder(os.lstat(FOLDER))
    gc.disable()  # a collection writes to all pages, which the forks would have to copy
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    with socket.socket(socket.AF_UNIX) as listener:
        mask = os.umask(0o177)
        listener.bind(path)
        os.umask(mask)
        listener.listen()
        connection = _wait(listener, path, iter(modules))
    if connection:  # this is a fork, and the client waits for it
        _run(*supervise(connection, path, state))


def _wait(listener: socket.socket, path: str, modules: Iterator[str]) -> socket.socket | None:
    """Import modules and fork for each client. In a fork, return its connection; in the server, None when it is over.

    The server ends when it has been idle for long, and when its socket has been removed, as with its workspace.
    """
    socket_file, deadline, imported = os.stat(path).st_ino, time.monotonic() + IDLE_SECONDS, False
    while time.monotonic() < deadline:
        if select.select([listener], [], [], TICK_SECONDS if imported else 0)[0]:
            connection, _ = listener.accept()
            if os.fork() == 0:
                return connection
            connection.close()
        elif not imported:
            imported = _import_next(modules)
        if _forks_run():
            deadline = time.monotonic() + IDLE_SECONDS
        try:
            if os.stat(path).st_ino != socket_file:
                return None
        except FileNotFoundError:
            return None
    os.unlink(path)
    return None


def _import_next(modules: Iterator[str]) -> bool:
    """Import the next module, and return whether it was the last one."""
    name = next(modules, None)
    if name:
        importlib.import_module(name)
        return False
    gc.collect()
    return True


def _forks_run() -> bool:
    """Collect the supervisors that have ended; return whether others run."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def supervise(connection: socket.socket, path: str, state: str) -> list[str]:
    """Fork the verb that a client requests, and wait for its end; only the verb's fork returns, with its command.

    Args:
        connection: to the client.
        path: of the server's socket.
        state: the server's fingerprint.
    """
    server, supervisor = os.getppid(), os.getpid()
    try:
        streams, command, folder, environment, last = _receive(connection, state)
    except (OSError, ValueError, struct.error) as problem:
        print(f"A verb starts without this server: {problem}", file=sys.stderr, flush=True)
        os._exit(1)
    verb = os.fork()
    if verb == 0:
        connection.close()
        _take_over_process_state(supervisor, streams, folder, environment)
        return command
    for stream in streams:
        os.close(stream)
    status = _follow(verb, connection)
    if last:
        with contextlib.suppress(OSError):
            os.unlink(path)
            if os.getppid() == server:
                os.kill(server, signal.SIGTERM)
    send(connection, struct.pack("!i", status))
    os._exit(0)


def _receive(connection: socket.socket, state: str) -> tuple[list[int], list[str], str, dict[str, str], bool]:
    """Receive a request: standard streams, command, folder, environment, and whether it is the last one.

    Raises:
        OSError, ValueError, struct.error: the request is incomplete or not for this server, and nothing may be run.
    """
    check_peer(connection)
    if len(_threads(os.getppid())) > 1:
        raise ValueError("the server has threads, which this fork lacks")
    connection.settimeout(CONNECT_SECONDS)
    head, streams, _, _ = socket.recv_fds(connection, struct.calcsize("!I"), 3)
    (size,) = struct.unpack("!I", head)
    content = bytearray()
    while len(content) < size and (part := connection.recv(1 << 16)):
        content += part
    fingerprint_of_client, command, folder, environment, last = json.loads(content)
    if fingerprint_of_client != state:
        raise ValueError("the client has other code or limits")
    connection.sendall(ACCEPTED)
    if connection.recv(1) != START:
        raise ConnectionError("the client did not wait, and started the verb itself")
    return list(streams), command, folder, environment, last


def _threads(process: int) -> list[str]:
    """Return the ids of a process's threads, except those that jemalloc restarts after a fork.

    OpenBLAS restarts its threads too, and ends them before the fork.
    """
    folder = f"/proc/{process}/task"
    threads = []
    for thread in os.listdir(folder):
        with open(f"{folder}/{thread}/comm") as name:
            if name.read().strip() != "jemalloc_bg_thd":
                threads.append(thread)
    return threads


def _follow(verb: int, connection: socket.socket) -> int:
    """Wait until a verb ends and return its wait status; forward signals to it, and end it when its client is gone."""
    for number in FORWARDED_SIGNALS:  # the verb gets a signal to all processes of a build too, and may have to clean up
        signal.signal(number, signal.SIG_IGN)
    process = os.pidfd_open(verb)
    connection.settimeout(None)
    while process not in select.select([process, connection.fileno()], [], [])[0]:
        signal_numbers = connection.recv(16)
        for received_number in signal_numbers:
            os.kill(verb, received_number)
        if not signal_numbers:  # the client was killed
            os.kill(verb, signal.SIGKILL)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(verb, signal.SIGKILL)  # and its children, except those in other groups
            break
    return os.waitpid(verb, 0)[1]


def _take_over_process_state(supervisor: int, streams: list[int], folder: str, environment: dict[str, str]) -> None:
    """Give this fork the client's streams, folder and environment, and let it end with the supervisor."""
    client.is_fork = True
    gc.freeze()
    gc.enable()
    os.setsid()
    end_with_parent(supervisor)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed()  # else all forks draw the same numbers; the module random does so itself


def end_with_parent(parent: int) -> None:
    """Let the kernel kill this process when the process that forked it ends, which Linux does for the main thread."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


def _run(script: str, *arguments: str) -> None:
    """Run a script as `python script` would, or a module as `python -m module`."""
    if script == "-m":
        sys.argv = list(arguments)
        sys.path[0] = os.getcwd()
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = [script, *arguments]
        sys.path[0] = os.path.dirname(script)
        runpy.run_path(script, run_name="__main__")
