"""Columns as the monitor compares them: categories as text, all other types as numbers, in Ibis and in DuckDB's SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from continuous_training.settings import Column

PREDICTION, ORDER = "ct.prediction", "ct.order"  # names of the columns beside the features


def cast_column(value: Any, column: Column) -> Any:  # noqa: ANN401 - Ibis' expressions have no types
    """Return an Ibis column as text if it is a category, as a number otherwise; timestamps are epoch seconds."""
    if column.type == "category":
        return value.cast("string")
    if column.type == "timestamp":
        return value.cast("timestamp").epoch_seconds().cast("float64")
    if value.type().is_boolean():
        value = value.cast("int32")  # PostgreSQL casts no boolean to a floating point number
    return value.cast("float64")


def cast_sql(expression: str, column: Column) -> str:
    """Return DuckDB's SQL for the same cast of an expression of any type; invalid values become null."""
    if column.type == "category":
        return f"CAST({expression} AS VARCHAR)"
    if column.type == "timestamp":
        return f"epoch(TRY_CAST({expression} AS TIMESTAMP))"
    if column.type == "boolean":
        return f"CAST(TRY_CAST({expression} AS BOOLEAN) AS DOUBLE)"
    number = f"TRY_CAST({expression} AS DOUBLE)"
    return f"CASE WHEN isfinite({number}) THEN {number} END"


def has_declared_type(value: Any, column: Column) -> bool:  # noqa: ANN401
    """Return whether an Ibis column has the type that training.yaml declares."""
    data_type = value.type()
    if column.type == "category":
        return bool(data_type.is_string())
    if column.type == "timestamp":
        return bool(data_type.is_temporal())
    return bool(data_type.is_numeric() or data_type.is_boolean())
