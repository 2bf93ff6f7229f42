"""The messages between a version's process and the one that uses it: a line of JSON, and as many bytes as it says."""

from __future__ import annotations

import json
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from socket import SocketIO

MALFORMED = (ValueError, KeyError, TypeError, MemoryError)  # what is raised by reading something else than a message


def send(stream: IO[bytes], header: dict[str, Any], content: bytes = b"") -> None:
    """Write a message."""
    stream.write(json.dumps(header | {"size": len(content)}).encode() + b"\n")
    stream.write(content)
    stream.flush()


def receive(stream: IO[bytes] | SocketIO) -> tuple[dict[str, Any], bytes] | None:
    """Read a message; None at the end."""
    line = stream.readline()
    if not line.endswith(b"\n"):
        return None
    header = json.loads(line)
    content = stream.read(header["size"])
    return (header, content) if len(content) == header["size"] else None
