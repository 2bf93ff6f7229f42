"""The newest rows of the warehouse, for a champion whose predictions are not logged: it is asked about them itself."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from continuous_training import warehouse
from continuous_training.monitor.asked import Asked, fetched, fits, plain
from continuous_training.monitor.finding import Finding

if TYPE_CHECKING:
    from datetime import datetime

    import pandas as pd

    from continuous_training.settings import Settings


def read(given: Settings, as_of: datetime) -> Asked:
    """Return the rows of the last days before AS_OF, whose labels may not be known yet.

    Raises:
        Problem: the warehouse or the query fails.
    """
    since = as_of - timedelta(days=given.monitor.window_days)
    rows = _rows(given, since, as_of)
    columns = {name: given.data.columns[name] for name in given.data.features if name in rows.columns}
    odd = {
        name: Finding(
            kind="odd", column=name, said=f"«{name}» is of type {rows[name].type()} now, not the {column.type} it was"
        )
        for name, column in columns.items()
        if not fits(rows[name], column)
    }
    kept = {name: plain(rows[name], column) for name, column in columns.items() if name not in odd}
    table = rows.select(**kept, order=_key(rows, given).hash())
    return Asked(
        since=since,
        until=as_of,
        table=table,
        rows=int(fetched(rows.aggregate(n=rows.count()))["n"][0]),
        findings=list(odd.values()),
        absent=[name for name in given.data.features if name not in rows.columns],
    )


def labelled(given: Settings, as_of: datetime) -> pd.DataFrame:
    """Draw rows of the newest window whose labels are surely known, all their columns.

    Raises:
        Problem: the warehouse or the query fails.
    """
    until = as_of - timedelta(days=given.data.label_delay_days)
    rows = _rows(given, until - timedelta(days=given.monitor.window_days), until)
    few = rows.order_by(_key(rows, given).hash()).limit(given.monitor.sample_rows)
    return fetched(few)


def _rows(given: Settings, since: datetime, until: datetime):  # noqa: ANN202
    return warehouse.rows(warehouse.connect(given), given.data.query, since, until)


def _key(rows, given: Settings):  # noqa: ANN001, ANN202
    import functools
    import operator

    parts = [rows[name].cast("string").fill_null("") for name in given.data.key if name in rows.columns]
    return functools.reduce(operator.add, parts)
