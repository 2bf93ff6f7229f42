"""The fits of a refit: the candidate's recipe on older rows than the candidate's, and on all rows.

The earlier fit stands to the candidate as the candidate does to the refit: it lacks the newest training rows. So what
more recent rows gained can be measured on the fresh rows, which neither of both has seen.
"""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from continuous_training.comparison import earlier_fit, evaluation
from continuous_training.comparison.earlier_fit import EarlierFit
from continuous_training.data.copies import copy_rows, read_columns
from continuous_training.data.snapshots import FRESH, TRAIN
from continuous_training.training.file_fit import FileFit, fit_file

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from continuous_training.comparison.evaluation import Predictions
    from continuous_training.registry.refits import RefitTask
    from continuous_training.settings import Settings
    from continuous_training.versions.frameworks.fitting import Report

log = logging.getLogger(__name__)


def fit_earlier(
    model: str, folder: Path, settings: Settings, task: RefitTask, fresh: pd.DataFrame, report: Report
) -> tuple[EarlierFit, Predictions | None]:
    """Fit a recipe on the oldest training rows, and predict the fresh rows.

    Args:
        model: the model package.
        folder: a snapshot's folder.
        settings: the settings of the model.
        task: what is fitted.
        fresh: the fresh rows.
        report: receives the metrics of each step.

    Raises:
        UserError: the estimator cannot be fitted.
    """
    data = settings.data
    names = [data.time, *data.targets, *([data.group] if data.group else [])]
    labels = read_columns(folder / TRAIN, list(dict.fromkeys(names)))
    times = labels[data.time]
    if data.group is not None:
        times = times.groupby(labels[data.group], dropna=False).transform("min")  # whole groups, by their oldest row
    chosen = (times < task.earlier_until).to_numpy()
    if problem := _find_problem(labels, chosen, settings):
        return EarlierFit(problem=problem), None
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary, TRAIN)
        copy_rows([folder / TRAIN], path, chosen)
        log.info("The same fit on rows before %s, to measure what more recent ones gain", task.earlier_until)
        fitted = fit_file(model, path, settings, settings.model.parameters, report, task.recipe.steps)
    predictions = evaluation.predict(fitted.estimator, fresh[data.features], settings.model.task, len(data.targets))
    return earlier_fit.describe(int(chosen.sum()), predictions), predictions


def fit_all(model: str, folder: Path, settings: Settings, task: RefitTask, report: Report) -> FileFit:
    """Fit a recipe on the training rows and the fresh rows. The arguments are those above.

    Raises:
        UserError: the estimator cannot be fitted.
    """
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary, TRAIN)
        copy_rows([folder / TRAIN, folder / FRESH], path)
        return fit_file(model, path, settings, settings.model.parameters, report, task.recipe.steps)


def _find_problem(labels: pd.DataFrame, chosen: NDArray[Any], settings: Settings) -> str | None:
    """Return why no model can be fitted on the chosen rows that knows what the candidate does; None if one can."""
    if not chosen.any():
        return "there are no older training rows"
    if settings.model.task == "regression":
        return None
    label = labels[settings.data.targets[0]]
    known = set(label[chosen].unique())
    if missing := sorted(str(name) for name in set(label.unique()) - known):
        return f"the older training rows have no row of the class {', '.join(missing)}"
    return None
