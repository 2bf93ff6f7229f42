"""The program that opens a version and predicts, in a process of its own: `process.py` starts it and has its other end.

    python answering.py FOLDER MODEL METHOD [TRUSTED_TYPE ...]

It imports the model's package from the version's folder and has no secret in its environment. Messages are a line of
JSON, followed by as many bytes as its `size` says: rows as an Arrow stream, predictions in numpy's format.
"""

from __future__ import annotations

import contextlib
import gc
import io
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

CODE, ESTIMATOR = "code", "model.skops"
MEMORY = 8 * 2**30  # bytes that it may allocate


def main(folder: str, model: str, method: str, *trusted_types: str) -> None:
    """Open a version, describe it, and answer requests until standard input ends."""
    responses = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever the version prints must not get between the messages
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.path.insert(0, str(Path(folder, CODE)))
    from continuous_training.errors import UserError
    from continuous_training.versions.estimator import open_estimator
    from continuous_training.versions.skops_archive import Trust

    try:
        estimator = open_estimator(Path(folder, ESTIMATOR), Trust(model, trusted_types))
        description, predict = _describe(estimator, method), getattr(estimator, method)
    except UserError as error:
        send(responses, {"error": str(error)})
        return
    except Exception as error:
        send(responses, {"error": f"it cannot be opened: {_one_line(error)}"})
        return
    send(responses, description)
    while request := receive(sys.stdin.buffer):
        try:
            header, content = _predict(predict, request[1])
        except Exception as error:
            header, content = {"error": _one_line(error)}, b""
        send(responses, header, content)


def send(stream: IO[bytes], header: dict[str, Any], content: bytes = b"") -> None:
    """Write a message."""
    stream.write(json.dumps(header | {"size": len(content)}).encode() + b"\n")
    stream.write(content)
    stream.flush()


def receive(stream: IO[bytes]) -> tuple[dict[str, Any], bytes] | None:
    """Read a message; None at the end."""
    line = stream.readline()
    if not line.endswith(b"\n"):
        return None
    header = json.loads(line)
    content = stream.read(header["size"])
    return (header, content) if len(content) == header["size"] else None


def _describe(estimator: Any, method: str) -> dict[str, Any]:  # noqa: ANN401 - any estimator
    """Return the columns that an estimator was fitted on, if it knows them, and a classifier's classes."""
    columns = getattr(estimator, "feature_names_in_", None)
    description: dict[str, Any] = {"columns": None if columns is None else [str(name) for name in columns]}
    if method == "predict_proba":
        description |= {"classes": estimator.classes_.tolist(), "dtype": str(estimator.classes_.dtype)}
    return description


def _predict(method: Any, content: bytes) -> tuple[dict[str, Any], bytes]:  # noqa: ANN401 - a bound method
    import numpy as np
    import pyarrow as pa

    frame = pa.ipc.open_stream(content).read_all().to_pandas()
    start = time.perf_counter()
    predictions: NDArray[Any] = np.asarray(method(frame))
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
