"""One worker of the server: its versions, its batches, its log and its numbers, put together."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from continuous_training.serving import metrics
from continuous_training.serving.following.cache import Cache
from continuous_training.serving.following.loader import Memory
from continuous_training.serving.following.worker_status import Board
from continuous_training.serving.http import app
from continuous_training.serving.http.authentication import EVERYBODY, Guard, RateLimit, Tokens
from continuous_training.serving.prediction.batching import Batches
from continuous_training.serving.predictions_log.writer import PredictionsLog
from continuous_training.settings import STATE, Serving, load_settings

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from starlette.types import ASGIApp

    from continuous_training.serving.options import Options

ADDRESS = "CT_PREDICTIONS"  # a folder or s3://bucket/prefix; `none` keeps nothing


def application(options: Options, shared: Path) -> ASGIApp:
    """Make the application.

    Args:
        options: what `ct serve` was told.
        shared: a folder that the workers of this server share with its follower.

    Raises:
        UserError: training.yaml or the environment is wrong.
    """
    settings = load_settings(options.model)
    tokens = Tokens.from_environment()
    rate = None
    if options.rate is not None:
        rate = RateLimit(shared / "buckets", tokens.names or (EVERYBODY,), options.rate, options.burst)
    counted = metrics.Metrics()
    board = Board(shared / "board", options.workers)
    metrics.forget(board.clear())

    def message(status: dict[str, Any]) -> None:
        board.post(status)
        counted.serves(status["model_version"], well=status["failure"] is None)

    memory = Memory(shared, Cache(options.model), settings.model.trusted_types, settings.data.key, message)
    log = _log(options.model, settings.serving, counted)
    batches = Batches(counted, log.append if log else None, options.waiting)

    def closing() -> None:
        batches.close()
        if log:
            log.close()

    face = app.Face(options.model, memory, batches, board, counted, int(options.megabytes * 1e6))
    if log:
        log.start()
    return Guard(app.create(face, closing), tokens, rate, lambda status: counted.requested("refused", status, 0.0))


def _log(model: str, serving: Serving, counted: metrics.Metrics) -> PredictionsLog | None:
    address = os.environ.get(ADDRESS) or str(STATE / "predictions")
    if address == "none":
        return None
    return PredictionsLog(
        address,
        model,
        state=STATE / "serving" / "journal",
        share=serving.log_share,
        redacted=frozenset(serving.redacted),
        count=counted.logged,
    )
