"""A fork server for PyAirbyte, which takes ten seconds to import: each program that the tests start is a fork of it.

`CLIENT` is the executable that replaces the Python of PyAirbyte's environment. The server runs in that environment
until the test process has ended.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import runpy
import signal
import socket
import sys
from pathlib import Path

CLIENT = """#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
    server.connect({address!r})
    socket.send_fds(server, [json.dumps([sys.argv[1], os.getcwd(), dict(os.environ)]).encode()], [0, 1, 2])
    code = server.recv(1)
    sys.exit(code[0] if code else 137)
"""
KILL_BEFORE = (
    "KILL_BEFORE"  # variable that names a method, as module:class.method: the program is killed when it is called
)


def main(address: str, program: str, parent: str) -> None:
    """Serve until the parent process has ended."""
    runpy.run_path(program)["configure"](Path(address).parent)
    sys.path.insert(0, str(Path(program).parent))
    importlib.import_module("loading")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(address)
        listener.listen()
        listener.settimeout(1)
        while is_alive(int(parent)):
            with contextlib.suppress(TimeoutError):
                connection, _ = listener.accept()
                with connection:
                    if os.fork() == 0:
                        os._exit(run_program(connection))


def is_alive(process: int) -> bool:
    """Return whether a process exists."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def run_program(connection: socket.socket) -> int:
    """Run the program that the client names, and send its exit code."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    message, streams, _, _ = socket.recv_fds(connection, 1_000_000, 3)
    program, folder, environment = json.loads(message)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    if KILL_BEFORE in environment:
        kill_before(environment[KILL_BEFORE])
    try:
        runpy.run_path(program, run_name="__main__")
    except SystemExit as end:
        sys.__stdout__.flush()
        connection.send(bytes([int(end.code or 0)]))
    return 0


def kill_before(method: str) -> None:
    """Kill this process when a method is called."""
    module, _, path = method.partition(":")
    owner, _, name = path.partition(".")
    setattr(
        getattr(importlib.import_module(module), owner), name, lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
