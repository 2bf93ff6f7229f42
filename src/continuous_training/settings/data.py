"""The rows: where they come from, what they hold, which of them are used, and what is checked."""

from __future__ import annotations

import re
from datetime import date
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from continuous_training.documents import Scalar
from continuous_training.function_references import PATTERN
from continuous_training.settings.section import Mistake, Section

if TYPE_CHECKING:
    from collections.abc import Iterator


class Column(Section):
    """One column: its type, whether it is a feature, and its limits."""

    type: Literal["category", "number", "integer", "boolean", "timestamp"]
    """What the values are. `category` is text. The model receives the nulls of a `number` as NaN, and an `integer`
    or a `boolean` that may have nulls as a number: true is 1. `timestamp` is in UTC."""

    feature: bool = True
    """Whether the model receives the column. The target, the time and the parts of the key usually are no features."""

    max_null_share: float = Field(default=0.0, ge=0, le=1)
    """The largest share of nulls, from 0 to 1, in the training rows and in the fresh rows; a larger one ends the run at
    Check data."""

    min: float | None = Field(default=None, examples=[0])
    """The smallest value, in the column's unit; a smaller one ends the run at Check data."""

    max: float | None = Field(default=None, examples=[100])
    """The largest value, in the column's unit; a larger one ends the run at Check data."""

    values: list[Scalar] | None = Field(default=None, examples=[["EWR", "JFK", "LGA"]])
    """All values that the column may have; any other one ends the run at Check data. Leave it out if new values are
    normal."""

    @property
    def becomes_double(self) -> bool:
        """Whether the model receives an integer or a boolean as a double, because it may have nulls."""
        return self.max_null_share > 0 and self.type in {"integer", "boolean"}

    def find_mistakes(self) -> Iterator[Mistake]:
        """Yield limits that a column of this type does not have."""
        for limit in ("min", "max"):
            if getattr(self, limit) is not None and self.type not in {"number", "integer"}:
                yield limit, f"a column of type {self.type} has no {limit}; only number and integer have"
        if self.type == "category" and (wrong := [one for one in self.values or () if isinstance(one, bool)]):
            yield "values", f"{str(wrong[0]).lower()} is a boolean, as YAML reads NO, Off and yes: put texts in quotes"
        if self.values is not None and self.type == "timestamp":
            yield "values", "a column of type timestamp has no list of values"


def _kind_of_target(value: Any) -> str:  # noqa: ANN401 - whatever the file has
    return "list" if isinstance(value, list) else "name"


def _kind_of_days(value: Any) -> str:  # noqa: ANN401 - whatever the file has
    return "text" if isinstance(value, str) else "number"


# By its kind: otherwise a mistake would be reported for both kinds
Target = Annotated[
    Annotated[str, Tag("name")] | Annotated[list[str], Tag("list")],
    Discriminator(_kind_of_target),
]


Days = Annotated[
    Annotated[int, Field(gt=0), Tag("number")] | Annotated[Literal["auto"], Tag("text")],
    Discriminator(_kind_of_days),
]
FIRST_FRESH_DAYS = 28  # with auto, until there are comparisons


class Data(Section):
    """The query or other source of the rows, their columns, and the windows of time."""

    query: str | None = Field(
        default=None, examples=["SELECT * FROM orders WHERE placed >= $since AND placed < $until"]
    )
    """Where the rows come from: this, or `source`. A SELECT in DuckDB's SQL, which is translated for every other
    warehouse. It must use `$since` and `$until`, which are bound to the window's begin and end, in UTC. It may use only
    what was known at each row's time, except for the target: a feature that becomes known later leaks the target."""

    source: str | None = Field(
        default=None, examples=["data/orders/", "s3://shop/orders/*.parquet", "orders.features:load"]
    )
    """Where the rows come from, in place of `query`. Either files, Parquet or CSV: a file, a folder, or a pattern with
    `*`, on this machine or on S3. Relative ones are below the environment variable `CT_DATA_URL`, or below the working
    directory. The declared columns are read, and the rows of a window are selected by `time`. Or a function, as
    `package.module:function`, that is called with the window's begin and end, in UTC, and returns its rows as an Arrow
    table, a RecordBatchReader or a DataFrame."""

    time: str = Field(examples=["placed"])
    """The column that holds each row's moment, of type timestamp. Rows are cut into windows by it."""

    target: Target = Field(examples=["returned", ["bikes", "docks"]])
    """The column that the model predicts, with `feature: false`. A regression may predict several numbers at once: a
    list of their columns, in the order in which the model returns them."""

    null_target: Literal["refuse", "drop"] = "refuse"
    """What happens to rows of which a target is null. With `refuse` they end the run at Check data; with `drop` they
    are left out of the training rows and the fresh rows, and the log and the report have their number."""

    weight: str | None = Field(default=None, examples=["price"])
    """The column that says how much a row counts in the fit, of type number or integer and with `feature: false`. A
    null, a negative weight or weights that are all 0 end the run at Check data."""

    group: str | None = Field(default=None, examples=["customer_id"])
    """The column that names the group of a row, such as a customer or a query. Validation rows are whole groups, those
    whose oldest row is among them. `compare.resample_by: group` draws whole groups, too."""

    key: list[str] = Field(min_length=1, examples=[["order_id"]])
    """The columns that together identify a row. A key that occurs twice ends the run at Check data."""

    clock: date | None = Field(default=None, examples=[date(2013, 4, 1)])
    """The date on which a run without `AS_OF` stands, for data that have ended. Leave it out for live data: a run then
    stands on today's date (UTC)."""

    label_delay_days: int = Field(default=0, ge=0, examples=[2])
    """After how many days a row's target is certainly known. Younger rows are not used: those whose target is known
    early are not like the others."""

    train_days: int = Field(gt=0, examples=[365])
    """The length of the training window in days. It ends where the fresh rows begin."""

    fresh_days: Days = Field(examples=[28, "auto"])
    """The length in days of the window of fresh rows, on which candidate and champion are compared. It ends
    `label_delay_days` before the run's date. With `auto` it is as few weeks as past comparisons need to find
    `compare.smallest_difference`; until there are three of them it is 28 days, and a grid or a search validates on
    as many."""

    min_fresh_days: int = Field(default=7, gt=0, examples=[14])
    """The least length with `fresh_days: auto`. It is never less than `compare.resample_by` needs for its cases: 40
    days with `day` and a confidence of 95 %."""

    max_fresh_days: int = Field(default=56, gt=0, examples=[42])
    """The greatest length with `fresh_days: auto`."""

    known_afterwards: tuple[str, ...] = Field(default=(), examples=[["returned_on", "refund"]])
    """Names of columns that become known only after a row's time. The run ends at Check data if the data
    has one of them."""

    columns: dict[str, Column] = Field(
        examples=[{"order_id": {"type": "integer", "feature": False}, "price": {"type": "number", "min": 0}}]
    )
    """Every column of the query's or the function's result by its name, and no other one. Of files, the columns to
    read."""

    def find_mistakes(self) -> Iterator[Mistake]:
        """Yield a missing or second source, and roles of columns that do not exist or are of another type."""
        yield from self._find_mistakes_of_source()
        if self.min_fresh_days > self.max_fresh_days:
            yield "min_fresh_days", f"min_fresh_days is above max_fresh_days, {self.max_fresh_days}"
        roles = [("time", self.time), *(("target", name) for name in self.targets)]
        roles += [("key", name) for name in self.key]
        roles += [(role, name) for role, name in (("weight", self.weight), ("group", self.group)) if name is not None]
        for role, name in roles:
            if name not in self.columns:
                yield role, f"the {role} column '{name}' is not among the columns"
        time, weight = self.columns.get(self.time), self.columns.get(self.weight or "")
        if time and time.type != "timestamp":
            yield f"columns.{self.time}.type", f"the time column '{self.time}' must be of type timestamp"
        if weight and weight.type not in {"number", "integer"}:
            yield f"columns.{self.weight}.type", f"the weight column '{self.weight}' must be of type number or integer"
        for role, name in roles:
            if role in {"target", "weight"} and name in self.columns and self.columns[name].feature:
                yield f"columns.{name}", f"the {role} '{name}' must have feature: false"
        yield from self._find_mistakes_of_targets()
        if not self.features:
            yield "columns", "no column is a feature"

    def _find_mistakes_of_targets(self) -> Iterator[Mistake]:
        for name in self.targets:
            if name in self.columns and self.columns[name].max_null_share:
                message = f"the target '{name}' cannot be null: null_target: drop leaves out rows in which it is"
                yield f"columns.{name}.max_null_share", message
        if isinstance(self.target, list):
            yield from self._find_mistakes_of_list(self.target)

    def _find_mistakes_of_list(self, targets: list[str]) -> Iterator[Mistake]:
        if len(targets) < 2:
            yield "target", "a list of targets has two or more columns: write the name of a single one without a list"
        roles = [("time", self.time), ("weight", self.weight), ("group", self.group)]
        roles += [("key", name) for name in self.key]
        for name in dict.fromkeys(targets):
            if targets.count(name) > 1:
                yield "target", f"the target '{name}' is listed twice"
            for role in (role for role, other in roles if other == name):
                yield "target", f"'{name}' is the {role} column and cannot be a target too"
            if name in self.columns and self.columns[name].type not in {"number", "integer"}:
                yield f"columns.{name}.type", f"the target '{name}', one of several, must be of type number or integer"

    def _find_mistakes_of_source(self) -> Iterator[Mistake]:
        if self.query is None and not (self.source or "").strip():
            yield "query", "where the rows come from is missing: give query or source"
        if self.query is not None and self.source is not None:
            yield "source", "query and source exclude each other: give one"

    @property
    def targets(self) -> tuple[str, ...]:
        """The columns that the model predicts, whether `target` is one or a list."""
        return (self.target,) if isinstance(self.target, str) else tuple(self.target)

    @property
    def usual_fresh_days(self) -> int:
        """The length of the window of fresh rows; with `auto` that of the first one."""
        if self.fresh_days == "auto":
            return min(max(FIRST_FRESH_DAYS, self.min_fresh_days), self.max_fresh_days)
        return self.fresh_days

    @property
    def source_is_function(self) -> bool:
        """Whether `source` is a Python function, not files."""
        return re.fullmatch(PATTERN, self.source or "") is not None

    @property
    def features(self) -> list[str]:
        """The names of the columns that the model receives, in the order of the file."""
        return [name for name, column in self.columns.items() if column.feature]

    def features_of(self, kind: Literal["category", "number"]) -> list[str]:
        """Return the features that are categories, or those that are not."""
        return [name for name in self.features if (self.columns[name].type == "category") == (kind == "category")]


class Checks(Section):
    """The limits of the data check that belong to no single column."""

    min_train_rows: int = Field(default=1000, gt=0)
    """How many training rows there must be at least."""

    min_fresh_rows: int = Field(default=500, gt=0)
    """How many fresh rows there must be at least."""

    max_age_days: float = Field(default=7, gt=0)
    """How old the newest row may be, in days before the run's date."""

    volume: tuple[float, float] = Field(default=(0.5, 2.0))
    """The smallest and the largest number of fresh rows per day, as multiples of the number in the champion's
    snapshot."""

    max_single_feature_auc: float = Field(default=0.9, gt=0.5, le=1)
    """How well a single feature may rank a classification's target, as an area under the ROC curve from 0.5 to 1; of
    more than two classes it is the mean over each class against the others. A feature above it probably leaks the
    target. So does a column of the key."""

    max_single_feature_correlation: float = Field(default=0.99, gt=0, le=1)
    """How closely a single feature may follow a regression's target, as an absolute correlation from 0 to 1. A feature
    above it probably leaks the target."""

    trusted_features: tuple[str, ...] = Field(default=(), examples=[["price_yesterday"]])
    """Features, or columns of the key, that may be above these limits: you know why, and that requests have them."""

    min_share_of_usual: float = Field(default=0.2, ge=0, lt=1)
    """A day counts as missing if it has fewer rows than this share of the usual number, the median of its weekday; in
    data of 50 rows an hour and more it is an hour of the week. Days that usually have fewer than five rows are not
    counted."""

    max_missing_share: float = Field(default=0.15, ge=0, le=1)
    """The largest share of missing days, or hours, in the training window and in the fresh window."""

    max_copied_share: float = Field(default=0.1, ge=0, le=1)
    """The largest share of rows that are equal to another one but for a column of the key that is no feature and
    different in each row: they were probably ingested twice."""
