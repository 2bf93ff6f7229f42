"""The file src/<model>/training.yaml: the whole of it, and how it is read."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import Field, ValidationError, field_validator

from continuous_training.errors import UserError
from continuous_training.model_packages import SETTINGS_FILE, SOURCES, list_models
from continuous_training.settings.comparison import Compare
from continuous_training.settings.data import Checks, Data
from continuous_training.settings.mistakes import describe
from continuous_training.settings.production import Monitor, Serving, Triggers
from continuous_training.settings.refit import Refit
from continuous_training.settings.section import Mistake, Section
from continuous_training.settings.training import Compute, Model

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


class Settings(Section):
    """The whole of training.yaml: what a data scientist decides about one model."""

    warehouse: str = Field(
        default="duckdb://.ct/warehouse.duckdb",
        examples=["duckdb://.ct/warehouse.duckdb", "postgres://reader@db.example.com/sales"],
    )
    """The warehouse's address: `duckdb://`, `postgres://`, `redshift://`, `snowflake://` or `bigquery://`. The
    environment variable `CT_WAREHOUSE_URL` overrides it, and is the place for one with a password."""

    sample: str | None = Field(default=None, examples=["orders.sample:load"])
    """A function, as `package.module:function`, that fills the warehouse above with sample data if its file is missing.
    It receives an Ibis connection. A model on real data needs none."""

    data: Data

    checks: Checks = Checks()

    triggers: Triggers = Triggers()

    model: Model

    compute: Compute = Compute()

    compare: Compare

    refit: bool | Refit = True
    """Whether a better candidate is fitted once more, on the fresh rows too, before it is promoted; or the limits that
    this model is held to."""

    serving: Serving = Serving()

    monitor: Monitor = Monitor()

    def find_mistakes(self) -> Iterator[Mistake]:
        """Yield columns that other sections name and the data do not have, or have as another type."""
        columns = self.data.columns
        for name in ("batches", "grid", "search"):
            if self.compute.data_parallel and getattr(self.model, name):
                yield "compute.data_parallel", f"a data-parallel training has no model.{name}"
        for path, names in (
            ("checks.trusted_features", self.checks.trusted_features),
            ("compare.slices", self.compare.slices),
            ("serving.redacted", self.serving.redacted),
            ("monitor.columns", self.monitor.columns),
        ):
            for name in sorted(set(names) - set(columns)):
                yield path, f"'{name}' is not among the columns"
        yield from self._find_mistakes_of_fresh_days()
        yield from self._find_mistakes_of_targets()
        yield from self._find_mistakes_of_groups()
        yield from self._find_mistakes_of_validation()
        for name in self.data.features_of("category"):
            if self.monitor.measure_of(name, "category").test == "wasserstein":
                path = f"monitor.columns.{name}" if name in self.monitor.columns else "monitor.categories"
                yield path, f"'{name}' is a category and cannot be measured as a number: use jensenshannon"

    def _find_mistakes_of_fresh_days(self) -> Iterator[Mistake]:
        if self.data.fresh_days != "auto":
            return
        if self.compare.smallest_difference <= self.compare.margin:
            message = f"data.fresh_days: auto needs a smallest_difference above {self.compare.margin:g}, the margin"
            yield "compare.smallest_difference", message
        if self.min_fresh_days > self.data.max_fresh_days:
            message = f"resample_by: {self.compare.resample_by} needs {self.min_fresh_days} days for its cases"
            yield "data.max_fresh_days", message

    def _find_mistakes_of_targets(self) -> Iterator[Mistake]:
        if isinstance(self.data.target, str):
            return
        if self.model.task == "classification":
            yield "data.target", "a classification predicts one target: give one column, or set task: regression"
        if self.model.batches:
            yield "model.batches", "rows with several targets cannot be fitted in batches"
        if "ndcg" in self.compare.scorers:
            yield "data.target", "the metric ndcg ranks rows by one target: give one column, or use another metric"

    def _find_mistakes_of_groups(self) -> Iterator[Mistake]:
        if self.compare.resample_by == "group" and self.data.group is None:
            yield "compare.resample_by", "group needs data.group, the column that names the group of a row"
        if self.model.batches and self.data.group is not None:
            yield "model.batches", "rows of data.group cannot be fitted in batches, which would separate them"
        if "ndcg" in self.compare.scorers and self.compare.resample_by != "group":
            yield "compare.resample_by", "the metric ndcg needs resample_by: group, whose rows it ranks"

    def _find_mistakes_of_validation(self) -> Iterator[Mistake]:
        selection = {"grid": bool(self.model.grid), "search": self.model.search is not None}
        days = {key: self.data.usual_fresh_days for key, is_used in selection.items() if is_used}
        if self.model.validation_days is not None:
            days["validation_days"] = self.model.validation_days
        if (total := sum(days.values())) >= self.data.train_days:
            message = (
                f"the newest {total} days validate, and train_days is {self.data.train_days}: none is left to fit on"
            )
            yield f"model.{next(iter(days))}", message

    @field_validator("sample")
    @classmethod
    def _names_a_function(cls, sample: str | None) -> str | None:
        if sample is not None and sample.count(":") != 1:
            raise ValueError("write it as package.module:function")
        return sample

    def override(self, parameters: Mapping[str, Any]) -> Settings:
        """Return settings with other values of some parameters of the model, which are not varied then."""
        return self.model_copy(update={"model": self.model.override(parameters)})

    @property
    def min_fresh_days(self) -> int:
        """The least length of the window of fresh rows with `auto`: as many days as the bootstrap has cases."""
        cases_per_day = {"hour": 24, "day": 1, "week": 1 / 7}.get(self.compare.resample_by, math.inf)
        return max(self.data.min_fresh_days, math.ceil(self.compare.min_cases / cases_per_day))

    @property
    def refit_limits(self) -> Refit | None:
        """What a refit is held to; None if there is none."""
        if isinstance(self.refit, Refit):
            return self.refit
        return Refit() if self.refit else None

    @property
    def ec2(self) -> Compute:
        """The section `compute`, in which COMPUTE=ec2 requires instance types.

        Raises:
            UserError: there are none.
        """
        if not self.compute.instance_types:
            raise UserError("COMPUTE=ec2 needs compute.instance_types in training.yaml, such as [c7i.xlarge]")
        return self.compute

    @property
    def label_columns(self) -> list[str]:
        """The names of the columns that scores need beside predictions; a function may use any column."""
        data = self.data
        names = [*data.targets, data.time, *filter(None, [data.weight, data.group])]
        return list(dict.fromkeys([*names, *(data.columns if self.compare.functions else ())]))

    @property
    def warehouse_url(self) -> str:
        """The warehouse's address: CT_WAREHOUSE_URL, or the default of training.yaml."""
        return os.environ.get("CT_WAREHOUSE_URL") or self.warehouse


def load_settings(model: str) -> Settings:
    """Read src/<model>/training.yaml.

    Raises:
        UserError: there is no such package or file, or the file has mistakes, of which all are listed.
    """
    path = SOURCES / model / SETTINGS_FILE
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(
            f"MODEL={model}: there is no {path}; the models here are: {', '.join(list_models()) or 'none'}"
        ) from None
    return parse_settings(text, path)


def parse_settings(text: str, path: Path) -> Settings:
    """Read the text of a training.yaml.

    Args:
        text: the file's content.
        path: the file, for error messages.

    Raises:
        UserError: the text is not YAML, or has mistakes, of which all are listed.
    """
    try:
        return Settings.model_validate(yaml.safe_load(text))
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(f"{path}{line}: is not YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not YAML: {error}") from error
    except ValidationError as error:
        mistakes = [f"{path}:{line}: {message}" for line, message in describe(error, text, Settings)]
        if len(mistakes) == 1:
            raise UserError(mistakes[0]) from error
        raise UserError(f"{path} has {len(mistakes)} mistakes:", *mistakes) from error
