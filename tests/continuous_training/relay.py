"""A relay before a server, which breaks a connection where a test says."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


def _pass_on(source: socket.socket, target: socket.socket, told: Callable[[int], bool]) -> None:
    with suppress(OSError):
        while (some := source.recv(4096)) and told(len(some)):
            target.sendall(some)
    for one in (source, target):
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


@contextmanager
def relay(port: int, breaks: Callable[[int, int], bool]) -> Iterator[int]:
    """Pass on what comes for a port of this machine; gives its own.

    `breaks` is told how many connections there were, and how many bytes of the server's came over this one: when it
    says so, the connection is cut.
    """
    listening = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        count = 0
        with suppress(OSError):
            while True:
                client, _ = listening.accept()
                count += 1
                try:
                    server = socket.create_connection(("127.0.0.1", port))
                except OSError:
                    client.close()
                    continue
                came = 0

                def heard(size: int, number: int = count) -> bool:
                    nonlocal came
                    came += size
                    return not breaks(number, came)

                for one, other, told in ((client, server, lambda _: True), (server, client, heard)):
                    threading.Thread(target=_pass_on, args=(one, other, told), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listening.getsockname()[1]
    finally:
        with suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)
        listening.close()
