"""PyAirbyte takes ten seconds to import: it is imported once, and each program that tests start is a fork of that.

`CALLER` is the executable that stands for the Python of PyAirbyte's environment. What answers it runs in that one,
until the process that runs the tests has ended.
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

CALLER = """#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as there:
    there.connect({address!r})
    socket.send_fds(there, [json.dumps([sys.argv[1], os.getcwd(), dict(os.environ)]).encode()], [0, 1, 2])
    code = there.recv(1)
    sys.exit(code[0] if code else 137)
"""
DIES_BEFORE = "DIES_BEFORE"  # a variable: the method, as module:class.method, before which the program is killed


def main(address: str, program: str, until: str) -> None:
    """Answer."""
    runpy.run_path(program)["alone"](Path(address).parent)
    sys.path.insert(0, str(Path(program).parent))
    importlib.import_module("loading")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(address)
        listening.listen()
        listening.settimeout(1)
        while lives(int(until)):
            with contextlib.suppress(TimeoutError):
                connection, _ = listening.accept()
                with connection:
                    if os.fork() == 0:
                        os._exit(work(connection))


def lives(process: int) -> bool:
    """Say whether there is such a process."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def work(connection: socket.socket) -> int:
    """Be the program that is asked for, and tell how it ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    message, streams, _, _ = socket.recv_fds(connection, 1_000_000, 3)
    program, folder, environment = json.loads(message)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    if DIES_BEFORE in environment:
        die_before(environment[DIES_BEFORE])
    try:
        runpy.run_path(program, run_name="__main__")
    except SystemExit as ending:
        sys.__stdout__.flush()
        connection.send(bytes([int(ending.code or 0)]))
    return 0


def die_before(method: str) -> None:
    """Be killed when this is called."""
    module, _, path = method.partition(":")
    owner, _, name = path.partition(".")
    setattr(
        getattr(importlib.import_module(module), owner), name, lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
