"""Which version predicts for a request: the champion, or a canary; and which one predicts too, for comparison."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from continuous_training.serving.protocols.errors import RequestError

if TYPE_CHECKING:
    from continuous_training.serving.following.hosted_version import HostedVersion
    from continuous_training.serving.following.loader import ExposedVersion, VersionLoader
    from continuous_training.serving.metrics import Metrics
    from continuous_training.serving.prediction.batching import Batcher, Predictions
    from continuous_training.serving.protocols.signature import Rows

Parse = Callable[["HostedVersion"], Awaitable["Rows"]]  # parses a request's body by a version's signature

CHAMPION = "champion"
RELATIVE_TOLERANCE = 0.1  # two numbers agree if their difference is at most this share of the larger one
SERVICE_UNAVAILABLE = 503


class Router:
    """Chooses the version that predicts for each request, and counts the outcomes of each version."""

    def __init__(self, loader: VersionLoader, batcher: Batcher, metrics: Metrics) -> None:
        self._loader = loader
        self._batcher = batcher
        self._metrics = metrics
        self._comparisons: set[asyncio.Task[None]] = set()  # asyncio itself keeps only weak references to tasks

    async def predict(self, request_id: str, parse: Parse) -> tuple[HostedVersion, Predictions]:
        """Return the predictions for a request and the version that made them.

        If a canary fails, the champion predicts in its place.

        Args:
            request_id: the request's id.
            parse: parses the request's body by a version's signature.

        Raises:
            RequestError: there is no champion, the request is invalid, or the queue is full.
        """
        champion, candidate = self._loader.champion, self._loader.candidate
        if champion is None:
            raise RequestError(SERVICE_UNAVAILABLE, "TEMPORARILY_UNAVAILABLE", "there is no champion yet")
        rows = await parse(champion)
        if candidate is None or random.random() >= candidate.exposure.share or candidate.exposure.expired:  # noqa: S311
            return champion, await self._predict(champion, CHAMPION, request_id, rows)
        if candidate.exposure.role == "canary":
            return await self._predict_with_canary(candidate, champion, request_id, parse, rows)
        predictions = await self._predict(champion, CHAMPION, request_id, rows)
        self._run_in_background(self._compare_shadow(candidate, request_id, parse, predictions))
        return champion, predictions

    async def _predict_with_canary(
        self, candidate: ExposedVersion, champion: HostedVersion, request_id: str, parse: Parse, rows: Rows
    ) -> tuple[HostedVersion, Predictions]:
        try:
            predictions = await self._predict_with_candidate(candidate, request_id, parse)
        except RequestError:
            return champion, await self._predict(champion, CHAMPION, request_id, rows)
        self._run_in_background(self._compare_canary(candidate.version, champion, request_id, rows, predictions))
        return candidate.version, predictions

    async def _compare_canary(
        self, canary: HostedVersion, champion: HostedVersion, request_id: str, rows: Rows, predictions: Predictions
    ) -> None:
        """Compare a canary's predictions with the champion's."""
        reference = await self._batcher.predict(champion, "shadow", request_id, rows)
        self._count_agreement(canary, predictions, reference)

    async def _compare_shadow(
        self, candidate: ExposedVersion, request_id: str, parse: Parse, reference: Predictions
    ) -> None:
        """Compare a shadow's predictions with the champion's; it may use other columns of the request."""
        predictions = await self._predict_with_candidate(candidate, request_id, parse)
        self._count_agreement(candidate.version, predictions, reference)

    async def _predict_with_candidate(self, candidate: ExposedVersion, request_id: str, parse: Parse) -> Predictions:
        """Predict; a request that the champion accepts and the candidate does not counts as the candidate's error."""
        role = candidate.exposure.role
        try:
            rows = await parse(candidate.version)
        except RequestError:
            self._metrics.count_prediction(candidate.version.number, role, "error", None)
            raise
        return await self._predict(candidate.version, role, request_id, rows)

    async def _predict(self, version: HostedVersion, role: str, request_id: str, rows: Rows) -> Predictions:
        start = time.perf_counter()
        outcome = "error"
        try:
            predictions = await self._batcher.predict(version, role, request_id, rows)
            outcome = "ok"
        except RequestError as error:
            outcome = "busy" if error.status == SERVICE_UNAVAILABLE else "error"
            raise
        finally:
            seconds = None if outcome == "busy" else time.perf_counter() - start
            self._metrics.count_prediction(version.number, role, outcome, seconds)
        return predictions

    def _run_in_background(self, comparison: Any) -> None:  # noqa: ANN401 - a coroutine
        async def run() -> None:
            try:
                await comparison
            except RequestError:
                return  # it was counted, and no client waits for it

        task = asyncio.get_running_loop().create_task(run())
        self._comparisons.add(task)
        task.add_done_callback(self._comparisons.discard)

    def _count_agreement(self, version: HostedVersion, predictions: Predictions, reference: Predictions) -> None:
        agreement = rows_agree(predictions, reference, are_probabilities=version.classes is not None)
        self._metrics.count_comparison(version.number, int(agreement.sum()), int((~agreement).sum()))


def rows_agree(first: Predictions, second: Predictions, *, are_probabilities: bool) -> np.ndarray[Any, Any]:
    """Compare two versions' predictions row by row.

    They agree if the most probable class or the label is the same, or numbers, of several targets all of them, differ
    by at most 10%.

    Args:
        first: of shape (rows,), (rows, classes) or (rows, targets).
        second: for the same rows.
        are_probabilities: whether they are probabilities of classes.

    Returns:
        Booleans of shape (rows,); all are false if the shapes differ.
    """
    if first.shape != second.shape:
        return np.zeros(len(first), dtype=bool)
    if are_probabilities:
        return np.asarray(first.argmax(axis=1) == second.argmax(axis=1))
    agreement = first == second
    if first.dtype.kind == "f":
        tolerance = RELATIVE_TOLERANCE * np.maximum(np.abs(first), np.abs(second))
        agreement = (np.abs(first - second) <= tolerance) | (np.isnan(first) & np.isnan(second))
    return np.asarray(agreement if first.ndim == 1 else agreement.all(axis=1))
