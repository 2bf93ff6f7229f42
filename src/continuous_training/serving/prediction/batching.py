"""Micro-batching: requests that arrive during a call of the model are predicted together in its next call.

No request waits for others: if the model is idle, the call starts at once. The maximum number of rows in one call is
adapted by additive increase and multiplicative decrease, against a limit on the call's duration (Crankshaw et al.,
Clipper: A Low-Latency Online Prediction Serving System, NSDI 2017, section 4.3.1). A request with more rows is split
into parts, and other requests get their turn between them, so that no request waits long for another's rows. Each
version has a queue of its own, as each predicts in a process of its own.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from continuous_training.serving.predictions_log.columns import PredictionBatch
from continuous_training.serving.protocols.errors import RequestError
from continuous_training.versions.host import DeadVersionError

if TYPE_CHECKING:
    from collections.abc import Callable

    from continuous_training.serving.following.hosted_version import HostedVersion
    from continuous_training.serving.metrics import Metrics
    from continuous_training.serving.protocols.signature import Rows

MAX_CALL_SECONDS = 0.05
INITIAL_ROWS = 1024  # the first maximum of rows in one call
MIN_ROWS = 128  # fewer rows would take nearly as long: a call's fixed cost outweighs them
ROWS_INCREASE = 128  # after a full call within the time limit
DECREASE_FACTOR = 0.9  # after a call beyond it
MAX_VERSIONS = 4  # that predict at the same time: champion, candidate, and those before that have requests left
MAX_QUEUE_ROWS = 50_000  # beyond this, requests are rejected rather than queued

Predictions = np.ndarray[Any, Any]


@dataclass(eq=False, slots=True)
class PendingRequest:
    """A request in the queue; `position` is the first row that has not been in a call yet."""

    version: HostedVersion
    role: str
    request_id: str
    rows: Rows
    predictions: asyncio.Future[Predictions]
    position: int = 0
    parts: list[Predictions] = field(default_factory=list)


class Part(NamedTuple):
    """The rows of one request that go into one call."""

    request: PendingRequest
    indices: range
    rows: Rows


class Batcher:
    """The queues of a worker, one for each version, so that a slow version delays no request of another one."""

    def __init__(self, metrics: Metrics, log: Callable[[PredictionBatch], None] | None, max_queue: int) -> None:
        """Create empty queues.

        Args:
            metrics: counts the calls.
            log: is called with every batch from a model's thread, and must not block; None logs nothing.
            max_queue: the maximum number of requests in all queues.
        """
        self._metrics = metrics
        self._log = log
        self._max_queue = max_queue
        self._queues: WeakKeyDictionary[HostedVersion, VersionQueue] = WeakKeyDictionary()
        self._threads = ThreadPoolExecutor(MAX_VERSIONS, thread_name_prefix="model")

    async def predict(self, version: HostedVersion, role: str, request_id: str, rows: Rows) -> Predictions:
        """Return a version's predictions for the rows of a request.

        Raises:
            RequestError: the queues are full, or the version fails for these rows.
        """
        requests, queue_rows = self._count_requests(), sum(queue.rows for queue in self._queues.values())
        if requests >= self._max_queue or (requests and queue_rows + rows.count > MAX_QUEUE_ROWS):
            raise RequestError(503, "RESOURCE_EXHAUSTED", "the queue is full: try again in a second")
        queue = self._queues.get(version)
        if queue is None:
            queue = self._queues[version] = VersionQueue(
                self._threads,
                self._metrics,
                self._log,
                lambda: self._metrics.queue_length.set(self._count_requests()),
            )
        return await queue.predict(version, role, request_id, rows)

    def close(self) -> None:
        """End the threads after their current calls."""
        self._threads.shutdown()

    def _count_requests(self) -> int:
        return sum(len(queue) for queue in self._queues.values())


class VersionQueue:
    """The queue of one version, of which one call runs at a time."""

    def __init__(
        self,
        threads: ThreadPoolExecutor,
        metrics: Metrics,
        log: Callable[[PredictionBatch], None] | None,
        on_change: Callable[[], None],
    ) -> None:
        """Create an empty queue.

        Args:
            threads: run the calls.
            metrics: counts the calls.
            log: is called with every batch from a model's thread; None logs nothing.
            on_change: is called before each call, when requests may have left the queue.
        """
        self.rows = 0
        self._threads = threads
        self._metrics = metrics
        self._log = log
        self._on_change = on_change
        self._queue: deque[PendingRequest] = deque()
        self._max_rows = INITIAL_ROWS
        self._running = False

    def __len__(self) -> int:
        return len(self._queue)

    async def predict(self, version: HostedVersion, role: str, request_id: str, rows: Rows) -> Predictions:
        """Return the version's predictions for the rows of a request.

        Raises:
            RequestError: the version fails for these rows.
        """
        loop = asyncio.get_running_loop()
        request = PendingRequest(version, role, request_id, rows, loop.create_future())
        self._queue.append(request)
        self.rows += rows.count
        if not self._running:
            self._running = True
            loop.call_soon(self._start_call)  # after requests that have arrived by now were parsed: they join it
        return await request.predictions

    def _start_call(self) -> None:
        """Start a call with as much of the queue as fits."""
        self._on_change()
        parts = self._take_parts()
        if not parts:
            self._running = False
            return
        call = asyncio.get_running_loop().run_in_executor(self._threads, self._call, parts)
        call.add_done_callback(lambda call: self._finish_call(parts, call))

    def _take_parts(self) -> list[Part]:
        """Take requests from the front of the queue for one call, all of one role."""
        parts: list[Part] = []
        capacity = self._max_rows
        while self._queue and capacity > 0:
            request = self._queue[0]
            if request.predictions.done():  # its client has disconnected, or a part of it has failed
                self.rows -= request.rows.count - request.position
                self._queue.popleft()
                continue
            first = parts[0].request if parts else request
            if request.role != first.role:
                break
            start, stop = request.position, min(request.rows.count, request.position + capacity)
            parts.append(Part(request, range(start, stop), request.rows.slice(start, stop)))
            capacity -= stop - start
            self.rows -= stop - start
            request.position = stop
            self._queue.popleft()
            if request.position < request.rows.count:
                self._queue.append(request)
                break
        return parts

    def _call(self, parts: list[Part]) -> list[Predictions | RequestError]:
        """Call the model, in its thread. If that fails, call it for each request alone, so that no other one fails."""
        start = time.perf_counter()
        version = parts[0].request.version
        count = sum(part.rows.count for part in parts)
        try:
            columns = version.signature.to_arrays([part.rows for part in parts])
            predictions = version.predict(columns)
        except Exception as error:
            if len(parts) > 1:
                return [result for part in parts for result in self._call([part])]
            return [_to_request_error(error)]
        seconds = time.perf_counter() - start
        self._adapt_max_rows(count, seconds)
        self._metrics.count_call(version.number, count, seconds)
        if self._log:
            self._log(_to_batch(parts, columns, predictions))
        ends = np.cumsum([part.rows.count for part in parts])[:-1]
        return list(np.split(predictions, ends))

    def _adapt_max_rows(self, rows: int, seconds: float) -> None:
        """Raise or lower the maximum number of rows by the duration of a call."""
        if seconds > MAX_CALL_SECONDS and rows > MIN_ROWS:
            self._max_rows = max(MIN_ROWS, int(DECREASE_FACTOR * min(self._max_rows, rows)))
        elif seconds <= MAX_CALL_SECONDS and rows >= self._max_rows:
            self._max_rows += ROWS_INCREASE

    def _finish_call(self, parts: list[Part], call: asyncio.Future[list[Predictions | RequestError]]) -> None:
        """Pass the results of a call to its requests, even if it failed, and start the next call."""
        error = call.exception()
        results = call.result() if error is None else [error] * len(parts)
        for (request, _, _), result in zip(parts, results, strict=True):
            if request.predictions.done():
                continue
            if isinstance(result, BaseException):
                request.predictions.set_exception(result)
                continue
            request.parts.append(result)
            if request.position == request.rows.count:
                complete = request.parts[0] if len(request.parts) == 1 else np.concatenate(request.parts)
                request.predictions.set_result(complete)
        self._start_call()


def _to_request_error(error: Exception) -> RequestError:
    """Blame the rows: the version has predicted its golden rows without an error."""
    if isinstance(error, RequestError):
        return error
    if isinstance(error, DeadVersionError):
        return RequestError(500, "INTERNAL_ERROR", f"the model's process ends with these rows: {error}")
    message = str(error).strip().partition("\n")[0]
    return RequestError(400, "BAD_REQUEST", f"the model fails for these rows: {message[:200]}")


def _to_batch(parts: list[Part], columns: dict[str, np.ndarray[Any, Any]], predictions: Predictions) -> PredictionBatch:
    first = parts[0].request
    names = dict.fromkeys(name for part in parts for name in part.rows.keys)
    return PredictionBatch(
        version=first.version.number,
        role=first.role,
        requests=[(part.request.request_id, part.indices) for part in parts],
        inputs=columns,
        keys={
            name: [value for part in parts for value in part.rows.keys.get(name, [None] * part.rows.count)]
            for name in names
        },
        predictions=predictions,
        time=datetime.now(UTC),
    )
