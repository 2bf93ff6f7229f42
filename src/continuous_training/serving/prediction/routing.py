"""Who answers a request: the champion, or the canary beside it; and who else is asked the same, to be compared."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from continuous_training.serving.protocols.signature import Refused

if TYPE_CHECKING:
    from continuous_training.serving.following.loaded_version import Served
    from continuous_training.serving.following.loader import Beside, Memory
    from continuous_training.serving.metrics import Metrics
    from continuous_training.serving.prediction.batching import Answers, Batches
    from continuous_training.serving.protocols.signature import Rows

Read = Callable[["Served"], Awaitable["Rows"]]  # a request's body, as a version's signature has it

CHAMPION = "champion"
NEAR = 0.1  # two numbers agree if they differ by no more than this share of the larger
BUSY = 503


class Answering:
    """Has requests answered by the version that is due, and counts what each version makes of them."""

    def __init__(self, memory: Memory, batches: Batches, metrics: Metrics) -> None:
        self._memory = memory
        self._batches = batches
        self._metrics = metrics
        self._comparing: set[asyncio.Task[None]] = set()  # asyncio itself keeps no task alive

    async def answer(self, request_id: str, read: Read) -> tuple[Served, Answers]:
        """Answer a request; a canary that fails is stood in for by the champion.

        Args:
            request_id: its name.
            read: reads its body, as a version's signature has it.

        Raises:
            Refused: there is no champion, the request is wrong, or too many wait.
        """
        champion, beside = self._memory.served, self._memory.beside
        if champion is None:
            raise Refused(503, "TEMPORARILY_UNAVAILABLE", "there is no champion to answer with yet")
        rows = await read(champion)
        if beside is None or random.random() >= beside.exposure.share or beside.exposure.over:  # noqa: S311
            return champion, await self._ask(champion, CHAMPION, request_id, rows)
        if beside.exposure.role == "canary":
            return await self._by_canary(beside, champion, request_id, read, rows)
        answers = await self._ask(champion, CHAMPION, request_id, rows)
        self._later(self._by_shadow(beside, request_id, read, answers))
        return champion, answers

    async def _by_canary(
        self, beside: Beside, champion: Served, request_id: str, read: Read, rows: Rows
    ) -> tuple[Served, Answers]:
        canary = beside.served
        try:
            answers = await self._ask_beside(beside, request_id, read)
        except Refused:
            return champion, await self._ask(champion, CHAMPION, request_id, rows)
        self._later(self._by_champion(canary, champion, request_id, rows, answers))
        return canary, answers

    async def _by_champion(
        self, canary: Served, champion: Served, request_id: str, rows: Rows, answers: Answers
    ) -> None:
        """Ask the champion what it would have answered in the canary's place."""
        other = await self._batches.answer(champion, "shadow", request_id, rows)
        self._compare(canary, answers, other)

    async def _by_shadow(self, beside: Beside, request_id: str, read: Read, answers: Answers) -> None:
        """Ask the shadow the same; it may ask for other columns of the request."""
        other = await self._ask_beside(beside, request_id, read)
        self._compare(beside.served, other, answers)

    async def _ask_beside(self, beside: Beside, request_id: str, read: Read) -> Answers:
        """Ask a candidate; a request that it cannot read, but the champion could, is an error of its own."""
        role = beside.exposure.role
        try:
            rows = await read(beside.served)
        except Refused:
            self._metrics.answered(beside.served.number, role, "error", None)
            raise
        return await self._ask(beside.served, role, request_id, rows)

    async def _ask(self, model: Served, role: str, request_id: str, rows: Rows) -> Answers:
        began = time.perf_counter()
        outcome = "error"
        try:
            answers = await self._batches.answer(model, role, request_id, rows)
            outcome = "ok"
        except Refused as error:
            outcome = "busy" if error.status == BUSY else "error"
            raise
        finally:
            seconds = None if outcome == "busy" else time.perf_counter() - began
            self._metrics.answered(model.number, role, outcome, seconds)
        return answers

    def _later(self, work: Any) -> None:  # noqa: ANN401 - a coroutine
        async def quietly() -> None:
            try:
                await work
            except Refused:
                return  # it is counted; nobody waits for it

        task = asyncio.get_running_loop().create_task(quietly())
        self._comparing.add(task)
        task.add_done_callback(self._comparing.discard)

    def _compare(self, beside: Served, one: Answers, other: Answers) -> None:
        agreed = agreement(one, other)
        self._metrics.compared(beside.number, int(agreed.sum()), int((~agreed).sum()))


def agreement(one: Answers, other: Answers) -> np.ndarray[Any, Any]:
    """Tell for each row whether two versions agree: on the likeliest class, the label, or nearly on the number.

    Args:
        one: of shape (rows,) or (rows, outputs).
        other: of the same rows.

    Returns:
        Of shape (rows,); nothing agrees with answers of another shape.
    """
    if one.shape != other.shape:
        return np.zeros(len(one), dtype=bool)
    if one.ndim > 1:
        return np.asarray(one.argmax(axis=1) == other.argmax(axis=1))
    if one.dtype.kind == "f":
        near = NEAR * np.maximum(np.abs(one), np.abs(other))
        return np.asarray((np.abs(one - other) <= near) | (np.isnan(one) & np.isnan(other)))
    return np.asarray(one == other)
