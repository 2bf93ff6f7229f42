"""The columns: which ones there are, their types, values and nulls, and the weights."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from continuous_training.data.duckdb_connection import literal, quote
from continuous_training.data.snapshot_rows import FRESH, SnapshotRows
from continuous_training.data.snapshots import ARROW_TYPES
from continuous_training.documents import Check
from continuous_training.formatting import format_percent
from continuous_training.stages.data_checks import EXAMPLES

if TYPE_CHECKING:
    from continuous_training.documents import Scalar
    from continuous_training.settings import Column, Data


def check_columns(rows: SnapshotRows, data: Data) -> list[Check]:
    """Check that the columns are the declared ones, that none is known only afterwards, and that none is empty."""
    undeclared_columns = [name for name in rows.types if name not in data.columns]
    missing = [name for name in data.columns if name not in rows.types]
    afterwards = [name for name in data.known_afterwards if name in rows.types or name in data.features]
    counts = rows.aggregate({name: f"count({quote(name)})" for name in rows.types})
    empty = [name for name, count in counts.items() if not count]
    return [
        _check_names("columns missing", missing, "every declared column is there", "the data does not have {}"),
        _check_names(
            "columns undeclared", undeclared_columns, "no column is undeclared", "training.yaml does not declare {}"
        ),
        _check_names(
            "known afterwards",
            afterwards,
            "no column is known only afterwards",
            "known only afterwards, so no request could contain it: {}",
        ),
        _check_names("columns empty", empty, "every column has values", "{} has no value in any row"),
    ]


def check_values(rows: SnapshotRows, data: Data) -> list[Check]:
    """Check that each declared column has its type, is within its limits and has not too many nulls.

    The shares of nulls in the training rows and in the fresh rows are limited separately: a source that has stopped
    shows in the few fresh rows first.
    """
    expressions: dict[tuple[str, str], str] = {}
    columns: dict[str, dict[str, str]] = {}
    for name, column in data.columns.items():
        if name in rows.types:
            has_type = rows.types[name] == str(ARROW_TYPES[column.type])
            columns[name] = _violations(name, column) if has_type else {}
            expressions |= {
                (name, violation): f"count_if({condition})" for violation, condition in columns[name].items()
            }
            expressions |= {
                (name, statistic): expression
                for statistic, expression in _statistics(name, column if has_type else None).items()
            }
    values: dict[str, dict[str, Any]] = {name: {} for name in columns}
    for (name, label), value in rows.aggregate(expressions).items():
        values[name][label] = value
    return [_check_column(rows, name, data, values[name], conditions) for name, conditions in columns.items()]


def check_weights(rows: SnapshotRows, data: Data) -> list[Check]:
    """Check that a column of weights has no null and no negative one, and that not all training rows weigh nothing."""
    name = data.weight
    if name is None or rows.types.get(name) != str(ARROW_TYPES[data.columns[name].type]):
        return []  # another type is reported for the column
    conditions = {"is null": f"{quote(name)} IS NULL", "is negative": f"{quote(name)} < 0"}
    counts = rows.aggregate(
        {problem: f"count_if({condition})" for problem, condition in conditions.items()}
        | {"positive": f"count_if({quote(name)} > 0 AND NOT {FRESH})"}
    )
    problems = [f"{problem} in {counts[problem]:,} rows" for problem in conditions if counts[problem]]
    examples = [
        row
        for problem, condition in conditions.items()
        if counts[problem]
        for row in rows.examples(condition, [name], EXAMPLES)
    ]
    if not counts["positive"]:
        problems.append("is not positive in any training row")
    message = "; ".join(problems) or "no weight is null or negative"
    return [Check(name="weights", column=name, passed=not problems, message=message, rows=examples[:EXAMPLES])]


def _violations(name: str, column: Column) -> dict[str, str]:
    """Return the SQL condition of each way to violate a column's limits, by its description."""
    value = quote(name)
    conditions = {"is infinite": f"isinf({value})"} if column.type == "number" else {}
    if column.min is not None:
        conditions[f"is below the minimum {column.min:g}"] = f"{value} < {column.min!r}"
    if column.max is not None:
        conditions[f"is above the maximum {column.max:g}"] = f"{value} > {column.max!r}"
    if column.values is not None:
        allowed = ", ".join(literal(str(one)) for one in column.values if one is not None)
        conditions["is not among the allowed values"] = (
            f"CAST({value} AS VARCHAR) NOT IN ({allowed})" if allowed else f"{value} IS NOT NULL"
        )
    return conditions


def _statistics(name: str, column: Column | None) -> dict[str, str]:
    """Return the SQL aggregates that describe a column; None is one of another type than declared."""
    value = quote(name)
    expressions = {
        "train": f"count({value}) FILTER (WHERE NOT {FRESH})",
        "fresh": f"count({value}) FILTER (WHERE {FRESH})",
    }
    if column is None:
        return expressions
    if column.type == "category":
        return expressions | {"distinct": f"count(DISTINCT {value})"}
    if column.type == "boolean":
        return expressions | {"true": f"avg(CAST({value} AS INTEGER))"}
    return expressions | {"low": f"min({value})", "high": f"max({value})"}


def _check_column(
    rows: SnapshotRows, name: str, data: Data, values: dict[str, Any], conditions: dict[str, str]
) -> Check:
    """Report what is wrong with a column, or describe it."""
    column = data.columns[name]
    messages: list[str] = []
    examples: list[dict[str, Scalar]] = []
    if rows.types[name] != str(ARROW_TYPES[column.type]):
        messages.append(f"is of type {rows.types[name]}, should be {column.type}")
    for violation, condition in conditions.items():
        if values[violation]:
            failing = rows.examples(condition, [name], EXAMPLES)
            messages.append(f"{violation} in {values[violation]:,} rows, for example {failing[0][name]!r}")
            examples += [row for row in failing if row not in examples]
    train, fresh = 1 - values["train"] / rows.train, 1 - values["fresh"] / rows.fresh
    if max(train, fresh) > column.max_null_share:
        shares = f"{train:.1%} of the training rows and {fresh:.1%} of the fresh ones"
        allowed = f"{format_percent(column.max_null_share)} are allowed"
        if name in data.targets:
            count = rows.train + rows.fresh - values["train"] - values["fresh"]
            allowed = f"null_target: drop leaves out these {count:,} rows"
        messages.append(f"is null in {shares}; {allowed}")
        examples = examples or rows.examples(f"{quote(name)} IS NULL", [name], EXAMPLES)
    nulls = 1 - (values["train"] + values["fresh"]) / (rows.train + rows.fresh)
    message = "; ".join(messages) or _describe(values, nulls)
    return Check(name="values", column=name, passed=not messages, message=message, rows=examples[:EXAMPLES])


def _describe(values: dict[str, Any], nulls: float) -> str:
    """Describe the values of a column without mistakes."""
    suffix = f", {nulls:.1%} null" if nulls else ""
    if values.get("distinct") is not None:
        return f"{values['distinct']:,} values{suffix}"
    if values.get("true") is not None:
        return f"{values['true']:.1%} true{suffix}"
    if values.get("low") is None:
        return "no values"
    pattern = "%Y-%m-%d" if isinstance(values["low"], datetime) else "g"
    return f"{values['low']:{pattern}} to {values['high']:{pattern}}{suffix}"


def _check_names(name: str, names: list[str], success: str, failure: str) -> Check:
    text = ", ".join(f"'{column}'" for column in names)
    return Check(name=name, passed=not names, message=failure.format(text) if names else success)
