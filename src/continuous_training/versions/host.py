"""Versions in processes of their own that predict for a prediction server; `hosting.py` is the program in them."""

from __future__ import annotations

import contextlib
import io
import json
import select
import socket
import subprocess
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from continuous_training.errors import UserError
from continuous_training.versions import messages, process

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from continuous_training.versions.manifest import Manifest

PROGRAM = "continuous_training.versions.hosting"
OPEN_SECONDS = 120  # for opening a version
MEMORY = 8 * 2**30  # bytes that each process of a version may have
CALL_SECONDS = 30  # for one call of the model; a process that takes longer ends itself
GRACE_SECONDS = 5  # for that end


class DeadVersionError(UserError):
    """A version's process has died, or does not answer."""


class HostStarter:
    """A process that has imported libraries and forks a host for each version. It ends with this one."""

    def __init__(self, packages_folder: str | None = None) -> None:
        """Start the process; it imports in the background.

        Args:
            packages_folder: packages that are preferred to the installed ones.
        """
        self._control, other_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with other_end:
            self._process = subprocess.Popen(
                process.command(packages_folder, PROGRAM),
                stdin=other_end.fileno(),
                env=process.environment(packages_folder),
                start_new_session=True,  # Ctrl-C ends the workers first, which finish their requests
            )

    def start(self, folder: Path, manifest: Manifest, path: Path) -> Host:
        """Start a host for a version whose files have been examined.

        Args:
            folder: the version's files.
            manifest: its manifest.
            path: of the Unix socket at which the host will wait for connections.

        Raises:
            UserError: the version contains something that is not trusted, cannot be opened, or dies.
        """
        path.unlink(missing_ok=True)
        version = {
            "folder": str(folder.absolute()),
            "model": manifest.model,
            "method": manifest.method,
            "framework": manifest.framework,
            "trusted_types": manifest.trusted_types,
            "memory": MEMORY,
        }
        request = json.dumps({"version": version, "open_seconds": OPEN_SECONDS, "call_seconds": CALL_SECONDS})
        own_end, other_end = socket.socketpair()
        with socket.socket(socket.AF_UNIX) as listener, other_end:
            listener.bind(str(path))
            listener.listen()
            try:
                socket.send_fds(self._control, [request.encode()], [listener.fileno(), other_end.fileno()])
            except OSError as error:
                own_end.close()
                raise DeadVersionError(f"the process that opens versions has ended: {error}") from error
        return Host(path, own_end, self)

    def is_alive(self) -> bool:
        """Return whether the process runs."""
        return self._process.poll() is None

    def close(self) -> None:
        """End the process, and all hosts that it has started."""
        self._control.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Host:
    """The process that has opened a version. It ends when it is closed; connections to it continue."""

    def __init__(self, path: Path, connection: socket.socket, starter: HostStarter) -> None:
        """Wait until the version is open; see `HostStarter.start`."""
        self.path, self.starter = path, starter
        self._connection = connection
        self._events = connection.makefile("rb", buffering=0)  # `select` sees whatever is not read
        event = self._receive()
        if event is None or "error" in event:
            self.close()
            died = f"its process died while it was opened, or took longer than {OPEN_SECONDS} s"
            raise UserError(str(event["error"]) if event else died)

    def deaths(self, seconds: float = 0) -> list[str]:
        """Return how processes of its connections have died since the last call.

        Args:
            seconds: how long to wait for the first one.

        Raises:
            DeadVersionError: the host itself has died.
        """
        causes: list[str] = []
        while select.select([self._connection], [], [], 0 if causes else seconds)[0]:
            event = self._receive()
            if event is None:
                raise DeadVersionError("its process was killed")
            causes.append(str(event["death"]))
        return causes

    def move(self, path: Path) -> None:
        """Move its socket: connections are accepted there from now on."""
        self.path.rename(path)
        self.path = path

    def close(self) -> None:
        """End the host. Connections continue until their other end is closed."""
        self._events.close()
        self._connection.close()

    def _receive(self) -> dict[str, Any] | None:
        try:
            message = messages.receive(self._events)
        except (ConnectionResetError, *messages.MALFORMED):
            return None
        return message[0] if message else None


class HostConnection:
    """A connection to a version's process. It is closed when nothing refers to it any more.

    Attributes:
        description: the columns that the estimator was fitted on, if it knows them, and a classifier's classes.
    """

    def __init__(self, path: Path) -> None:
        """Connect to the host of a version.

        Raises:
            DeadVersionError: there is no host at that path, or it has died.
        """
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(CALL_SECONDS + GRACE_SECONDS)
        self._requests, self._responses = connection.makefile("wb"), connection.makefile("rb")
        self._close = weakref.finalize(self, _close, connection, self._requests, self._responses)
        try:
            connection.connect(str(path))
            self.description = self._receive()[0]
        except OSError as error:
            self._close()
            raise DeadVersionError(f"no process of the version answers: {error}") from error

    @property
    def is_closed(self) -> bool:
        """Whether its process has died."""
        return not self._close.alive

    def predict(self, columns: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        """Predict rows.

        Args:
            columns: an array of shape (rows,) for each column.

        Returns:
            Of shape (rows,) or (rows, outputs).

        Raises:
            DeadVersionError: its process has died, or takes longer than the limit of a call.
            UserError: the version raises an error for these rows.
        """
        batch = pa.record_batch({name: pa.array(values) for name, values in columns.items()})
        sink = io.BytesIO()
        with pa.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)
        try:
            messages.send(self._requests, {}, sink.getvalue())
            header, content = self._receive()
            if "error" in header:
                raise UserError(str(header["error"]))
            predictions: NDArray[Any] = np.load(io.BytesIO(content), allow_pickle=False)
            if predictions.shape[:1] != (batch.num_rows,) or predictions.dtype.kind not in "fiu":
                raise ValueError(f"it sends {predictions.shape} predictions of type {predictions.dtype}")
        except (OSError, *messages.MALFORMED) as error:  # a ValueError, too, if it is closed
            self._close()
            raise DeadVersionError(f"it died while it predicted: {error}") from error
        return predictions

    def _receive(self) -> tuple[dict[str, Any], bytes]:
        message = messages.receive(self._responses)
        if message is None:
            raise ConnectionResetError("its process has ended")
        return message


def _close(*resources: Any) -> None:  # noqa: ANN401 - sockets and their files
    for resource in resources:
        with contextlib.suppress(OSError):
            resource.close()
