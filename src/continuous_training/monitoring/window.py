"""What the champion is asked now, wherever that comes from: rows that are counted and sampled where they lie."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from continuous_training.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    import pandas as pd
    from ibis.expr.types import Table

    from continuous_training.monitoring.finding import Finding
    from continuous_training.settings import Column

PREDICTION, ORDER = "ct.prediction", "ct.order"  # columns beside the features


@dataclass(frozen=True)
class Asked:
    """The rows of a window.

    `table` has the features that came, categories as text and all else as numbers, the predictions as they are looked
    at if they are known already, and an order to sample by.
    `unreadable` counts the values of a column that are not of its type, and are null in the table.
    """

    since: datetime
    until: datetime
    table: Table
    rows: int
    findings: list[Finding] = field(default_factory=list)
    unreadable: dict[str, int] = field(default_factory=dict)
    absent: list[str] = field(default_factory=list)

    def sample(self, rows: int) -> pd.DataFrame:
        """Draw so many rows, the same ones however often it is asked; nothing else leaves the warehouse.

        Of very many rows only those are sorted whose order can be divided by some number: twice as many as are asked.
        """
        every = self.rows // (2 * rows)
        some = self.table.filter(self.table[ORDER] % every == 0) if every > 1 else self.table
        frame = fetched(some.order_by(ORDER).limit(rows).drop(ORDER))
        return frame.replace([math.inf, -math.inf], math.nan)

    def counts(self, asked: dict[str, Any]) -> dict[str, int]:
        """Count rows in one question: how many make each of these expressions true."""
        if not asked:
            return {}
        named = {f"n{place}": one.fill_null(False).cast("int32").sum() for place, one in enumerate(asked.values())}
        [found] = fetched(self.table.aggregate(**named)).to_dict("records")
        return {name: int(found[f"n{place}"] or 0) for place, name in enumerate(asked)}

    def others(self, name: str, known: Sequence[str]) -> int:
        """Count the rows whose value in a column is none of these; each value is looked for once, however many it has.

        It is looked for after the grouping: a filter would be moved before it.
        """
        groups = self.table.group_by(name).aggregate(rows=self.table.count())
        other = groups[name].notnull() & groups[name].notin(known)
        return int(fetched(groups.aggregate(rows=other.ifelse(groups["rows"], 0).sum()))["rows"][0] or 0)


def plain(value: Any, column: Column) -> Any:  # noqa: ANN401 - Ibis' expressions have no types
    """Return a column of the warehouse as the monitor looks at it: categories as text, all else as numbers."""
    if column.type == "category":
        return value.cast("string")
    if column.type == "timestamp":
        return value.cast("timestamp").epoch_seconds().cast("float64")
    if value.type().is_boolean():
        value = value.cast("int32")  # which PostgreSQL asks for
    return value.cast("float64")


def fits(value: Any, column: Column) -> bool:  # noqa: ANN401
    """Say whether a column of the warehouse is of the type that training.yaml declares."""
    kind = value.type()
    if column.type == "category":
        return bool(kind.is_string())
    if column.type == "timestamp":
        return bool(kind.is_temporal())
    return bool(kind.is_numeric() or kind.is_boolean())


def fetched(table: Table) -> pd.DataFrame:
    """Fetch what is left of a table; raises UserError if the warehouse gives up."""
    try:
        frame: pd.DataFrame = table.to_pyarrow().to_pandas()
    except Exception as error:
        raise UserError(f"the rows cannot be fetched: {str(error).strip().splitlines()[0]}") from error
    return frame


def listed(names: Sequence[str]) -> str:
    """Name columns in a row, in an order that does not depend on what was measured; a few stand for many."""
    shown = sorted(names)[:5]
    if len(names) > len(shown):
        return f"{', '.join(shown)} and others"
    return " and ".join(filter(None, (", ".join(shown[:-1]), *shown[-1:])))
