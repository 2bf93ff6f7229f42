"""The warehouse as a source: its newest rows, which the champion predicts here because no predictions were logged."""

from __future__ import annotations

import operator
from datetime import timedelta
from functools import reduce
from typing import TYPE_CHECKING, Any

import pandas as pd

from continuous_training.comparison.stored_model import open_model
from continuous_training.data import sources
from continuous_training.errors import UserError
from continuous_training.monitoring.columns import ORDER, cast_column, has_declared_type
from continuous_training.monitoring.findings import Finding
from continuous_training.monitoring.window import Window, fetch

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from ibis.expr.types import Table

    from continuous_training.comparison.evaluation import Predictions
    from continuous_training.data.sources import Source
    from continuous_training.monitoring.evaluation_windows import Period
    from continuous_training.registry.model_versions import Version
    from continuous_training.settings import Settings


def read_window(source: Source, settings: Settings, as_of: datetime) -> Window:
    """Return the rows of the window before AS_OF; their labels may not be known yet.

    Args:
        source: of the rows; it stays open as long as the window is read.
        settings: the settings of the model.
        as_of: the end of the window.

    Raises:
        UserError: the warehouse or the query fails.
    """
    since = as_of - timedelta(days=settings.monitor.window_days)
    rows = source.table(since, as_of)
    columns = {name: settings.data.columns[name] for name in settings.data.features if name in rows.columns}
    mistyped_columns = {name: column for name, column in columns.items() if not has_declared_type(rows[name], column)}
    features = {
        name: cast_column(rows[name], column) for name, column in columns.items() if name not in mistyped_columns
    }
    return Window(
        since=since,
        until=as_of,
        table=rows.select(**features, **{ORDER: _key_hash(rows, settings)}),
        rows=int(fetch(rows.aggregate(rows=rows.count()))["rows"][0]),
        findings=[
            Finding(
                kind="warning",
                column=name,
                message=f"column '{name}' has type {rows[name].type()} now, training.yaml declares {column.type}",
            )
            for name, column in mistyped_columns.items()
        ],
        missing=[name for name in settings.data.features if name not in rows.columns],
    )


def read_labels(settings: Settings, windows: Sequence[Period]) -> list[pd.DataFrame]:
    """Return a sample of each evaluation window: the features, and the columns that `settings.label_columns` lists.

    Raises:
        UserError: the warehouse or the query fails.
    """
    data, frames = settings.data, []
    with sources.open_source(settings) as source:
        for since, until in windows:
            rows = source.table(since, until)
            columns = {
                name: cast_column(rows[name], data.columns[name]) for name in data.features if name in rows.columns
            }
            columns |= {name: rows[name] for name in settings.label_columns if name not in columns}
            labelled = rows.filter(*(rows[name].notnull() for name in data.targets))
            sample = labelled.order_by(_key_hash(labelled, settings)).limit(settings.monitor.sample_rows)
            frames.append(fetch(sample.select(**columns)))
    return frames


def predict(champion: Version, rows: pd.DataFrame, settings: Settings) -> Predictions:
    """Return the champion's predictions for rows whose columns have the monitor's types.

    Raises:
        UserError: the champion cannot be loaded, or its prediction fails.
    """
    inputs = rows.copy()
    for name in settings.data.features:
        column = settings.data.columns[name]
        if name in inputs and column.type == "boolean" and not column.becomes_double:
            inputs[name] = inputs[name].astype("bool")
        elif name in inputs and column.type == "timestamp":
            inputs[name] = pd.to_datetime(inputs[name], unit="s")
    try:
        with open_model(champion.uri, champion.run_id, champion.name, settings, inputs) as model:
            return model.predictions
    except UserError as error:
        raise UserError(f"version {champion.number} cannot predict the newest rows: {error}") from error


def _key_hash(rows: Table, settings: Settings) -> Any:  # noqa: ANN401 - Ibis' expressions have no types
    parts = [rows[name].cast("string").fill_null("") for name in settings.data.key if name in rows.columns]
    return reduce(operator.add, parts).hash()
