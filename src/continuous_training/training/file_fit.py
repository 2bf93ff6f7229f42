"""The fit of a model on the rows of a file, in memory or in batches."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NamedTuple

from continuous_training.data.row_groups import RowGroups
from continuous_training.data.snapshots import read_snapshot
from continuous_training.training.estimators import build_estimator, fit_estimator, fit_in_batches
from continuous_training.training.fitting import fix_steps

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from continuous_training.settings import Settings
    from continuous_training.versions.frameworks.fitting import Report

log = logging.getLogger(__name__)

SAMPLE_ROWS = 200_000  # of training rows beyond memory: for their score, and for the steps before the estimator


class FileFit(NamedTuple):
    """A fitted estimator.

    Attributes:
        estimator: in the form in which it is stored.
        best_step: the step whose model it uses, if that is not the last one.
        rows: the rows of the file; with `model.batches` a sample of them.
    """

    estimator: Any
    best_step: int | None
    rows: pd.DataFrame


def fit_file(
    model: str, path: Path, settings: Settings, parameters: dict[str, Any], report: Report, steps: int | None = None
) -> FileFit:
    """Build a model's estimator and fit it on the rows of a file.

    Args:
        model: the model package.
        path: a Parquet file of labelled rows.
        settings: the settings of the model.
        parameters: of its estimator.
        report: receives the metrics of each step.
        steps: if the estimator can do a certain number of steps, it does so many on all rows. None lets it stop early
            by those of `validation_days`, as training.yaml says.

    Raises:
        UserError: the package has no `build`, or the estimator cannot be fitted on these rows.
    """
    rows, batches = _read_rows(path, settings)
    estimator = build_estimator(model, settings, parameters)
    if steps is not None and fix_steps(estimator, model, steps):
        log.info("Fitting exactly %s steps", f"{steps:,}")
        settings = settings.model_copy(update={"model": settings.model.model_copy(update={"validation_days": None})})
    if batches:
        return FileFit(*fit_in_batches(estimator, model, rows, batches, settings, report), rows)
    return FileFit(*fit_estimator(estimator, model, rows, settings, report), rows)


def _read_rows(path: Path, settings: Settings) -> tuple[pd.DataFrame, RowGroups | None]:
    """Return the rows of a file; with `model.batches` a sample of them, and all of them in batches."""
    if not settings.model.batches:
        return read_snapshot(path, settings.data), None
    batches = RowGroups(path, settings.data)
    classes = settings.data.targets[0] if settings.model.task == "classification" else None
    return batches.sample(SAMPLE_ROWS, classes), batches
