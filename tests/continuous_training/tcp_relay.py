"""A TCP relay in front of a server that can break connections."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


def _forward(source: socket.socket, target: socket.socket, allow: Callable[[int], bool]) -> None:
    with suppress(OSError):
        while (data := source.recv(4096)) and allow(len(data)):
            target.sendall(data)
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@contextmanager
def relay(port: int, breaks: Callable[[int, int], bool]) -> Iterator[int]:
    """Forward connections to a port of this machine; yields the relay's own port.

    Args:
        port: the server's port.
        breaks: called with the number of the connection, from 1, and how many bytes the server has sent over it; the
            connection is closed when it returns True.
    """
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        count = 0
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                count += 1
                try:
                    server = socket.create_connection(("127.0.0.1", port))
                except OSError:
                    client.close()
                    continue
                received = 0

                def allow(size: int, number: int = count) -> bool:
                    nonlocal received
                    received += size
                    return not breaks(number, received)

                for source, target, check in ((client, server, lambda _: True), (server, client, allow)):
                    threading.Thread(target=_forward, args=(source, target, check), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
