"""The rows of a snapshot in DuckDB, for checks: they are read from the Parquet files and never all in memory."""

# ruff: noqa: S608 - the statements are made of quoted names

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Self

from continuous_training.data import duckdb_connection
from continuous_training.data.duckdb_connection import literal, quote

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from continuous_training.documents import Scalar, Snapshot

FRESH = quote("ct.fresh")  # column that is true in the fresh rows
EPOCH = datetime(1970, 1, 1)
AGGREGATES = 1000  # in one statement: its memory grows with the number of columns
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
            [row] = self.query(f"SELECT {', '.join(expressions[name] for name in part)} FROM rows")
            values |= dict(zip(part, row, strict=True))
        return values

    def examples(self, condition: str, names: Iterable[str], limit: int) -> list[dict[str, Scalar]]:
        """Return the key and other columns of the first rows that meet a condition, in the order of their key."""
        shown = list(dict.fromkeys([*self.key, *names]))
        order = ", ".join([FRESH, *map(quote, self.key)])
        rows = self.query(
            f"SELECT {', '.join(map(quote, shown))} FROM rows WHERE {condition} ORDER BY {order} LIMIT {limit}"
        )
        return [dict(zip(shown, map(_json_value, row), strict=True)) for row in rows]

    def count_duplicates(self) -> int:
        """Count the rows whose key another row has too."""
        [[count]] = self.query(f"SELECT coalesce(sum(size), 0) FROM ({self._duplicate_keys()})")
        return int(count)

    def duplicates(self, limit: int) -> list[dict[str, Scalar]]:
        """Return the keys of the first rows whose key another row has too."""
        equal = " AND ".join(f"rows.{quote(name)} IS NOT DISTINCT FROM other.{quote(name)}" for name in self.key)
        return self.examples(f"EXISTS (SELECT 1 FROM ({self._duplicate_keys()}) AS other WHERE {equal})", [], limit)

    def classes(self, name: str, *, fresh: bool = True) -> list[Any]:
        """Return the different values of a column in all rows, or in the training rows, in their order; nulls apart."""
        rows = "" if fresh else f"AND NOT {FRESH}"
        value = quote(name)
        values = self.query(f"SELECT DISTINCT {value} FROM rows WHERE {value} IS NOT NULL {rows} ORDER BY 1")
        return [value for (value,) in values]

    def sample_labels(self, name: str, limit: int) -> list[Any]:
        """Return the values of a column in the first fresh rows, nulls apart."""
        value = quote(name)
        labels = self.query(f"SELECT {value} FROM rows WHERE {FRESH} AND {value} IS NOT NULL LIMIT {limit}")
        return [label for (label,) in labels]

    def fresh_class_sizes(self, name: str) -> list[int]:
        """Return how many fresh rows have each value of a column, nulls apart."""
        value = quote(name)
        sizes = self.query(f"SELECT count(*) FROM rows WHERE {FRESH} AND {value} IS NOT NULL GROUP BY {value}")
        return [size for (size,) in sizes]

    def count_fresh_periods(self, time: str, seconds: int) -> int:
        """Count the periods of this length, from 1970 on, that have fresh rows."""
        period = f"floor(epoch({quote(time)}) / {seconds})"
        [[count]] = self.query(f"SELECT count(DISTINCT {period}) FROM rows WHERE {FRESH}")
        return int(count)

    def count_by_period(self, time: str, seconds: float) -> dict[datetime, int]:
        """Return the number of rows of each period of this length, from 1970 on, that has some, by its begin."""
        period = f"floor(epoch({quote(time)}) / {seconds})"
        counts = self.query(f"SELECT {period}, count(*) FROM rows WHERE {quote(time)} IS NOT NULL GROUP BY ALL")
        return {EPOCH + timedelta(seconds=number * seconds): rows for number, rows in counts}

    def count_distinct(self, names: Sequence[str]) -> int:
        """Count the rows that differ in some of these columns, by a hash of 64 bits."""
        [[count]] = self.query(f"SELECT count(DISTINCT hash({', '.join(map(quote, names))})) FROM rows")
        return int(count)

    def missing_classes(self, target: str) -> list[str]:
        """Return the values of a target that training rows have and no fresh row has, in their order."""
        label = quote(target)
        values = f"SELECT {label} FROM rows WHERE {label} IS NOT NULL AND"
        missing = self.query(f"({values} NOT {FRESH} EXCEPT {values} {FRESH}) ORDER BY 1")
        return [str(value) for (value,) in missing]

    def count_fresh_values(self, name: str) -> int:
        """Count the distinct values of a column in the fresh rows; null is one."""
        column = quote(name)
        counts = f"count(DISTINCT {column}) + CAST(count(*) > count({column}) AS INTEGER)"
        [[count]] = self.query(f"SELECT {counts} FROM rows WHERE {FRESH}")
        return int(count)

    def _duplicate_keys(self) -> str:
        key = ", ".join(map(quote, self.key))
        return f"SELECT {key}, count(*) AS size FROM rows GROUP BY {key} HAVING count(*) > 1"

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """Return the rows of a statement on the view `rows`."""
        return self._connection.execute(statement).fetchall()


def _json_value(value: Any) -> Scalar:  # noqa: ANN401 - a value of any column
    """Return a value that JSON has; others become texts."""
    if value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    text = str(value)
    return text if len(text) <= TEXT_LENGTH else f"{text[:TEXT_LENGTH]}…"
