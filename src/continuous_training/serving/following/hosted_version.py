"""A version as a worker sees it: its signature, its typed protocol, and a connection to the process that predicts."""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING, Any

from continuous_training.errors import UserError
from continuous_training.serving.protocols.errors import RequestError
from continuous_training.serving.protocols.signature import Signature
from continuous_training.serving.protocols.typed_protocol import TypedProtocol
from continuous_training.versions import golden_predictions
from continuous_training.versions.file_names import MANIFEST
from continuous_training.versions.host import DeadVersionError, HostConnection
from continuous_training.versions.manifest import parse_manifest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np

    from continuous_training.serving.following.assignment import VersionReference

SOCKET = "socket"  # in the folder of a host, once its version may be used
RECONNECT_SECONDS, PAUSE_SECONDS = 5.0, 0.05  # a host that has died is started again by the supervisor


class HostedVersion:
    """A version that can predict."""

    def __init__(self, reference: VersionReference, folder: Path, keys: Sequence[str], socket: str = SOCKET) -> None:
        """Connect to a version's host.

        Args:
            reference: the version.
            folder: of its host, with its manifest, its golden predictions and the host's socket.
            keys: the key columns that requests may have beside the model's columns.
            socket: the name of the socket.

        Raises:
            UserError: its host has died, or it has columns that no request can have.
        """
        self.reference = reference
        self._folder = folder
        self._path = folder / socket
        manifest = parse_manifest((folder / MANIFEST).read_bytes())
        self._connection = HostConnection(self._path)
        self.signature = Signature.from_mlflow(manifest.inputs, keys, reference.title)
        self.classes: list[Any] | None = self._connection.description.get("classes")
        outputs = _count_outputs(manifest.outputs)
        self.typed_protocol = TypedProtocol(self.signature, self.classes, outputs, manifest.targets)

    @property
    def number(self) -> str:
        """The version's number."""
        return self.reference.number

    def predict(self, columns: dict[str, np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
        """Call the model in its process; one call at a time. If the process dies, another one is asked once.

        Args:
            columns: an array of shape (rows,) for each column of the signature, as `Signature.to_arrays` returns them.

        Returns:
            Of shape (rows,) or (rows, outputs).

        Raises:
            DeadVersionError: it has died twice.
            UserError: the model raises an error for these rows.
        """
        try:
            return self._connect().predict(columns)
        except DeadVersionError:
            return self._connect().predict(columns)

    def _connect(self) -> HostConnection:
        """Return the connection, or a new one if its process has died."""
        if self._connection.is_closed:
            self._connection = self._reconnect()
        return self._connection

    def _reconnect(self) -> HostConnection:
        deadline = time.monotonic() + RECONNECT_SECONDS
        while True:
            try:
                return HostConnection(self._path)
            except DeadVersionError:
                if time.monotonic() >= deadline:
                    raise
            time.sleep(PAUSE_SECONDS)

    def check_golden_predictions(self) -> None:
        """Predict the golden rows as a request would, and compare; this also warms up the model.

        Raises:
            UserError: the predictions differ from those that were made offline.
        """
        rows, golden = golden_predictions.read_golden_predictions(self._folder)
        columns = {name: [row[index] for row in rows["data"]] for index, name in enumerate(rows["columns"])}
        try:
            golden_rows = self.signature.validate(len(rows["data"]), columns)
        except RequestError as error:
            raise UserError(f"{self.reference.title} does not accept its golden rows: {error}") from error
        predictions = self.predict(self.signature.to_arrays([golden_rows]))
        if difference := golden_predictions.describe_difference(predictions, golden):
            raise UserError(
                f"the predictions of {self.reference.title} for its golden rows differ from those made offline: "
                f"{difference}"
            )


def host_folder(shared: Path, reference: VersionReference) -> Path:
    """Return the folder of a version's host; it is short, as a socket's path may have 107 characters only."""
    return shared / hashlib.sha256(f"{reference.identity}/{reference.number}".encode()).hexdigest()[:16]


def _count_outputs(outputs: list[dict[str, Any]]) -> int | None:
    """Return the number of values in one prediction, by MLflow's output schema; None for a scalar."""
    shape = outputs[0].get("tensor-spec", {}).get("shape", []) if outputs else []
    return shape[1] if len(shape) > 1 else None
