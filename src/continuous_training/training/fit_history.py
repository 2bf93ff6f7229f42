"""The metrics of a fit over time: in the log while it fits, and in MLflow."""

from __future__ import annotations

import logging
import math
import re
import time
from typing import TYPE_CHECKING

from mlflow.entities import Metric

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlflow import MlflowClient

log = logging.getLogger(__name__)

SHOW_SECONDS = 2.0  # between two lines in the log
SEND_SECONDS = 10.0  # between two requests to MLflow
AT_ONCE = 1000  # values in a request, MLflow's limit
ALL_STEPS = 1000  # of later steps every tenth is stored, beyond ten times as many every hundredth, and so on


class FitHistory:
    """Receives the metrics of each step of a fit."""

    def __init__(self, client: MlflowClient, run_id: str | None) -> None:
        """Begin a history.

        Args:
            client: of MLflow.
            run_id: the MLflow run that gets the metrics; None only shows them.
        """
        self._client, self._run_id = client, run_id
        self._steps = 0
        self._values: Mapping[str, float] = {}
        self._unsent: list[Metric] = []
        self._shown = self._sent = time.monotonic()

    def report(self, step: int, metrics: Mapping[str, float]) -> None:
        """Add the metrics of a step.

        Args:
            step: its number, from 1.
            metrics: by names such as `validation/logloss`.
        """
        self._steps, self._values = step, {name: float(value) for name, value in metrics.items()}
        if self._run_id and is_stored(step):
            self._unsent += self._metrics()
        now = time.monotonic()
        if now - self._shown >= SHOW_SECONDS:
            log.info("Step %s: %s", f"{step:,}", self._text())
            self._shown = now
        if now - self._sent >= SEND_SECONDS:
            self._send()
            self._sent = now

    def close(self, best_step: int | None) -> int | None:
        """Show the last step and send what is left.

        Args:
            best_step: the step whose model is used, if it is not the last one.

        Returns:
            The step whose model is used; None if the fit reports no steps.
        """
        if not self._steps:
            return best_step
        used = "" if best_step in {None, self._steps} else f"; the model is that of step {best_step:,}"
        log.info("%s steps: %s%s", f"{self._steps:,}", self._text(), used)
        if self._run_id:
            if not is_stored(self._steps):
                self._unsent += self._metrics()
            self._send()
            self._client.log_metric(self._run_id, "steps", best_step or self._steps)
        return best_step or self._steps

    def _metrics(self) -> list[Metric]:
        moment = int(1000 * time.time())
        return [
            Metric(re.sub(r"[^\w./ -]", "_", name), value, moment, self._steps)
            for name, value in self._values.items()
            if math.isfinite(value)
        ]

    def _send(self) -> None:
        if self._run_id:
            for start in range(0, len(self._unsent), AT_ONCE):
                self._client.log_batch(self._run_id, metrics=self._unsent[start : start + AT_ONCE])
        self._unsent = []

    def _text(self) -> str:
        return ", ".join(f"{name} {value:.4g}" for name, value in self._values.items())


def is_stored(step: int) -> bool:
    """Return whether MLflow gets the metrics of a step: of a long fit it gets fewer, the later they are."""
    stride = 1
    while step > stride * ALL_STEPS:
        stride *= 10
    return step % stride == 0
