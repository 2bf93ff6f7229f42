"""What each column is: the time, the target, a part of the key, a feature, or none of these."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from continuous_training.errors import UsageError, UserError
from continuous_training.new_model.dialogue import shorten
from continuous_training.new_model.profile import ColumnProfile, is_unique, values_of

if TYPE_CHECKING:
    from continuous_training.new_model.dialogue import Dialogue
    from continuous_training.new_model.origin import Origin

Task = Literal["classification", "regression"]
MAX_CLASSES = 50
FEW_NUMBERS = 10  # a target of whole numbers with no more values is treated as classes
NEARLY_UNIQUE = 0.7  # the share of distinct values, which is approximate, above which a column may identify rows
DENSE = 10  # whole numbers that identify rows lie in a range of so many times the number of rows
MAX_PAIRS = 30  # of columns that are tried as a key


class RoleOptions(NamedTuple):
    """The options of the command line for the columns' roles."""

    time: str | None = None
    target: str | None = None
    key: tuple[str, ...] = ()
    task: str | None = None


class Roles(NamedTuple):
    """The columns' roles; `unused` has the reason why a column is no feature."""

    time: str
    target: str
    key: tuple[str, ...]
    task: Task
    classes: tuple[Any, ...]  # the target's values in their order; empty for a regression
    features: tuple[str, ...]
    unused: dict[str, str]


def choose_roles(
    origin: Origin, columns: dict[str, ColumnProfile], options: RoleOptions, dialogue: Dialogue, max_categories: int
) -> Roles:
    """Choose the columns' roles: by the options, by a prompt, or from the data.

    Raises:
        UsageError: an option names a column that cannot have that role, or one is missing.
        UserError: the data have no column for a role.
    """
    time = _time(columns, options.time, dialogue)
    target = _target(columns, options.target, time, dialogue)
    task, classes = _task(origin, columns[target], options.task, dialogue)
    key = _key(origin, columns, options.key, (time, target), dialogue)
    unused = {
        name: reason
        for name, column in columns.items()
        if name not in {time, target, *key} and (reason := _reason_against(column, max_categories))
    }
    features = tuple(name for name in columns if name not in {time, target, *key, *unused})
    if not features:
        raise UserError(f"no column of {origin.title} can be a feature: {_list_reasons(unused)}")
    return Roles(time, target, key, task, classes, features, unused)


def _time(columns: dict[str, ColumnProfile], option: str | None, dialogue: Dialogue) -> str:
    moments = [name for name, column in columns.items() if column.kind in {"timestamp", "date"} and column.values]

    def check(name: str) -> None:
        _check_name("time", name, columns)
        if name not in moments:
            kind = columns[name].kind if columns[name].values else "empty"
            raise UsageError(
                f"--time {name} is {kind}: it must be a timestamp or a date, written as 2024-12-31T23:59 in a CSV file"
            )

    if option:
        check(option)
        return option
    if not moments:
        kinds = shorten([f"{name} ({column.kind})" for name, column in columns.items()])
        raise UserError(
            "there is no time column: no column is a timestamp or a date, written as 2024-12-31 or 2024-12-31T23:59 (a "
            f"--query can convert another format); there are {kinds}"
        )
    guess = moments[0] if len(moments) == 1 else None
    return dialogue.choose(
        "time", "The column with each row's time", moments, guess=guess, reason="the only one with times", check=check
    )


def _target(columns: dict[str, ColumnProfile], option: str | None, time: str, dialogue: Dialogue) -> str:
    choices = [name for name in columns if name != time]

    def check(name: str) -> None:
        _check_name("target", name, columns)
        column = columns[name]
        if column.kind not in {"boolean", "integer", "number", "text"}:
            raise UsageError(f"--target {name} is of type {column.kind}: it must be a number, a text or true and false")
        if column.is_constant:
            raise UsageError(
                f"--target {name} is constant: all rows have the same value, so there is nothing to predict"
            )

    if option:
        check(option)
        return option
    return dialogue.choose("target", "The column to predict", choices, check=check)


def _task(
    origin: Origin, target: ColumnProfile, option: str | None, dialogue: Dialogue
) -> tuple[Task, tuple[Any, ...]]:
    few = values_of(origin, target.name, MAX_CLASSES + 1) if target.distinct <= 2 * MAX_CLASSES else None
    classes = tuple(few) if few is not None and len(few) <= MAX_CLASSES else None

    def check(task: str) -> None:
        if task == "regression" and target.kind in {"boolean", "text"}:
            raise UsageError(f"--task regression: the target {target.name} is of type {target.kind}, not a number")
        if task == "classification" and classes is None:
            size = (
                f"about {target.distinct:,} values, {target.min} to {target.max}"
                if target.kind != "text"
                else f"about {target.distinct:,} values"
            )
            raise UsageError(
                f"--task classification: the target {target.name} has {size}; at most {MAX_CLASSES} classes are "
                "supported"
            )

    if target.kind in {"boolean", "text"}:
        guess, reason = "classification", f"the target is {target.kind}"
    elif classes is not None and (len(classes) == 2 or (target.kind == "integer" and len(classes) <= FEW_NUMBERS)):
        guess, reason = "classification", f"the target has {len(classes)} values"
    else:
        guess, reason = "regression", f"the target has about {target.distinct:,} values"
    if option:
        check(option)
    task = option or dialogue.choose(
        "task", "What is predicted", ["classification", "regression"], guess=guess, reason=reason, check=check
    )
    if task == "classification":
        return "classification", classes or ()
    return "regression", ()


def _key(
    origin: Origin,
    columns: dict[str, ColumnProfile],
    option: tuple[str, ...],
    roles: tuple[str, str],
    dialogue: Dialogue,
) -> tuple[str, ...]:
    time, target = roles

    def check(text: str) -> None:
        names = _split(text)
        for name in names:
            _check_name("key", name, columns)
            if columns[name].kind in {"number", "other"} or name == target:
                raise UsageError(
                    f"--key {name} cannot identify rows: it is {'the target' if name == target else columns[name].kind}"
                )
        if not is_unique(origin, names):
            raise UsageError(f"--key {text} does not identify a row: several rows have the same values, or nulls")

    if option:
        check(",".join(option))
        return option
    guess = _guess_key(origin, columns, time, target)
    choices = [name for name, column in columns.items() if column.kind not in {"number", "other"} and name != target]
    return _split(
        dialogue.choose(
            "key",
            "The columns that together identify a row, with commas between them",
            choices,
            guess=",".join(guess) if guess else None,
            reason="unique in all rows",
            check=check,
        )
    )


def _guess_key(origin: Origin, columns: dict[str, ColumnProfile], time: str, target: str) -> tuple[str, ...] | None:
    """Return a column that is unique, or else the time, or the time with another column."""
    possible = [
        column
        for column in columns.values()
        if column.kind in {"integer", "text", "timestamp", "date"}
        and column.values == column.rows
        and column.name != target
    ]
    alone = [
        column.name for column in possible if column.name != time and column.distinct >= NEARLY_UNIQUE * column.rows
    ]
    alone.sort(key=lambda name: not name.lower().endswith(("id", "key", "number", "no")))
    pairs = [(time, column.name) for column in possible if column.kind in {"integer", "text"}]
    candidates: list[tuple[str, ...]] = [*((name,) for name in alone), (time,), *pairs[:MAX_PAIRS]]
    return next((names for names in candidates if is_unique(origin, names)), None)


def _reason_against(column: ColumnProfile, max_categories: int) -> str | None:
    """Return why a column is no feature."""
    if column.kind == "other":
        return "has a type that no model receives"
    if not column.values:
        return "is empty"
    if column.is_constant:
        return "is constant"
    if column.kind in {"timestamp", "date"}:
        return "is a moment: compute a duration from it to make it a feature"
    nearly_unique = column.distinct >= NEARLY_UNIQUE * column.values and column.rows > MAX_CLASSES
    if nearly_unique and (
        column.kind == "text" or (column.kind == "integer" and column.max - column.min < DENSE * column.rows)
    ):
        return "identifies rows"
    if column.kind == "text" and column.distinct > max_categories:
        return f"has about {column.distinct:,} categories, and {max_categories} are the most for a feature"
    return None


def _check_name(option: str, name: str, columns: dict[str, ColumnProfile]) -> None:
    if name not in columns:
        raise UsageError(f"--{option} {name}: there is no such column; there are {shorten([*columns])}")


def _split(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _list_reasons(unused: dict[str, str]) -> str:
    return (
        "; ".join(f"'{name}' {reason}" for name, reason in itertools.islice(unused.items(), 5))
        or "there are none besides time, target and key"
    )
