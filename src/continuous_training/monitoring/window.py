"""The window: the recent rows of either source, counted and sampled where they are stored."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from continuous_training.errors import UserError
from continuous_training.monitoring.columns import ORDER

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    import pandas as pd
    from ibis.expr.types import Table

    from continuous_training.monitoring.findings import Finding


@dataclass(frozen=True)
class Window:
    """The rows of a window.

    `table` has the available features (categories as text, all other types as numbers), the predictions if the source
    has them, and the column ORDER, by which rows are sampled. `invalid` counts, for each column, the values that do not
    have its type; they are null in `table`. `missing` lists the features that the source does not have.
    """

    since: datetime
    until: datetime
    table: Table
    rows: int
    findings: list[Finding] = field(default_factory=list)
    invalid: dict[str, int] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    def sample(self, size: int) -> pd.DataFrame:
        """Return a deterministic sample of `size` rows; no other rows leave the database.

        From a large window only the rows whose order is divisible by some number are sorted: about twice the size.
        """
        step = self.rows // (2 * size)
        subset = self.table.filter(self.table[ORDER] % step == 0) if step > 1 else self.table
        frame = fetch(subset.order_by(ORDER).limit(size).drop(ORDER))
        return frame.replace([math.inf, -math.inf], math.nan)

    def count_rows(self, conditions: dict[str, Any]) -> dict[str, int]:
        """Count the rows that meet each condition, with one query for all conditions."""
        if not conditions:
            return {}
        sums = {
            f"n{index}": condition.fill_null(False).cast("int32").sum()
            for index, condition in enumerate(conditions.values())
        }
        [counts] = fetch(self.table.aggregate(**sums)).to_dict("records")
        return {name: int(counts[f"n{index}"] or 0) for index, name in enumerate(conditions)}

    def count_unknown(self, name: str, values: Sequence[str]) -> int:
        """Count the rows whose value in a column is not among the given values; each distinct value is compared once.

        The comparison follows the grouping: the database would move a filter before it.
        """
        groups = self.table.group_by(name).aggregate(rows=self.table.count())
        unknown = groups[name].notnull() & groups[name].notin(values)
        return int(fetch(groups.aggregate(rows=unknown.ifelse(groups["rows"], 0).sum()))["rows"][0] or 0)


def fetch(table: Table) -> pd.DataFrame:
    """Fetch the result of an Ibis expression; raises UserError if the database fails."""
    try:
        frame: pd.DataFrame = table.to_pyarrow().to_pandas()
    except Exception as error:
        raise UserError(f"the rows cannot be fetched: {str(error).strip().splitlines()[0]}") from error
    return frame
