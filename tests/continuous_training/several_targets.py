"""The toy model as a regression of two targets: how many bikes and how many docks an event needs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from toy import change, events, import_again, store

if TYPE_CHECKING:
    import pandas as pd
    import pytest

TARGETS = ("bikes", "docks")


def targets_of(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the events with both targets: 3x and 10 - 2x, with noise of the standard deviations 0.5 and 1."""
    random = np.random.default_rng(11)
    bikes, docks = 3 * frame["x"], 10 - 2 * frame["x"]
    noise = random.normal(size=(2, len(frame)))
    return frame.assign(bikes=bikes + 0.5 * noise[0], docks=(docks + noise[1]).round().astype("int64"))


def use_several_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turn the toy model of this workspace into the regression."""
    store(targets_of(events()))
    columns = "    bikes: {type: number, feature: false}\n    docks: {type: integer, feature: false}\n"
    change("  target: late", f"  target: [{', '.join(TARGETS)}]")
    change("x, y, late FROM", "x, y, bikes, docks FROM")
    change("    late: {type: boolean, feature: false}\n", columns)
    change("task: classification", "task: regression")
    change("parameters: {C: 1.0}", "parameters: {alpha: 1.0}")
    change("metric: roc_auc", "metric: neg_root_mean_squared_error")
    change("report: [neg_log_loss]", "report: [r2]")
    change("first: {roc_auc: 0.6}", "first: {neg_root_mean_squared_error: -2}")
    model = Path("src/toy/model.py")
    change("import LogisticRegression", "import Ridge", model)
    change("LogisticRegression(**parameters)", "Ridge(**parameters)", model)
    import_again(monkeypatch)
