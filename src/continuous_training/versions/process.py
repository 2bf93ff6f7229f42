"""A version in a process of its own: whatever it does, it cannot end the process that compares or monitors it."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

from continuous_training.errors import UserError
from continuous_training.fork_server import client
from continuous_training.versions import messages, packages

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pandas as pd
    from numpy.typing import NDArray

    from continuous_training.versions.manifest import Manifest

SECONDS = 600  # for opening it, and for each answer
PROGRAM = "continuous_training.versions.answering"


class VersionProcess:
    """A version that predicts in a process with its own code. Use it as a context manager.

    Attributes:
        columns: the columns that its estimator was fitted on; None if it does not know them.
        classes: a classifier's classes, in the order of its probabilities; None for a regressor.
    """

    columns: list[str] | None
    classes: NDArray[Any] | None

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        """Open a version whose files have been examined.

        Raises:
            UserError: it contains something that is not trusted, cannot be opened, or its packages cannot be installed.
        """
        self._is_expired = False
        packages_folder = packages.search_path(manifest.packages, manifest.python)
        program = [PROGRAM, str(folder), manifest.model, manifest.method, manifest.framework, *manifest.trusted_types]
        self._process = subprocess.Popen(
            command(packages_folder, *program),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(packages_folder),
        )
        try:
            with self._deadline():
                description, _ = self._receive("was opened")
            self.columns = description["columns"]
            self.classes = _to_array(description["classes"], description["dtype"]) if "classes" in description else None
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def predict(self, rows: pd.DataFrame) -> NDArray[Any]:
        """Predict rows with the method of the version's task.

        Args:
            rows: the features, of shape (rows, features).

        Returns:
            Of shape (rows,), or (rows, classes) for a classifier.

        Raises:
            UserError: the version raises an error, dies, or takes longer than `SECONDS`.
        """
        return self.predict_with_duration(rows)[0]

    def predict_with_duration(self, rows: pd.DataFrame) -> tuple[NDArray[Any], float]:
        """Predict as `predict` does, and return the seconds that the method took, too."""
        import numpy as np
        import pyarrow as pa

        table = pa.Table.from_pandas(rows, preserve_index=False)
        sink = io.BytesIO()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        with self._deadline():
            with contextlib.suppress(BrokenPipeError):  # the reason follows
                messages.send(self._process.stdin, {}, sink.getvalue())  # type: ignore[arg-type]
            header, content = self._receive("answered")
        try:
            return np.load(io.BytesIO(content), allow_pickle=False), float(header["seconds"])
        except messages.MALFORMED as error:
            raise UserError(f"it sent something else than predictions: {error}") from None

    def close(self) -> None:
        """End the process."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        self._process.terminate()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @contextmanager
    def _deadline(self) -> Iterator[None]:
        """Kill the process if what is done meanwhile takes longer than `SECONDS`."""
        timer = threading.Timer(SECONDS, self._expire)
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _expire(self) -> None:
        self._is_expired = True
        self._process.kill()

    def _receive(self, activity: str) -> tuple[dict[str, Any], bytes]:
        try:
            message = messages.receive(self._process.stdout)  # type: ignore[arg-type]
        except messages.MALFORMED as error:
            raise UserError(f"it sent something else than predictions: {error}") from None
        if message is None:
            raise UserError(f"it died while it {activity}: {self._cause()}")
        header, content = message
        if "error" in header:
            raise UserError(str(header["error"]))
        return header, content

    def _cause(self) -> str:
        code = self._process.wait()
        if self._is_expired:
            return f"it took more than {SECONDS} s"
        if code < 0:
            return f"killed by signal {-code} ({signal.Signals(-code).name})"
        return f"its process exited with {code}"


def command(packages_folder: str | None, program: str, *arguments: str) -> list[str]:
    """Return the command that runs a program of versions.

    Args:
        packages_folder: the folder of `packages.search_path`.
        program: the name of its module.
        *arguments: its arguments.
    """
    if packages_folder is None:
        return client.command("-m", program, *arguments)
    # Not as a fork, which has imported the installed packages. -P: nothing in the current folder comes before others.
    return [sys.executable, "-P", "-m", program, *arguments]


def environment(packages_folder: str | None) -> dict[str, str]:
    """Return the variables that imports and the fork server need; no secret is among them."""
    names = (*client.IMPORT_VARIABLES, *client.OWNER_VARIABLES, client.SWITCH, "PATH")
    variables = {name: value for name, value in os.environ.items() if name.startswith(names)}
    return variables | packages.python_path(packages_folder)


def _to_array(values: list[Any], dtype: str) -> NDArray[Any]:
    import numpy as np

    return np.array(values, dtype=dtype)
