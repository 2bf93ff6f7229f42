"""What the data look like: types, nulls, ranges and cardinalities of their columns, and how rows arrive."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from continuous_training.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    import ibis.expr.datatypes as dt
    from ibis.expr.types import Column, Scalar, Table

    from continuous_training.new_model.origin import Origin

Kind = Literal["boolean", "integer", "number", "text", "date", "timestamp", "other"]
MIN_COLUMNS = 3
AT_ONCE = 250  # columns in one statement


class ColumnProfile(NamedTuple):
    """One column; counts do not include nulls and NaN."""

    name: str
    kind: Kind
    rows: int
    values: int
    distinct: int  # approximate where there are many
    min: Any = None
    max: Any = None

    @property
    def null_share(self) -> float:
        """The share of rows without a value."""
        return 1 - self.values / self.rows

    @property
    def is_constant(self) -> bool:
        """Whether all rows have the same value, or none."""
        return self.distinct <= 1


class Day(NamedTuple):
    """The rows of one day, by the target's value if it is a class."""

    day: date
    value: Any  # the class; None where the rows are counted together
    rows: int
    targets: int  # rows whose target is known


def profile(origin: Origin) -> dict[str, ColumnProfile]:
    """Describe every column.

    Raises:
        UserError: there are no rows or columns, or two columns differ in capitals only.
    """
    table = origin.rows
    if len(table.columns) < MIN_COLUMNS:
        raise UserError(
            f"{origin.title} has {len(table.columns)} columns; a time, a target and a feature need {MIN_COLUMNS}: "
            "is a CSV file incomplete, or without a header?"
        )
    _check_names(list(table.columns), origin.title)
    kinds = {name: _kind(dtype) for name, dtype in table.schema().items()}
    supported_columns = [name for name, kind in kinds.items() if kind != "other"]
    rows = _count(table)
    if not rows:
        raise UserError(f"{origin.title} has no rows")
    statistics: dict[str, Any] = {}
    for first in range(0, len(supported_columns), AT_ONCE):
        statistics |= _aggregate(table, {name: kinds[name] for name in supported_columns[first : first + AT_ONCE]})
    return {name: ColumnProfile(name, kind, rows, *statistics.get(name, (rows, 0))) for name, kind in kinds.items()}


def is_unique(origin: Origin, names: Sequence[str]) -> bool:
    """Whether no two rows have the same values in these columns, and none of them is null."""
    table = origin.rows
    keys = table.filter([table[name].notnull() for name in names]).select(*names).distinct()
    return bool(_count(table) == _count(keys))


def values_of(origin: Origin, name: str, limit: int) -> list[Any]:
    """Return the values of a column in their order, up to a limit; None is not one."""
    column = origin.rows[name]
    distinct = origin.rows.filter(column.notnull()).select(name).distinct().order_by(name).limit(limit)
    return [row[name] for row in distinct.to_pyarrow().to_pylist()]


def days_of(origin: Origin, time: str, target: str, *, by_class: bool) -> list[Day]:
    """Count the rows of each day (UTC), in order; with `by_class` those of each class."""
    table = origin.rows.select(time, target)
    days = table.filter(table[time].notnull()).mutate(ct_day=table[time].cast("timestamp").truncate("D"))
    groups = days.group_by(["ct_day", target] if by_class else ["ct_day"])
    rows = groups.aggregate(ct_rows=days.count(), ct_targets=days[target].count()).to_pyarrow().to_pylist()
    return sorted(
        (
            Day(row["ct_day"].date(), row[target] if by_class else None, row["ct_rows"], row["ct_targets"])
            for row in rows
        ),
        key=lambda day: day.day,
    )


def _count(table: Table) -> int:
    return int(table.count().to_pyarrow().as_py())


def _check_names(names: list[str], title: str) -> None:
    first_spellings: dict[str, str] = {}
    for name in names:
        if (other := first_spellings.setdefault(name.lower(), name)) != name or names.count(name) > 1:
            raise UserError(
                f"{title} has two columns whose names differ in capitals only, '{other}' and '{name}': rename one"
            )


def _kind(dtype: dt.DataType) -> Kind:
    if dtype.is_boolean():
        return "boolean"
    if dtype.is_integer():
        return "integer"
    if dtype.is_floating() or dtype.is_decimal():
        return "number"
    if dtype.is_string() or dtype.is_uuid():
        return "text"
    if dtype.is_date():
        return "date"
    return "timestamp" if dtype.is_timestamp() else "other"


def _aggregate(table: Table, kinds: dict[str, Kind]) -> dict[str, tuple[Any, ...]]:
    measures: dict[str, Scalar] = {}
    for place, (name, kind) in enumerate(kinds.items()):
        column = _without_nan(table[name]) if table[name].type().is_floating() else table[name]
        measures |= {f"values_{place}": column.count(), f"distinct_{place}": column.approx_nunique()}
        if kind not in {"boolean", "text"}:
            measures |= {f"min_{place}": column.min(), f"max_{place}": column.max()}
    [row] = table.aggregate(**measures).to_pyarrow().to_pylist()
    return {
        name: tuple(row.get(f"{measure}_{place}") for measure in ("values", "distinct", "min", "max"))
        for place, name in enumerate(kinds)
    }


def _without_nan(column: Column) -> Column:
    import ibis

    return ibis.ifelse(column.isnan(), None, column)
