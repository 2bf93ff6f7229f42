"""Check data: whether a snapshot is fit to train on. A failing check ends the run before any money is spent."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from continuous_training.comparison import rules, slices
from continuous_training.data.snapshots import read_snapshot
from continuous_training.documents import Check

if TYPE_CHECKING:
    import pandera.pandas as pa

    from continuous_training.documents import Run, Snapshot
    from continuous_training.settings import Column, Data, Settings

EXAMPLES = 5  # failing rows shown for each check
DTYPES = {
    "category": "string",
    "number": "float64",
    "integer": "int64",
    "boolean": "bool",
    "timestamp": "datetime64[us]",
}


def check(run: Run, settings: Settings, snapshot: Snapshot, champion: dict[str, str] | None) -> list[Check]:
    """Check the snapshot against training.yaml, and its volume against the champion's.

    Args:
        run: whose AS_OF freshness counts from.
        settings: the columns and their limits.
        snapshot: the snapshot.
        champion: the tags of the champion's MLflow run, or None if there is no champion.

    Returns:
        Every check, those passed and those failed.
    """
    parts = [read_snapshot(part.path, settings.data) for part in (snapshot.train, snapshot.fresh)]
    frame = pd.concat(parts, ignore_index=True)
    return [
        *columns(frame, settings.data),
        *values(frame, settings.data, len(parts[0])),
        unique(frame, settings.data),
        fresh_enough(run, settings, snapshot),
        *enough(settings, snapshot),
        *cases(parts[1], settings),
        volume(settings, snapshot, champion),
        *no_answer_among_the_features(frame, settings),
    ]


def columns(frame: pd.DataFrame, data: Data) -> list[Check]:
    """The columns are the declared ones, none is known only afterwards, and each holds something."""
    extra = [str(name) for name in frame if name not in data.columns]
    missing = [name for name in data.columns if name not in frame]
    afterwards = [name for name in data.known_afterwards if name in frame or name in data.features]
    empty = [str(name) for name in frame if frame[name].isna().all()]
    return [
        _named("columns missing", missing, "every declared column is there", "the query does not return {}"),
        _named("columns undeclared", extra, "no column is undeclared", "training.yaml does not declare {}"),
        _named(
            "known afterwards",
            afterwards,
            "no column is known only afterwards",
            "known only afterwards, so no server could be asked with it: {}",
        ),
        _named("columns empty", empty, "every column has values", "{} has no value in any row"),
    ]


def values(frame: pd.DataFrame, data: Data, train: int) -> list[Check]:
    """Each declared column has its type, its limits and not too many nulls (pandera looks; all rows, all columns).

    The first `train` rows are those to train on. Nulls are counted in them and in the fresh rows apart, for a source
    that has dried up shows in the few fresh rows first.
    """
    import pandera.errors  # two seconds that only this stage pays
    import pandera.pandas as pa

    present = {name: column for name, column in data.columns.items() if name in frame}
    try:
        schema = {name: _schema(column, train) for name, column in present.items()}
        pa.DataFrameSchema(schema).validate(frame, lazy=True)
        failures = pd.DataFrame(columns=["column", "check", "failure_case", "index"])
    except pandera.errors.SchemaErrors as error:
        failures = error.failure_cases
    return [
        _of_column(name, column, frame, failures[failures["column"] == name], data.key, train)
        for name, column in present.items()
    ]


def unique(frame: pd.DataFrame, data: Data) -> Check:
    """No two rows have the same key."""
    key = [name for name in data.key if name in frame]
    again = frame.duplicated(key, keep=False)
    message = f"{again.sum():,} rows share their key ({', '.join(key)})" if again.any() else "every key is there once"
    return Check(name="duplicates", passed=not again.any(), message=message, rows=_examples(frame[again], key))


def fresh_enough(run: Run, settings: Settings, snapshot: Snapshot) -> Check:
    """The newest row is not too old for AS_OF."""
    age = run.as_of - snapshot.newest
    limit = timedelta(days=settings.checks.max_age_days)
    days = age / timedelta(days=1)
    message = f"the newest row is {days:.1f} days before AS_OF, at most {settings.checks.max_age_days:g} may be"
    return Check(name="freshness", column=settings.data.time, passed=age <= limit, message=message)


def enough(settings: Settings, snapshot: Snapshot) -> list[Check]:
    """There are enough rows to train on, and enough to judge by."""
    limits = settings.checks
    return [
        Check(name=name, passed=rows >= least, message=f"{rows:,} rows; at least {least:,} are needed")
        for name, rows, least in (
            ("rows to train on", snapshot.train.rows, limits.min_train_rows),
            ("rows to judge by", snapshot.fresh.rows, limits.min_fresh_rows),
        )
    ]


def cases(fresh: pd.DataFrame, settings: Settings) -> list[Check]:
    """The fresh rows can tell models apart with the confidence that the comparison asks for."""
    data = settings.data
    if data.target not in fresh or data.time not in fresh:
        return []
    classes = fresh[data.target] if settings.model.task == "classification" else None
    groups = slices.together(fresh[data.time], settings.compare.resample_by)
    rule = rules.enough(classes, groups, len(fresh), settings.compare)
    return [Check(name=rule.name, column=data.target, passed=rule.passed, message=rule.message)]


def volume(settings: Settings, snapshot: Snapshot, champion: dict[str, str] | None) -> Check:
    """The fresh rows a day are about as many as in the champion's snapshot."""
    before = float((champion or {}).get("ct.fresh_rows_per_day", 0))
    now = snapshot.fresh_rows_per_day
    if not before:
        return Check(name="volume", passed=True, message=f"{now:,.0f} rows a day; there is no champion to compare with")
    low, high = settings.checks.volume
    message = (
        f"{now:,.0f} rows a day, {now / before:.2f} times the champion's {before:,.0f}; {low:g} to {high:g} are allowed"
    )
    return Check(name="volume", passed=low <= now / before <= high, message=message)


def no_answer_among_the_features(frame: pd.DataFrame, settings: Settings) -> list[Check]:
    """No single numeric feature ranks the target so well that it must have been made from it."""
    data = settings.data
    if settings.model.task != "classification" or data.target not in frame or frame[data.target].nunique() != 2:
        return []
    limit = settings.checks.max_single_feature_auc
    found = {}
    for name in data.features_of("number"):
        if name not in frame or not pd.api.types.is_numeric_dtype(frame[name]):
            continue
        known = frame.loc[frame[name].notna(), [name, data.target]]
        if known[data.target].nunique() == 2:
            auc = _auc(known[name], known[data.target] == known[data.target].max())
            found[name] = max(auc, 1 - auc)
    if not found:
        return []
    best = max(found, key=lambda name: found[name])
    message = (
        f"«{best}» alone ranks the target with AUC {found[best]:.2f}; above {limit:g} it must have been made from it"
    )
    return [Check(name="leaks", column=best, passed=found[best] <= limit, message=message)]


def _auc(values: pd.Series[Any], positive: pd.Series[bool]) -> float:
    """Return how well values rank the positive rows above the others, by the sum of ranks of Mann and Whitney.

    scikit-learn would say the same, and take seconds to be imported for it.
    """
    cases = int(positive.sum())
    above = values.rank()[positive].sum() - cases * (cases + 1) / 2
    return float(above / (cases * (len(values) - cases)))


def _null_share(values: pd.Series[Any], train: int) -> float:
    """Return the share of nulls in the training rows or in the fresh ones, whichever is larger."""
    return float(max(values.iloc[:train].isna().mean(), values.iloc[train:].isna().mean()))


def _schema(column: Column, train: int) -> pa.Column:
    import pandera.pandas as pa

    limits = []
    if column.min is not None:
        limits.append(pa.Check.ge(column.min))
    if column.max is not None:
        limits.append(pa.Check.le(column.max))
    if column.values is not None:
        limits.append(pa.Check.isin(column.values))
    if column.max_null_share < 1:
        share = column.max_null_share
        limits.append(pa.Check(lambda values: _null_share(values, train) <= share, name="nulls", ignore_na=False))
    return pa.Column(DTYPES[column.type], limits, nullable=True, coerce=False)


def _of_column(
    name: str, column: Column, frame: pd.DataFrame, failures: pd.DataFrame, key: list[str], train: int
) -> Check:
    """Say what pandera found of one column, or what it is like if nothing was found."""
    if failures.empty:
        return Check(name="values", column=name, passed=True, message=_like(frame[name]))
    message = []
    for asked, cases in failures.groupby("check", sort=False):
        found = _plain(cases["failure_case"].iloc[0])
        if str(asked).startswith("dtype"):
            message.append(f"is {found}, should be {column.type}")
        elif asked == "nulls":
            nulls = frame[name].isna()
            shares = f"{nulls[:train].mean():.1%} of the training rows and {nulls[train:].mean():.1%} of the fresh ones"
            message.append(f"is null in {shares}; {column.max_null_share:.0%} are allowed")
        else:
            message.append(f"fails {asked} in {len(cases):,} rows, with {found!r} for one")
    rows = frame.loc[failures["index"].dropna().astype(int).unique()]
    if rows.empty:
        rows = frame[frame[name].isna()]
    return Check(
        name="values", column=name, passed=False, message="; ".join(message), rows=_examples(rows, [*key, name])
    )


def _like(values: pd.Series[Any]) -> str:
    nulls = f", {values.isna().mean():.1%} null" if values.isna().any() else ""
    if pd.api.types.is_bool_dtype(values):
        return f"{values.mean():.1%} true{nulls}"
    if pd.api.types.is_numeric_dtype(values):
        return f"{values.min():g} to {values.max():g}{nulls}"
    if pd.api.types.is_datetime64_any_dtype(values):
        return f"{values.min():%Y-%m-%d} to {values.max():%Y-%m-%d}{nulls}"
    return f"{values.nunique():,} values{nulls}"


def _examples(rows: pd.DataFrame, names: list[str]) -> list[dict[str, Any]]:
    """Return a few rows, with plain Python values that JSON knows."""
    shown = rows[[name for name in dict.fromkeys(names) if name in rows]].head(EXAMPLES)
    return [{str(name): _plain(value) for name, value in row.items()} for row in shown.to_dict("records")]


def _plain(value: Any) -> Any:  # noqa: ANN401 - a cell of any column
    if value is None or value is pd.NaT or (isinstance(value, float) and np.isnan(value)):
        return None
    if isinstance(value, np.generic):
        return value.item()
    return value if isinstance(value, str | int | float | bool) else str(value)


def _named(name: str, found: list[str], well: str, ill: str) -> Check:
    listed = ", ".join(f"«{column}»" for column in found)
    return Check(name=name, passed=not found, message=ill.format(listed) if found else well)
