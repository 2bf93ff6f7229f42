"""Validation rows: the newest days of the training rows, which a fit does not use. They are never fresh rows."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from continuous_training.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from continuous_training.settings import Settings


def split_newest(rows: pd.DataFrame, days: int, key: str, settings: Settings) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Split rows into those before their newest days and those of these days; a group is in one of both.

    Args:
        rows: the training rows, or a part of them.
        days: the length of the newer part in days.
        key: the key of training.yaml that asks for it, for messages.
        settings: the settings of the model.

    Raises:
        UserError: a part has no rows or only one class, or the newer part has a class that the other one lacks.
    """
    data = settings.data
    times = rows[data.time]
    if data.group is not None:
        times = times.groupby(rows[data.group], dropna=False).transform("min")  # whole groups, by their oldest row
    newest = times > rows[data.time].max() - timedelta(days=days)
    before, last = rows[~newest], rows[newest]
    where = f"the last {days} days of the training rows"
    advice = f"increase data.train_days, or remove {key}"
    for place, part in ((f"before {where}", before), (f"on {where}", last)):
        if part.empty:
            raise UserError(f"{key}: there are no rows {place}; {advice}")
        if settings.model.task == "classification" and part[data.target].nunique() < 2:
            raise UserError(f"{key}: all rows have the same class {place}; {advice}")
    if settings.model.task == "classification":
        new = [str(label) for label in last[data.target].unique() if not (before[data.target] == label).any()]
        if new:
            raise UserError(
                f"{key}: {where} have the class {', '.join(sorted(new))}, which no row before has; {advice}"
            )
    return before, last
