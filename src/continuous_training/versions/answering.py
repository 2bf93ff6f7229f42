"""The program that opens a version and predicts, in a process of its own: `process.py` starts it and has its other end.

    python answering.py FOLDER MODEL METHOD FRAMEWORK [TRUSTED_TYPE ...]

It imports the model's package from the version's folder and has no secret in its environment. Rows arrive as an Arrow
stream, predictions leave in numpy's format.
"""

from __future__ import annotations

import contextlib
import gc
import io
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from continuous_training.errors import UserError
from continuous_training.versions.estimator import open_estimator
from continuous_training.versions.file_names import CODE
from continuous_training.versions.messages import receive, send
from continuous_training.versions.skops_archive import Trust

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pandas as pd
    from numpy.typing import NDArray

MEMORY = 8 * 2**30  # bytes that it may allocate


def main(folder: str, model: str, method: str, framework: str, *trusted_types: str) -> None:
    """Open a version, describe it, and answer requests until standard input ends."""
    responses = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever the version prints must not get between the messages
    try:
        description, predict = open_version(folder, model, method, framework, trusted_types)
    except UserError as error:
        send(responses, {"error": str(error)})
        return
    send(responses, description)
    answer(predict, read_frame, sys.stdin.buffer, responses)


def open_version(
    folder: str, model: str, method: str, framework: str, trusted_types: Sequence[str], memory: int = MEMORY
) -> tuple[dict[str, Any], Callable[[pd.DataFrame], Any]]:
    """Open a version in this process, for good: with its own code, and with bounded memory.

    Args:
        folder: its files, which have been examined.
        model: its package.
        method: which method of its estimator predicts.
        framework: of its estimator.
        trusted_types: classes outside its package that its estimator may contain.
        memory: how many bytes this process may have, from now on.

    Returns:
        The columns that the estimator was fitted on, if it knows them, and a classifier's classes; and the method.

    Raises:
        UserError: it contains something that is not trusted, or cannot be opened.
    """
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.dont_write_bytecode = True  # the version's folder may have no other files than its manifest lists
    sys.path.insert(0, str(Path(folder, CODE)))
    try:
        estimator = open_estimator(Path(folder), framework, Trust(model, tuple(trusted_types)))
        return _describe(estimator, method), getattr(estimator, method)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"it cannot be opened: {_one_line(error)}") from error


def answer(
    predict: Callable[[pd.DataFrame], Any],
    read: Callable[[bytes], pd.DataFrame],
    requests: IO[bytes],
    responses: IO[bytes],
    seconds: int = 0,
) -> None:
    """Answer requests until there are no more.

    Args:
        predict: predicts rows.
        read: reads the rows of a request.
        requests: messages whose content is rows.
        responses: messages whose content is predictions, or whose header has an error.
        seconds: an answer that takes longer ends this process by SIGALRM; 0 sets no limit.
    """
    while request := receive(requests):
        signal.alarm(seconds)
        try:
            header, content = _predict(predict, read(request[1]))
        except Exception as error:
            header, content = {"error": _one_line(error)}, b""
        signal.alarm(0)
        send(responses, header, content)


def _describe(estimator: Any, method: str) -> dict[str, Any]:  # noqa: ANN401 - any estimator
    """Return the columns that an estimator was fitted on, if it knows them, and a classifier's classes."""
    columns = getattr(estimator, "feature_names_in_", None)
    description: dict[str, Any] = {"columns": None if columns is None else [str(name) for name in columns]}
    if method == "predict_proba":
        description |= {"classes": estimator.classes_.tolist(), "dtype": str(estimator.classes_.dtype)}
    return description


def read_frame(content: bytes) -> pd.DataFrame:
    """Read rows from an Arrow stream, with the types that their sender's frame had."""
    frame: pd.DataFrame = pa.ipc.open_stream(content).read_all().to_pandas()
    return frame


def _predict(predict: Callable[[pd.DataFrame], Any], frame: pd.DataFrame) -> tuple[dict[str, Any], bytes]:
    start = time.perf_counter()
    predictions: NDArray[Any] = np.asarray(predict(frame))
    seconds = time.perf_counter() - start
    if len(predictions) != len(frame):
        raise ValueError(f"it returns {len(predictions)} predictions for {len(frame)} rows")
    if not np.issubdtype(predictions.dtype, np.number):
        raise ValueError(f"it returns predictions of type {predictions.dtype}, not numbers")
    buffer = io.BytesIO()
    np.save(buffer, predictions, allow_pickle=False)
    return {"seconds": seconds}, buffer.getvalue()


def _one_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


if __name__ == "__main__":
    gc.freeze()
    with contextlib.suppress(BrokenPipeError):
        main(*sys.argv[1:])
