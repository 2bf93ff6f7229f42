"""One worker of the server: its versions, its batching, its predictions log and its metrics."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from continuous_training.serving.following.cache import VersionCache
from continuous_training.serving.following.loader import VersionLoader
from continuous_training.serving.following.worker_status import WorkerStatuses
from continuous_training.serving.http.access_control import AccessControl
from continuous_training.serving.http.app import Endpoints, create_app
from continuous_training.serving.http.rate_limit import RateLimit
from continuous_training.serving.http.tokens import Tokens
from continuous_training.serving.metrics import Metrics, remove_dead_workers
from continuous_training.serving.prediction.batching import Batcher
from continuous_training.serving.predictions_log.writer import PredictionsLog
from continuous_training.settings import STATE, Serving, load_settings

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from starlette.types import ASGIApp

    from continuous_training.serving.options import Options

LOG_ADDRESS = "CT_PREDICTIONS"  # a folder, s3://bucket/prefix, or none


def create_worker(options: Options, shared: Path) -> ASGIApp:
    """Create the application of one worker.

    Args:
        options: the options of `ct serve`.
        shared: the folder that the server's workers share with its follower.

    Raises:
        UserError: training.yaml or the environment is invalid.
    """
    settings = load_settings(options.model)
    tokens = Tokens.from_environment()
    rate_limit = None
    if options.rate is not None:
        rate_limit = RateLimit(shared / "buckets", tokens.names, options.rate, options.burst)
    metrics = Metrics()
    statuses = WorkerStatuses(shared / "workers", options.workers)
    remove_dead_workers(statuses.remove_dead_workers())

    def publish_status(status: dict[str, Any]) -> None:
        statuses.write(status)
        metrics.set_version(status["model_version"], following=status["failure"] is None)

    loader = VersionLoader(shared, VersionCache(options.model), settings.data.key, publish_status)
    log = _create_log(options.model, settings.serving, metrics)
    batcher = Batcher(metrics, log.append if log else None, options.max_queue)

    def shut_down() -> None:
        batcher.close()
        if log:
            log.close()

    max_body = int(options.max_body_mb * 1e6)
    app = create_app(Endpoints(options.model, loader, batcher, statuses, metrics, max_body), shut_down)
    if log:
        log.start()
    return AccessControl(app, tokens, rate_limit, lambda status: metrics.count_request("refused", status, 0.0))


def _create_log(model: str, serving: Serving, metrics: Metrics) -> PredictionsLog | None:
    address = os.environ.get(LOG_ADDRESS) or str(STATE / "predictions")
    if address == "none":
        return None
    return PredictionsLog(
        address,
        model,
        state=STATE / "serving" / "journal",
        share=serving.log_share,
        redacted=frozenset(serving.redacted),
        count=metrics.count_log_rows,
    )
