"""The newest rows of the warehouse, for a champion whose predictions are not logged: it is asked about them here."""

from __future__ import annotations

import operator
from datetime import timedelta
from functools import reduce
from typing import TYPE_CHECKING, Any

import pandas as pd

from continuous_training.comparison import evaluation
from continuous_training.data import sources
from continuous_training.errors import UserError
from continuous_training.monitoring.asked import ORDER, Asked, fetched, fits, plain
from continuous_training.monitoring.finding import Finding
from continuous_training.versions import loading

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from ibis.expr.types import Table

    from continuous_training.comparison.evaluation import Recorded
    from continuous_training.monitoring.live import Window
    from continuous_training.registry.model_versions import Version
    from continuous_training.settings import Settings


def read(settings: Settings, as_of: datetime) -> Asked:
    """Return the rows of the last days before AS_OF, whose labels may not be known yet.

    Raises:
        UserError: the warehouse or the query fails.
    """
    since = as_of - timedelta(days=settings.monitor.window_days)
    rows = sources.open_source(settings).table(since, as_of)
    columns = {name: settings.data.columns[name] for name in settings.data.features if name in rows.columns}
    misfits = {name: column for name, column in columns.items() if not fits(rows[name], column)}
    kept = {name: plain(rows[name], column) for name, column in columns.items() if name not in misfits}
    return Asked(
        since=since,
        until=as_of,
        table=rows.select(**kept, **{ORDER: _hashed_key(rows, settings)}),
        rows=int(fetched(rows.aggregate(rows=rows.count()))["rows"][0]),
        findings=[
            Finding(
                kind="odd", column=name, message=f"«{name}» is of type {rows[name].type()} now, not a {column.type}"
            )
            for name, column in misfits.items()
        ],
        absent=[name for name in settings.data.features if name not in rows.columns],
    )


def labelled(settings: Settings, windows: Sequence[Window]) -> list[pd.DataFrame]:
    """Draw rows of windows whose labels are surely known: of each the features, the target and the time.

    Raises:
        UserError: the warehouse or the query fails.
    """
    data, source, drawn = settings.data, sources.open_source(settings), []
    for since, until in windows:
        rows = source.table(since, until)
        kept = {name: plain(rows[name], data.columns[name]) for name in data.features if name in rows.columns}
        kept |= {name: rows[name] for name in (data.target, data.time)}
        drawn.append(
            fetched(rows.order_by(_hashed_key(rows, settings)).limit(settings.monitor.sample_rows).select(**kept))
        )
    return drawn


def answers(champion: Version, rows: pd.DataFrame, settings: Settings) -> Recorded:
    """Ask the champion about rows whose columns are as the monitor looks at them.

    Raises:
        UserError: it cannot be loaded, or cannot answer for them.
    """
    estimator = loading.load(champion.uri, settings.model.trusted_types)
    asked = rows.copy()
    for name in settings.data.features:
        column = settings.data.columns[name]
        if name in asked and column.type == "boolean" and not column.becomes_double:
            asked[name] = asked[name].astype("bool")
        elif name in asked and column.type == "timestamp":
            asked[name] = pd.to_datetime(asked[name], unit="s")
    try:
        asks = list(getattr(estimator, "feature_names_in_", settings.data.features))
        return evaluation.predict(estimator, asked[asks], settings.model.task)
    except Exception as error:  # whatever estimator the team's model package builds
        raise UserError(f"version {champion.number} cannot answer for the newest rows: {error}") from error


def _hashed_key(rows: Table, settings: Settings) -> Any:  # noqa: ANN401 - Ibis' expressions have no types
    parts = [rows[name].cast("string").fill_null("") for name in settings.data.key if name in rows.columns]
    return reduce(operator.add, parts).hash()
