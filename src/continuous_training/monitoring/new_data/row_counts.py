"""The rows of each day with a checksum of them, counted where they lie: in the warehouse, or in a snapshot's files.

One expression asks both. All of it is whole numbers, which add up to the same in any order and in any database: a
fraction is rounded to a part of 1/1024, so that the last bit of it, which databases do not agree about, tells nothing.
"""

from __future__ import annotations

import calendar
import hashlib
from datetime import UTC, date, datetime, timedelta
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any

import ibis

from continuous_training.documents import Value
from continuous_training.errors import UserError
from continuous_training.monitoring.asked import fetched, fits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ibis.expr.types import Table

    from continuous_training.settings import Column, Data

PRIME = 2**31 - 1  # two numbers below it multiply within 64 bits
PARTS = 1024  # of a number: smaller corrections are none
LARGEST = 2.0**42  # what lies beyond is as good as this; with its parts it is an exact whole number
HEX, DIGITS = "0123456789abcdef", 4  # as many of a text's hash as are looked at
UNKNOWN = 1_234_567_891  # stands for a null
DAY_SECONDS = 24 * 3600
EPOCH = date(1970, 1, 1)


class Day(Value):
    """How many rows a day has, and what they add up to, which is another number if any value of them is another."""

    rows: int
    checksum: int


class Counted(Value):
    """The rows of each day in UTC before a moment, and from then on; those without a time are in neither."""

    before: dict[date, Day]
    after: dict[date, Day]
    newest: datetime | None
    timeless: int


def counted(table: Table, data: Data, moment: datetime) -> Counted:
    """Count the rows in one question.

    Args:
        table: what the query of training.yaml returns, or has returned.
        data: which columns it declares.
        moment: where the later rows begin, in UTC and without a zone.

    Raises:
        UserError: a column is not there or of another type, or the database gives up.
    """
    for name, column in data.columns.items():
        if name not in table.columns:
            raise UserError(f"the query does not return «{name}», which training.yaml declares: has a table changed?")
        if not fits(table[name], column):
            raise UserError(f"«{name}» is of type {table[name].type()}, not a {column.type}: has a table changed?")
    seconds = _seconds(table[data.time])
    lines = table.select(
        day=seconds // DAY_SECONDS,
        later=(seconds >= calendar.timegm(moment.timetuple())).ifelse(1, 0),
        seconds=seconds,
        checksum=_checksum(table, data),
    )
    found = fetched(
        lines.group_by("day", "later").aggregate(
            rows=lines.count(), newest=lines.seconds.max(), checksum=lines.checksum.sum()
        )
    )
    timed = found.dropna(subset=["day"])
    days: tuple[dict[date, Day], dict[date, Day]] = {}, {}
    for day, later, rows, checksum in timed[["day", "later", "rows", "checksum"]].itertuples(index=False):
        days[int(later)][EPOCH + timedelta(days=int(day))] = Day(rows=int(rows), checksum=int(checksum))
    newest = datetime.fromtimestamp(int(timed["newest"].max()), UTC).replace(tzinfo=None) if len(timed) else None
    timeless = int(found["rows"].sum() - timed["rows"].sum())
    return Counted(before=days[0], after=days[1], newest=newest, timeless=timeless)


def _checksum(table: Table, data: Data) -> Any:  # noqa: ANN401 - Ibis' expressions have no types
    """Return a number for each row, nearer to zero than PRIME: what its key comes to times what all else does.

    As a product it notices two rows of which each has a value of the other. Each column is in it once, because
    PostgreSQL computes an expression as often as it is written.
    """
    key = {data.time, *data.key}
    others = [name for name in data.columns if name not in key]
    return _together(table, data, sorted(key)) * _together(table, data, others) % PRIME


def _together(table: Table, data: Data, names: Sequence[str]) -> Any:  # noqa: ANN401
    """Return columns of a row as one number; each counts by a factor of its own, made from its name."""
    texts = [name for name in names if data.columns[name].type == "category"]
    numbers = {name: _whole(table[name], data.columns[name]) for name in names if name not in texts}
    if texts:
        numbers["|".join(sorted(texts))] = _hashed(table, sorted(texts))
    return reduce(add, [number % PRIME * _factor(name) % PRIME for name, number in sorted(numbers.items())]) % PRIME


def _whole(value: Any, column: Column) -> Any:  # noqa: ANN401
    """Return a column's values as whole numbers."""
    if column.type == "timestamp":
        return _seconds(value).fill_null(UNKNOWN)
    if value.type().is_boolean():  # PostgreSQL makes no bigint of it
        return ibis.cases((value, 1), (~value, 0), else_=UNKNOWN).cast("int64")
    if column.type == "integer":
        return value.cast("int64").fill_null(UNKNOWN)
    fraction = value.cast("float64")
    known = (fraction.isnull() | fraction.isnan()).ifelse(float(UNKNOWN), fraction)
    return (ibis.greatest(ibis.least(known, LARGEST), -LARGEST) * PARTS + 0.5).floor().cast("int64")


def _seconds(value: Any) -> Any:  # noqa: ANN401
    """Return a date or a timestamp, with a zone or in UTC, as seconds since 1970."""
    moment = value.cast("timestamp") if value.type().is_date() else value.truncate("s")
    return moment.epoch_seconds().cast("int64")


def _hashed(table: Table, names: Sequence[str]) -> Any:  # noqa: ANN401
    """Return all texts of a row as one number: of the functions that hash, every database has only MD5."""
    text = reduce(lambda before, after: before + "|" + after, [table[name].fill_null("∅") for name in names])
    digest = _to_hex(_md5(text)) if table.get_backend().name == "bigquery" else _md5(text)
    digits = (ibis.literal(HEX).find(digest.substr(place, 1)) * 16**place for place in range(DIGITS))
    return reduce(add, digits).cast("int32").cast("int64")  # which Ibis takes it for; in PostgreSQL it is an integer


@ibis.udf.scalar.builtin(name="md5", signature=(("string",), "string"))
def _md5(text):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Stand for the database's function."""


@ibis.udf.scalar.builtin(name="to_hex", signature=(("string",), "string"))
def _to_hex(digest):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Stand for BigQuery's function: its MD5 gives bytes."""


def _factor(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) % (PRIME - 1) + 1
