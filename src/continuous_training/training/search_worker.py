"""The program that fits and scores the trials of a search, in a process of its own; `search_process.py` starts it.

    python -m continuous_training.training.search_worker MODEL FOLDER

Each request has the parameters of a trial. The responses are its steps, each of which the other end answers with
whether to go on, and then its score.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from continuous_training.data.snapshots import TRAIN, read_snapshot
from continuous_training.errors import UserError
from continuous_training.settings import load_settings
from continuous_training.training.estimators import validate
from continuous_training.versions.frameworks.fitting import VALIDATION, StopFit
from continuous_training.versions.messages import receive, send

if TYPE_CHECKING:
    from collections.abc import Mapping

GREATER_IS_BETTER = {  # the first words of such metrics of LightGBM, XGBoost, CatBoost and scikit-learn
    *("accuracy", "auc", "aucpr", "average", "f1", "kappa", "map", "mcc", "ndcg", "precision", "r2", "recall", "score"),
    *("totalf1",),
}


def main(model: str, folder: str) -> None:
    """Fit and score the trials that standard input requests, until it ends."""
    responses = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever an estimator prints must not get between the messages
    settings = load_settings(model)
    rows = read_snapshot(Path(folder, TRAIN), settings.data)
    while request := receive(sys.stdin.buffer):
        steps = _Steps(sys.stdin.buffer, responses)
        try:
            response: dict[str, Any] = {
                "score": validate(model, rows, settings, request[0]["parameters"], steps.report)
            }
        except StopFit:
            response = {"pruned": True}
        except UserError as error:
            response = {"error": str(error)}
        send(responses, response)


def is_greater_better(metric: str) -> bool:
    """Return whether a larger value of a library's metric, such as `ndcg@5` or `Logloss`, is better."""
    word = re.match("[a-z0-9]*", metric.lower())
    return word is not None and word[0] in GREATER_IS_BETTER


class _Steps:
    """Sends the validation metric of each step, greater for the better model."""

    def __init__(self, requests: IO[bytes], responses: IO[bytes]) -> None:
        self._requests, self._responses = requests, responses

    def report(self, step: int, metrics: Mapping[str, float]) -> None:
        """Send a step, and end the fit if the answer is not to go on."""
        name = next((name for name in metrics if name.startswith(f"{VALIDATION}/")), None)
        if name is None:
            return
        sign = 1 if is_greater_better(name.removeprefix(f"{VALIDATION}/")) else -1
        value = sign * float(metrics[name])
        send(self._responses, {"step": step, "value": value})
        answer = receive(self._requests)
        if answer is None or not answer[0]["continue"]:
            raise StopFit


if __name__ == "__main__":
    main(*sys.argv[1:])
