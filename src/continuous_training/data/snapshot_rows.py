"""The rows of a snapshot in DuckDB, for checks: they are read from the Parquet files and never all in memory."""

# ruff: noqa: S608 - the statements are made of quoted names

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Self

from continuous_training.data import duckdb_connection
from continuous_training.data.duckdb_connection import literal, quote

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from continuous_training.documents import Scalar, Snapshot

FRESH = quote("ct.fresh")  # column that is true in the fresh rows
AGGREGATES = 1000  # in one statement: its memory grows with the number of columns
COPIED_VALUES = 5_000_000  # at once, in memory
RANKED_ROWS = 1_000_000  # of a larger snapshot, for the area under the ROC curve: its error is below 0.001
TEXT_LENGTH = 200  # characters of a text in an example row


class SnapshotRows:
    """The training rows and the fresh rows of a snapshot, as a view `rows` with the column `FRESH`.

    Attributes:
        types: the Arrow type of each column, by its name.
        train, fresh: the numbers of rows.
        key: the columns of the key that are there.
    """

    def __init__(self, snapshot: Snapshot, key: Iterable[str]) -> None:
        self.types = snapshot.columns
        self.train, self.fresh = snapshot.train.rows, snapshot.fresh.rows
        self.key = [name for name in key if name in self.types]
        self._connection = duckdb_connection.connect(columns=len(self.types), rows=self.train + self.fresh)
        self._connection.execute("SET parquet_metadata_cache = true")
        train, fresh = (literal(str(part.path)) for part in (snapshot.train, snapshot.fresh))
        self._connection.execute(
            f"CREATE VIEW rows AS SELECT *, false AS {FRESH} FROM read_parquet({train})"
            f" UNION ALL SELECT *, true FROM read_parquet({fresh})"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def aggregate(self, expressions: Mapping[Any, str]) -> dict[Any, Any]:
        """Compute named aggregates of all rows, some at a time: DuckDB reads only the columns of each statement."""
        values: dict[Any, Any] = {}
        names = list(expressions)
        for start in range(0, len(names), AGGREGATES):
            part = names[start : start + AGGREGATES]
            [row] = self._query(f"SELECT {', '.join(expressions[name] for name in part)} FROM rows")
            values |= dict(zip(part, row, strict=True))
        return values

    def examples(self, condition: str, names: Iterable[str], limit: int) -> list[dict[str, Scalar]]:
        """Return the key and other columns of the first rows that meet a condition, in the order of their key."""
        shown = list(dict.fromkeys([*self.key, *names]))
        order = ", ".join([FRESH, *map(quote, self.key)])
        rows = self._query(
            f"SELECT {', '.join(map(quote, shown))} FROM rows WHERE {condition} ORDER BY {order} LIMIT {limit}"
        )
        return [dict(zip(shown, map(_json_value, row), strict=True)) for row in rows]

    def count_duplicates(self) -> int:
        """Count the rows whose key another row has too."""
        [[count]] = self._query(f"SELECT coalesce(sum(size), 0) FROM ({self._duplicate_keys()})")
        return int(count)

    def duplicates(self, limit: int) -> list[dict[str, Scalar]]:
        """Return the keys of the first rows whose key another row has too."""
        equal = " AND ".join(f"rows.{quote(name)} IS NOT DISTINCT FROM other.{quote(name)}" for name in self.key)
        return self.examples(f"EXISTS (SELECT 1 FROM ({self._duplicate_keys()}) AS other WHERE {equal})", [], limit)

    def count_classes(self, name: str) -> int:
        """Count the different values of a column, nulls apart."""
        [[count]] = self._query(f"SELECT count(DISTINCT {quote(name)}) FROM rows")
        return int(count)

    def fresh_class_sizes(self, name: str) -> list[int]:
        """Return how many fresh rows have each value of a column, nulls apart."""
        value = quote(name)
        sizes = self._query(f"SELECT count(*) FROM rows WHERE {FRESH} AND {value} IS NOT NULL GROUP BY {value}")
        return [size for (size,) in sizes]

    def count_fresh_periods(self, time: str, seconds: int) -> int:
        """Count the periods of this length, from 1970 on, that have fresh rows."""
        period = f"floor(epoch({quote(time)}) / {seconds})"
        [[count]] = self._query(f"SELECT count(DISTINCT {period}) FROM rows WHERE {FRESH}")
        return int(count)

    def missing_classes(self, target: str) -> list[str]:
        """Return the values of a target that training rows have and no fresh row has, in their order."""
        label = quote(target)
        values = f"SELECT {label} FROM rows WHERE {label} IS NOT NULL AND"
        missing = self._query(f"({values} NOT {FRESH} EXCEPT {values} {FRESH}) ORDER BY 1")
        return [str(value) for (value,) in missing]

    def count_fresh_values(self, name: str) -> int:
        """Count the distinct values of a column in the fresh rows; null is one."""
        column = quote(name)
        counts = f"count(DISTINCT {column}) + CAST(count(*) > count({column}) AS INTEGER)"
        [[count]] = self._query(f"SELECT {counts} FROM rows WHERE {FRESH}")
        return int(count)

    def aucs(self, names: Sequence[str], target: str) -> dict[str, float]:
        """Return the area under the ROC curve of columns, each as a score for the larger of a target's two classes.

        It is the share of pairs of a positive and a negative row in which the positive one has the larger value; equal
        values count half (Mann and Whitney). A column is left out if the rows that have a value are of one class. Of
        more than `RANKED_ROWS` a part is ranked, chosen by the hash of the key: the same each time.
        """
        label, aucs = quote(target), {}
        step = (self.train + self.fresh) // RANKED_ROWS if self.key else 0
        part_of_rows = f"WHERE hash({', '.join(map(quote, self.key))}) % {step} = 0" if step > 1 else ""
        at_once = max(1, COPIED_VALUES // ((self.train + self.fresh) // max(1, step)))
        for start in range(0, len(names), at_once):
            # A copy of few columns: each statement on the files takes time for all columns that they have
            part = dict(enumerate(names[start : start + at_once]))
            values = ", ".join(f"{quote(name)} AS value_{place}" for place, name in part.items())
            positive = f"{label} = (SELECT max({label}) FROM rows) AS positive"
            self._connection.execute(
                f"CREATE OR REPLACE TEMP TABLE copy AS SELECT {positive}, {values} FROM rows {part_of_rows}"
            )
            for place, name in part.items():
                if (auc := self._auc(f"value_{place}")) is not None:
                    aucs[name] = auc
        return aucs

    def _auc(self, value: str) -> float | None:
        counts = (
            f"SELECT {value} AS value, count_if(positive) AS positives, count_if(NOT positive) AS negatives"
            f" FROM copy WHERE {value} IS NOT NULL GROUP BY ALL"
        )
        smaller = "coalesce(sum(negatives) OVER (ORDER BY value ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0)"
        wins = f"SELECT positives, negatives, positives * ({smaller} + negatives / 2) AS wins FROM ({counts})"
        [[auc]] = self._query(f"SELECT sum(wins) / nullif(sum(positives) * sum(negatives), 0) FROM ({wins})")
        return auc if auc is None else float(auc)

    def _duplicate_keys(self) -> str:
        key = ", ".join(map(quote, self.key))
        return f"SELECT {key}, count(*) AS size FROM rows GROUP BY {key} HAVING count(*) > 1"

    def _query(self, statement: str) -> list[tuple[Any, ...]]:
        return self._connection.execute(statement).fetchall()


def _json_value(value: Any) -> Scalar:  # noqa: ANN401 - a value of any column
    """Return a value that JSON has; others become texts."""
    if value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    text = str(value)
    return text if len(text) <= TEXT_LENGTH else f"{text[:TEXT_LENGTH]}…"
