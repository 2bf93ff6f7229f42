"""What a data scientist decides, in training.yaml beside the model; and what the environment decides."""

from __future__ import annotations

import hashlib
import itertools
import math
import os
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, JsonValue, ValidationError, field_validator, model_validator

from continuous_training.documents import Scalar, Value, first
from continuous_training.errors import UserError

SOURCES = Path("src")
BRANCH = "main"  # the one that trains; the Jenkinsfile ends a run of any other after Lint and Test
BEHAVIOUR = Path("tests")
STATE = Path(".ct")
BEYOND = 5  # resamples that must lie beyond each end of an interval, or that end is luck


class Column(Value):
    """What one column of the query must be: its type, whether the model sees it, and its limits."""

    type: Literal["category", "number", "integer", "boolean", "timestamp"]
    feature: bool = True
    max_null_share: float = Field(default=0.0, ge=0, le=1)
    min: float | None = None
    max: float | None = None
    values: list[Scalar] | None = None


class Data(Value):
    """The query and its windows. `label_delay_days` is how long after its time a row's label is surely known."""

    query: str
    time: str
    target: str
    key: list[str] = Field(min_length=1)
    clock: date | None = None
    label_delay_days: int = Field(default=0, ge=0)
    train_days: int = Field(gt=0)
    fresh_days: int = Field(gt=0)
    known_afterwards: tuple[str, ...] = ()
    columns: dict[str, Column]

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        for role, name in [("time", self.time), ("target", self.target), *(("key", name) for name in self.key)]:
            if name not in self.columns:
                raise ValueError(f"the {role} column «{name}» is not among the columns")
        if self.columns[self.time].type != "timestamp":
            raise ValueError(f"the time column «{self.time}» is not of type timestamp")
        if self.columns[self.target].feature:
            raise ValueError(f"the target «{self.target}» must say feature: false")
        if not self.features:
            raise ValueError("no column is a feature")
        return self

    @property
    def features(self) -> list[str]:
        """The names of the columns that the model sees, in the order of the file."""
        return [name for name, column in self.columns.items() if column.feature]

    def features_of(self, kind: Literal["category", "number"]) -> list[str]:
        """The features that are categories, or those that are not."""
        return [name for name in self.features if (self.columns[name].type == "category") == (kind == "category")]


class Checks(Value):
    """The limits of the data check that no single column has."""

    min_train_rows: int = Field(default=1000, gt=0)
    min_fresh_rows: int = Field(default=500, gt=0)
    max_age_days: float = Field(default=7, gt=0)
    volume: tuple[float, float] = (0.5, 2.0)
    max_single_feature_auc: float = Field(default=0.9, gt=0.5, le=1)


class Triggers(Value):
    """What starts a run: a ping that says what another has said less than `cool_down_hours` ago is answered already.

    New data are enough to ask for a run with `min_new_rows`, and with as many as make `min_new_share` of the champion's
    rows; and with any at all when its newest row is older than `max_age` days. Late and corrected rows count.
    """

    cool_down_hours: float = Field(default=12, ge=0)
    min_new_rows: int = Field(default=1000, gt=0)
    min_new_share: float = Field(default=0.05, ge=0)
    max_age: float | None = Field(default=None, gt=0)


class Model(Value):
    """The estimator's parameters, and the types that skops may load beside scikit-learn's plain ones.

    A `grid` lists values that are tried instead of those in `parameters`; they travel to the training as JSON.
    """

    task: Literal["classification", "regression"]
    parameters: dict[str, Any] = Field(default_factory=dict)
    grid: dict[str, Annotated[list[JsonValue], Field(min_length=1)]] = Field(default_factory=dict)
    trusted_types: tuple[str, ...] = ()

    @property
    def trials(self) -> list[dict[str, JsonValue]]:
        """Every combination of the grid's values, to override `parameters`; without a grid, one that overrides none."""
        return [dict(zip(self.grid, values, strict=True)) for values in itertools.product(*self.grid.values())]


class Compare(Value):
    """What a candidate must show: against the champion, and, while there is none, by itself.

    All limits of scores are in the scorer's own units, where more is better. `non_inferior` is for teams that prefer a
    fresh model to an old one: it may be worse by this much, surely not by more.
    """

    metric: str
    report: tuple[str, ...] = ()
    min_improvement: float = Field(default=0.0, ge=0)
    non_inferior: float | None = Field(default=None, gt=0)
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    resamples: int = Field(default=1000, ge=100)
    resample_by: Literal["row", "hour", "day", "week"] = "row"
    first: dict[str, float] = Field(min_length=1)
    guardrails: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
    slices: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
    max_calibration_error: float | None = Field(default=None, gt=0)
    max_milliseconds: float | None = Field(default=None, gt=0)
    max_slowdown: float | None = Field(default=None, gt=0)
    max_megabytes: float | None = Field(default=None, gt=0)
    new_inputs: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.non_inferior is not None and self.min_improvement:
            raise ValueError("non_inferior and min_improvement exclude each other")
        if self.metric in self.guardrails:
            raise ValueError(f"{self.metric} decides already, so it cannot be a guardrail too")
        needed = round(BEYOND / self.tail)
        if self.resamples < needed:
            raise ValueError(f"confidence {self.confidence} needs at least {needed} resamples")
        return self

    @property
    def scorers(self) -> set[str]:
        """The names of all scorers that are asked for anything."""
        return {*self.metrics, *self.first}

    @property
    def metrics(self) -> list[str]:
        """Every metric that is scored, the primary one first."""
        return list(dict.fromkeys([self.metric, *self.guardrails, *self.report]))

    @property
    def tail(self) -> float:
        """The share that lies beyond each end of an interval."""
        return (1 - self.confidence) / 2

    @property
    def cases(self) -> int:
        """How many cases it takes to speak of such a share: fewer, and it is less than one of them."""
        return math.ceil(round(1 / self.tail, 6))

    @property
    def margin(self) -> float:
        """What the lower end of the difference's interval must clear."""
        return self.min_improvement if self.non_inferior is None else -self.non_inferior


class Compute(Value):
    """What COMPUTE=ec2 may use: which machines, in the order of preference, for how long and for how much.

    A trial ends after `max_hours`, or when it has cost its share of `max_cost_usd`, whichever comes first. As many as
    `at_once` have an instance at the same time. An instance must be heard of `boot_minutes` after its launch, and then
    every `heartbeat_seconds`. `prices` are in USD an hour on demand, where the Pricing API is not to be asked.
    """

    instance_types: tuple[str, ...] = Field(min_length=1)
    spot: bool = True
    max_hours: float = Field(gt=0, le=168)
    max_cost_usd: float = Field(gt=0)
    disk_gb: int = Field(default=30, ge=8, le=16384)
    at_once: int = Field(default=4, ge=1)
    prices: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    boot_minutes: float = Field(default=10, gt=0)
    heartbeat_seconds: float = Field(default=15, gt=0)


class Exposed(Value):
    """How long a candidate stands beside the champion before it may take its place, and for which share of requests."""

    share: float = Field(gt=0, le=1)
    seconds: float = Field(gt=0, le=86400)


class Serving(Value):
    """How a version comes into service, and what is kept of its answers.

    A `shadow` answers beside the champion and nobody sees it; a `canary` answers in its place. Each is judged when its
    time is over by the servers' own numbers: the share of requests that failed, the 99th percentile of the time to an
    answer, and the share of rows on which it agrees with the champion. The new champion is then watched for
    `watch_seconds` by the first two. Fewer than `min_requests` are too few to judge by.

    The predictions log has `log_share` of all requests, without the columns that are `redacted`.
    """

    shadow: Exposed | None = None
    canary: Exposed | None = None
    watch_seconds: float = Field(default=5, ge=0, le=86400)
    min_requests: int = Field(default=50, ge=1)
    max_error_share: float = Field(default=0.01, ge=0, le=1)
    max_milliseconds: float = Field(default=500, gt=0)
    min_agreement: float = Field(default=0.8, ge=0, le=1)
    log_share: float = Field(default=1.0, ge=0, le=1)
    redacted: tuple[str, ...] = ()


class Measure(Value):
    """How far a column may move: a distance, and the limit below which no distance matters.

    `wasserstein` is how far numbers have moved, in standard deviations of what was learnt; `jensenshannon` is how
    otherwise categories are shared, from 0 to 0.83. A column of few numbers, such as a day of the week, is better
    measured as categories.
    """

    test: Literal["wasserstein", "jensenshannon"]
    threshold: float = Field(default=0.1, gt=0)


class Monitor(Value):
    """When the champion is asked otherwise than it learnt, and what follows.

    A window is the last `window_days`, and at least `min_rows`, of which `sample_rows` are looked at closely.

    A column has moved if it is further from what was learnt than its threshold, and further than the training windows
    of the same length lay: so far that in a share of `false_alarms` of them any column would have been called moved.
    It has moved after so many `confirmations` in a row, and is back when it is within the share `leave` of its limit.
    The live metric has fallen if it is lower than in a share of at most `false_alarms` of the cases in which windows
    are as good as those of the fresh rows: in the newest window, or over as many as the fresh rows had.
    A share of `max_odd_share` of a column's rows may be null, out of its range or unseen beyond what it was.

    `columns_share` of the columns, or one of them and the predictions, or the live metric, call for a training: once
    in `cool_down_hours` for one version.
    """

    source: Literal["log", "warehouse"] = "log"
    window_days: float = Field(default=7, gt=0)
    min_rows: int = Field(default=500, ge=30)
    sample_rows: int = Field(default=10_000, ge=1000, le=100_000)
    false_alarms: float = Field(default=0.05, gt=0, lt=1)
    numbers: Measure = Measure(test="wasserstein")
    categories: Measure = Measure(test="jensenshannon")
    predictions: float = Field(default=0.1, gt=0)
    columns: dict[str, Measure] = Field(default_factory=dict)
    columns_share: float = Field(default=0.3, gt=0, le=1)
    max_odd_share: float = Field(default=0.01, ge=0, lt=1)
    confirmations: int = Field(default=1, ge=1)
    leave: float = Field(default=0.8, gt=0, le=1)
    cool_down_hours: float = Field(default=168, ge=0)
    shown: int = Field(default=60, ge=1)

    def of(self, name: str, kind: str) -> Measure:
        """How a column of this type is measured."""
        return self.columns.get(name) or (self.categories if kind == "category" else self.numbers)


class Settings(Value):
    """The whole of training.yaml."""

    warehouse: str
    sample: str | None = None
    data: Data
    checks: Checks = Checks()
    triggers: Triggers = Triggers()
    model: Model
    compute: Compute | None = None
    compare: Compare
    serving: Serving = Serving()
    monitor: Monitor = Monitor()

    @model_validator(mode="after")
    def _names_columns(self) -> Self:
        named = {
            "compare.slices": self.compare.slices,
            "serving.redacted": self.serving.redacted,
            "monitor.columns": self.monitor.columns,
        }
        for where, names in named.items():
            if unknown := sorted(set(names) - set(self.data.columns)):
                raise ValueError(f"{where} names «{unknown[0]}», which is not among the columns")
        return self

    @model_validator(mode="after")
    def _measures_numbers_as_numbers(self) -> Self:
        for name in self.data.features_of("category"):
            if self.monitor.of(name, "category").test == "wasserstein":
                raise ValueError(f"monitor measures «{name}» as a number, which is a category: use jensenshannon")
        return self

    @field_validator("sample")
    @classmethod
    def _names_a_function(cls, sample: str | None) -> str | None:
        if sample is not None and sample.count(":") != 1:
            raise ValueError("write it as package.module:function")
        return sample

    @property
    def on_ec2(self) -> Compute:
        """What EC2 may use.

        Raises:
            UserError: nothing is said of it.
        """
        if self.compute is None:
            raise UserError("COMPUTE=ec2 needs a section compute in training.yaml")
        return self.compute

    @property
    def warehouse_url(self) -> str:
        """The warehouse's address: CT_WAREHOUSE_URL, or the default of training.yaml."""
        return os.environ.get("CT_WAREHOUSE_URL") or self.warehouse


def load_settings(model: str) -> Settings:
    """Read src/<model>/training.yaml.

    Raises:
        UserError: the package, the file or one of its keys is missing, unknown or malformed.
    """
    path = SOURCES / model / "training.yaml"
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        others = ", ".join(sorted(found.parent.name for found in SOURCES.glob("*/training.yaml")))
        raise UserError(f"MODEL={model}: there is no {path}; the models here are: {others or 'none'}") from None
    try:
        return Settings.model_validate(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not YAML: {error}") from error
    except ValidationError as error:
        raise UserError(f"{path}: {first(error)}") from error


def parse_as_of(given: str, clock: date | None) -> datetime:
    """Return the moment at which a run stands, in UTC and without a zone.

    It is what AS_OF says, or the settings' clock, or today's first moment: a day has one snapshot, however often it is
    asked for.

    Raises:
        UserError: AS_OF is neither a date nor a time in ISO 8601.
    """
    if not given.strip():
        day = clock or datetime.now(UTC).date()
        return datetime(day.year, day.month, day.day)
    try:
        moment = datetime.fromisoformat(given.strip())
    except ValueError:
        raise UserError(f"AS_OF={given} is not a date: write it as 2013-04-01 or 2013-04-01T12:00") from None
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment


def lies_ahead(moment: datetime, now: datetime) -> str | None:
    """Say that a moment at which a program should stand has not come yet, if that is so."""
    if moment <= now.astimezone(UTC).replace(tzinfo=None):
        return None
    return f"AS_OF={moment:%Y-%m-%d %H:%M} lies in the future: is a clock wrong?"


def time_windows(data: Data, moment: datetime) -> tuple[datetime, datetime, datetime]:
    """Return where the training rows begin, where the fresh rows begin, and where both end.

    Rows younger than `label_delay_days` have no sure label yet, so none of them is used: leaving out only those whose
    label is still open would favour the quick ones.
    """
    until = moment - timedelta(days=data.label_delay_days)
    fresh = until - timedelta(days=data.fresh_days)
    return fresh - timedelta(days=data.train_days), fresh, until


def source_hash(model: str) -> str:
    """Hash the model package's code: every Python file below src/<model>, by name and content."""
    return _code_hash(SOURCES, model)


def terms_hash(model: str, limits: Compare, champion: str | None) -> str:
    """Hash what a candidate is judged by: the limits, the behaviour tests, and the champion's version."""
    terms = (limits.model_dump_json(), _code_hash(BEHAVIOUR, model), champion)
    return hashlib.sha256(repr(terms).encode()).hexdigest()


def lock_hash() -> str:
    """Hash the dependency lock."""
    return hashlib.sha256(Path("requirements.lock").read_bytes()).hexdigest()


def _code_hash(folder: Path, model: str) -> str:
    digest = hashlib.sha256()
    for path in sorted((folder / model).rglob("*.py")):
        digest.update(f"{path.relative_to(folder).as_posix()}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()
