"""Micro-batches: requests that arrive while the model answers others are answered together, in its next call.

Nothing waits for company: a request that finds the model idle is answered at once. How many rows one call may have is
found by additive increase and multiplicative decrease against a bound on its time (Crankshaw et al., Clipper: A
Low-Latency Online Prediction Serving System, NSDI 2017, section 4.3.1), and a request of more rows is answered in
parts, between which others have their turn: so no request waits long for another's rows.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from continuous_training.serving.predictions_log.writer import Batch
from continuous_training.serving.protocols.signature import Refused, Rows, part

if TYPE_CHECKING:
    from collections.abc import Callable

    from continuous_training.serving.following.loaded_version import Served
    from continuous_training.serving.metrics import Metrics

CALL_SECONDS = 0.05  # the longest that one call of the model should take
FIRST_ROWS = 1024
FEWEST_ROWS = 128  # fewer would cost nearly as much: what a call takes for itself outweighs so few rows
MORE_ROWS = 128  # in the next call, after a full one within the bound
LESS = 0.9  # of the rows, after one beyond it
WAITING_ROWS = 50_000  # beyond, a request is sent away rather than kept waiting

Answers = np.ndarray[Any, Any]


@dataclass(eq=False, slots=True)
class Waiting:
    """A request on its way through the model, in one part or several."""

    served: Served
    role: str
    request_id: str
    rows: Rows
    answers: asyncio.Future[Answers]
    taken: int = 0
    pieces: list[Answers] = field(default_factory=list)


Taken = tuple[Waiting, range, Rows]  # a request, which of its rows, and these


class Batches:
    """One thread that calls the model, and the requests that wait for it."""

    def __init__(self, metrics: Metrics, log: Callable[[Batch], None] | None, waiting: int) -> None:
        """Make an empty queue.

        Args:
            metrics: that count the calls.
            log: what every call is told to, from its thread; it must not wait. None: nobody.
            waiting: how many requests may wait.
        """
        self._metrics = metrics
        self._log = log
        self._most_waiting = waiting
        self._queue: deque[Waiting] = deque()
        self._rows = 0  # that wait
        self._limit = FIRST_ROWS
        self._running = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")

    async def answer(self, model: Served, role: str, request_id: str, rows: Rows) -> Answers:
        """Return a version's answers to the rows of a request.

        Raises:
            Refused: too many wait already, or the version cannot answer these rows.
        """
        if len(self._queue) >= self._most_waiting or (self._queue and self._rows + rows.count > WAITING_ROWS):
            raise Refused(503, "RESOURCE_EXHAUSTED", "too many requests wait for an answer: ask again in a second")
        loop = asyncio.get_running_loop()
        waiting = Waiting(model, role, request_id, rows, loop.create_future())
        self._queue.append(waiting)
        self._rows += rows.count
        if not self._running:
            self._running = True
            loop.call_soon(self._next)  # what else has arrived by now is read first, and goes along
        return await waiting.answers

    def close(self) -> None:
        """End the thread, after the call under way."""
        self._thread.shutdown()

    def _next(self) -> None:
        """Hand the thread what waits, as far as it goes into one call."""
        self._metrics.waiting.set(len(self._queue))
        taken = self._take()
        if not taken:
            self._running = False
            return
        call = asyncio.get_running_loop().run_in_executor(self._thread, self._call, taken)
        call.add_done_callback(lambda done: self._finish(taken, done))

    def _take(self) -> list[Taken]:
        """Take the requests in front that one call can answer: of one version, in one role."""
        taken: list[Taken] = []
        room = self._limit
        while self._queue and room > 0:
            front = self._queue[0]
            if front.answers.done():  # its client has gone, or a part of it has failed
                self._rows -= front.rows.count - front.taken
                self._queue.popleft()
                continue
            if taken and (front.served, front.role) != (taken[0][0].served, taken[0][0].role):
                break
            stop = min(front.rows.count, front.taken + room)
            taken.append((front, range(front.taken, stop), part(front.rows, front.taken, stop)))
            room -= stop - front.taken
            self._rows -= stop - front.taken
            front.taken = stop
            self._queue.popleft()
            if front.taken < front.rows.count:
                self._queue.append(front)
                break
        return taken

    def _call(self, taken: list[Taken]) -> list[Answers | Refused]:
        """Have a call answered, in the thread; if it fails, each request alone, so that no other fails with it."""
        began = time.perf_counter()
        first = taken[0][0]
        rows = [rows for _, _, rows in taken]
        count = sum(one.count for one in rows)
        try:
            columns = first.served.signature.arrays(rows)
            answers = first.served.answer(columns)
        except Exception as error:
            if len(taken) > 1:
                return [found for one in taken for found in self._call([one])]
            return [_failed(error)]
        seconds = time.perf_counter() - began
        self._pace(count, seconds)
        self._metrics.called(first.served.number, count, seconds)
        if self._log:
            self._log(_batch(taken, columns, answers))
        ends = np.cumsum([one.count for one in rows])[:-1]
        return list(np.split(answers, ends))

    def _pace(self, rows: int, seconds: float) -> None:
        """Let the next calls have more rows, or fewer, by how long this one took."""
        if seconds > CALL_SECONDS and rows > FEWEST_ROWS:
            self._limit = max(FEWEST_ROWS, int(LESS * min(self._limit, rows)))
        elif seconds <= CALL_SECONDS and rows >= self._limit:
            self._limit += MORE_ROWS

    def _finish(self, taken: list[Taken], call: asyncio.Future[list[Answers | Refused]]) -> None:
        """Hand out what a call has answered, and go on; whatever went wrong in it, nobody is left waiting."""
        error = call.exception()
        found = call.result() if error is None else [error] * len(taken)
        for (waiting, _, _), answers in zip(taken, found, strict=True):
            if waiting.answers.done():
                continue
            if isinstance(answers, BaseException):
                waiting.answers.set_exception(answers)
                continue
            waiting.pieces.append(answers)
            if waiting.taken == waiting.rows.count:
                whole = waiting.pieces[0] if len(waiting.pieces) == 1 else np.concatenate(waiting.pieces)
                waiting.answers.set_result(whole)
        self._next()


def _failed(error: Exception) -> Refused:
    """Say why a version does not answer: its golden rows were answered, so it is these rows that it cannot."""
    if isinstance(error, Refused):
        return error
    message = str(error).strip().partition("\n")[0]
    return Refused(400, "BAD_REQUEST", f"the model cannot answer these rows: {message[:200]}")


def _batch(taken: list[Taken], columns: dict[str, np.ndarray[Any, Any]], answers: Answers) -> Batch:
    first = taken[0][0]
    names = dict.fromkeys(name for _, _, one in taken for name in one.keys)
    return Batch(
        version=first.served.number,
        role=first.role,
        requests=[(waiting.request_id, which) for waiting, which, _ in taken],
        inputs=columns,
        keys={name: [cell for _, _, one in taken for cell in one.keys.get(name, [None] * one.count)] for name in names},
        answers=answers,
        time=datetime.now(UTC),
    )
