"""The number of rows of each day with a checksum, computed in the database that has them: a warehouse or DuckDB.

One Ibis expression serves both. It computes with whole numbers only, whose sum is the same in any order and in any
database. Fractions are rounded to multiples of 1/1024, because databases differ in the last bits.
"""

from __future__ import annotations

import calendar
import hashlib
from datetime import UTC, date, datetime, timedelta
from operator import add
from typing import TYPE_CHECKING, Any

import ibis

from continuous_training.documents import Value
from continuous_training.errors import UserError
from continuous_training.monitoring.balanced import fold
from continuous_training.monitoring.columns import has_declared_type
from continuous_training.monitoring.window import fetch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ibis.expr.types import Table

    from continuous_training.settings import Column, Data

TEXTS_AT_ONCE = 200  # in one hash: databases limit how deep an expression is
PRIME = 2**31 - 1  # the product of two smaller numbers fits into 64 bits
PRECISION = 1024  # fractions are rounded to multiples of 1/1024
MAX_NUMBER = 2.0**42  # larger numbers are clipped; multiplied by PRECISION, it is still an exact integer
HEX_DIGITS, HASH_LENGTH = "0123456789abcdef", 4  # the number of digits of a text's hash that are used
NULL = 1_234_567_891  # the number that stands for a null
DAY_SECONDS = 24 * 3600
EPOCH = date(1970, 1, 1)


class DayCount(Value):
    """The number of rows of a day, and their checksum, which changes if any value changes."""

    rows: int
    checksum: int


class RowCounts(Value):
    """The rows of each day in UTC before a moment and after it; `without_time` counts the rows whose time is null."""

    before: dict[date, DayCount]
    after: dict[date, DayCount]
    newest: datetime | None
    without_time: int


def count_rows(table: Table, data: Data, moment: datetime) -> RowCounts:
    """Count the rows of each day with one query.

    Args:
        table: the rows that the query of training.yaml returns or returned.
        data: the section `data` of training.yaml.
        moment: the first moment of the later rows, in UTC and without a time zone.

    Raises:
        UserError: a column is missing or has another type, or the database fails.
    """
    for name, column in data.columns.items():
        if name not in table.columns:
            raise UserError(f"the query returns no column '{name}', which training.yaml declares: has a table changed?")
        if not has_declared_type(table[name], column):
            raise UserError(
                f"column '{name}' has type {table[name].type()}, training.yaml declares {column.type}: "
                "has a table changed?"
            )
    if data.null_target == "drop":  # a snapshot lacks these rows
        targets = [table[name] for name in data.targets]
        table = table.filter(
            *(each.notnull() & ~each.isnan() if each.type().is_floating() else each.notnull() for each in targets)
        )
    seconds = _epoch_seconds(table[data.time])
    rows = table.select(
        day=seconds // DAY_SECONDS,
        later=(seconds >= calendar.timegm(moment.timetuple())).ifelse(1, 0),
        seconds=seconds,
        checksum=_row_checksum(table, data),
    )
    groups = fetch(
        rows.group_by("day", "later").aggregate(
            rows=rows.count(), newest=rows.seconds.max(), checksum=rows.checksum.sum()
        )
    )
    groups_with_time = groups.dropna(subset=["day"])
    days: tuple[dict[date, DayCount], dict[date, DayCount]] = {}, {}
    for day, later, count, checksum in groups_with_time[["day", "later", "rows", "checksum"]].itertuples(index=False):
        days[int(later)][EPOCH + timedelta(days=int(day))] = DayCount(rows=int(count), checksum=int(checksum))
    newest = (
        datetime.fromtimestamp(int(groups_with_time["newest"].max()), UTC).replace(tzinfo=None)
        if len(groups_with_time)
        else None
    )
    without_time = int(groups["rows"].sum() - groups_with_time["rows"].sum())
    return RowCounts(before=days[0], after=days[1], newest=newest, without_time=without_time)


def _row_checksum(table: Table, data: Data) -> Any:  # noqa: ANN401 - Ibis' expressions have no types
    """Return the checksum of each row: the number of its key times the number of its other columns, modulo PRIME.

    A product changes where two rows exchange a value, a sum would not. Each column occurs once, because PostgreSQL
    evaluates an expression as often as it is written.
    """
    key = {data.time, *data.key}
    others = [name for name in data.columns if name not in key]
    return _combine(table, data, sorted(key)) * _combine(table, data, others) % PRIME


def _combine(table: Table, data: Data, names: Sequence[str]) -> Any:  # noqa: ANN401
    """Return columns of a row as one number, in which each has a factor that is derived from its name."""
    texts = sorted(name for name in names if data.columns[name].type == "category")
    numbers = {name: _to_integer(table[name], data.columns[name]) for name in names if name not in texts}
    for first in range(0, len(texts), TEXTS_AT_ONCE):
        part = texts[first : first + TEXTS_AT_ONCE]
        numbers["|".join(part)] = _hash_texts(table, part)
    return fold(add, [number % PRIME * _factor(name) % PRIME for name, number in sorted(numbers.items())]) % PRIME


def _to_integer(value: Any, column: Column) -> Any:  # noqa: ANN401
    """Return a column's values as integers."""
    if column.type == "timestamp":
        return _epoch_seconds(value).fill_null(NULL)
    if value.type().is_boolean():  # PostgreSQL casts no boolean to bigint
        return ibis.cases((value, 1), (~value, 0), else_=NULL).cast("int64")
    if column.type == "integer":
        return value.cast("int64").fill_null(NULL)
    fraction = value.cast("float64")
    number = (fraction.isnull() | fraction.isnan()).ifelse(float(NULL), fraction)
    return (ibis.greatest(ibis.least(number, MAX_NUMBER), -MAX_NUMBER) * PRECISION + 0.5).floor().cast("int64")


def _epoch_seconds(value: Any) -> Any:  # noqa: ANN401
    """Return a date or a timestamp, with a time zone or in UTC, as seconds since 1970."""
    moment = value.cast("timestamp") if value.type().is_date() else value.truncate("s")
    return moment.epoch_seconds().cast("int64")


def _hash_texts(table: Table, names: Sequence[str]) -> Any:  # noqa: ANN401
    """Return all texts of a row as one number, from their MD5: the only hash function that every database has."""
    text = fold(lambda before, after: before + "|" + after, [table[name].fill_null("∅") for name in names])
    digest = _to_hex(_md5(text)) if getattr(table.get_backend(), "md5_returns_bytes", False) else _md5(text)
    digits = [ibis.literal(HEX_DIGITS).find(digest.substr(place, 1)) * 16**place for place in range(HASH_LENGTH)]
    return fold(add, digits).cast("int32").cast("int64")  # Ibis assumes int64; in PostgreSQL it is an integer


@ibis.udf.scalar.builtin(name="md5", signature=(("string",), "string"))
def _md5(text):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Declare the database's function."""


@ibis.udf.scalar.builtin(name="to_hex", signature=(("string",), "string"))
def _to_hex(digest):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Declare the function of a database whose MD5 returns bytes."""


def _factor(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) % (PRIME - 1) + 1
