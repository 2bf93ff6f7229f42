"""What is trained, and on which machines."""

from __future__ import annotations

import itertools
import json
import math
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, JsonValue

from continuous_training.settings.search import Search
from continuous_training.settings.section import Mistake, Section

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def method_of(task: str) -> str:
    """Return the method of an estimator that predicts in a task."""
    return "predict_proba" if task == "classification" else "predict"


class Model(Section):
    """The task, and the parameters of the estimator that `build` in the package's model.py returns."""

    task: Literal["classification", "regression"]
    """`classification` for two or more classes, whose probabilities the model predicts; `regression` for a number."""

    parameters: dict[str, Any] = Field(default_factory=dict, examples=[{"learning_rate": 0.05, "random_state": 0}])
    """Keyword arguments of `build`, by name."""

    grid: dict[str, Annotated[list[JsonValue], Field(min_length=1)]] = Field(
        default_factory=dict, examples=[{"learning_rate": [0.03, 0.1], "max_leaf_nodes": [15, 31]}]
    )
    """Lists of values that are tried instead of those in `parameters`, one trial for each combination. The newest
    `fresh_days` of the training rows decide which one is the best; its parameters are then fitted on all training rows.
    A run that was interrupted continues with the trials that are left."""

    search: Search | None = None

    validation_days: int | None = Field(default=None, gt=0, examples=[14])
    """The length in days of the newest part of the training rows that is not fitted on: it stops a fit early. How early
    is a parameter of the estimator, such as `early_stopping_round` of LightGBM. No fresh row is among them."""

    batches: bool = False
    """Whether the training rows are read in batches, for snapshots that are larger than memory. Estimators of LightGBM
    and XGBoost can be fitted so, and classes of the model's package that have `fit_batches`. The steps of a pipeline
    before them are fitted on a sample of 200,000 rows."""

    trusted_types: tuple[str, ...] = Field(default=(), examples=[["category_encoders.target_encoder.TargetEncoder"]])
    """Classes of other libraries that a stored model may contain. Those of scikit-learn and of the model's own package,
    and the estimators of LightGBM, XGBoost and CatBoost need not be listed. An error at Train names those that are
    missing here."""

    allow_unsigned: bool = False
    """Whether versions may be compared and served that were stored before versions were signed."""

    def find_mistakes(self) -> Iterator[Mistake]:
        """Yield a grid beside a search."""
        if self.grid and self.search:
            yield "grid", "grid and search exclude each other: give one"
        for name in ("grid", "search", "validation_days"):
            if self.batches and getattr(self, name):
                yield "batches", f"batches and {name} exclude each other: batches are not split for a validation"

    @property
    def method(self) -> str:
        """The method of the estimator that predicts."""
        return method_of(self.task)

    @property
    def trials(self) -> int:
        """How many trials a grid or a search has at most; 0 without either."""
        if self.search:
            return self.search.trials
        return math.prod(map(len, self.grid.values())) if self.grid else 0

    @property
    def first_values(self) -> dict[str, Any]:
        """The first value of each parameter that a grid or a search varies."""
        if self.search:
            return {name: values.first for name, values in self.search.space.items()}
        return {name: values[0] for name, values in self.grid.items()}

    def combination(self, number: int) -> dict[str, JsonValue]:
        """Return the parameters of a trial of the grid by its number, from 0."""
        values = next(itertools.islice(itertools.product(*self.grid.values()), number, None))
        return dict(zip(self.grid, values, strict=True))

    def has_trial(self, number: int, parameters: Mapping[str, Any]) -> bool:
        """Return whether a trial of the grid or the search can have this number, from 0, and these parameters."""
        if not 0 <= number < self.trials:
            return False
        if self.search is None:  # as JSON, in which 1, 1.0 and true differ
            return json.dumps(parameters) == json.dumps(self.combination(number))
        space = self.search.space
        return parameters.keys() == space.keys() and all(space[name].contains(parameters[name]) for name in space)

    def override(self, parameters: Mapping[str, Any]) -> Model:
        """Return the section with other values of some parameters, which neither a grid nor a search varies then."""
        grid = {name: values for name, values in self.grid.items() if name not in parameters}
        search = self.search
        if search:
            space = {name: values for name, values in search.space.items() if name not in parameters}
            search = search.model_copy(update={"space": space}) if space else None
        return self.model_copy(update={"parameters": {**self.parameters, **parameters}, "grid": grid, "search": search})


class Compute(Section):
    """Limits of the training, and the machines that a run with `COMPUTE=ec2` may start."""

    instance_types: tuple[str, ...] = Field(default=(), examples=[["c7i.xlarge", "m6i.xlarge"], ["g6.xlarge"]])
    """EC2 instance types in the order of preference; `COMPUTE=ec2` needs at least one. One with NVIDIA GPUs trains only
    if they are usable."""

    spot: bool = True
    """Whether to use spot capacity. On demand instances are used where there is none."""

    max_hours: float = Field(default=5, gt=0, le=168, examples=[1])
    """After how many hours a training ends at the latest, on this machine too; each instance ends itself then. The
    pipeline's own limit is 6 hours."""

    max_cost_usd: float = Field(default=1, gt=0, examples=[0.5])
    """What all instances of a run may cost together, in US dollars. One that has used its share ends. If several share
    the trials of a grid or a search, half of it is for them, in equal shares; the training has the rest."""

    data_parallel: bool = False
    """Whether a PyTorch model trains on all GPUs of an instance, in a process for each that `torchrun` starts. Its
    class has to share the work."""

    disk_gb: int = Field(default=30, ge=8, le=16384)
    """The size of each instance's disk in GB."""

    at_once: int = Field(default=1, ge=1)
    """How many instances may share the trials of a grid or a search, before another one trains. With 1, the
    instance that trains does all trials, as it does those of an instance that is lost."""

    prices: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict, examples=[{"c7i.xlarge": 0.2}])
    """Prices on demand in US dollars an hour, by instance type, for accounts that may not use AWS' Pricing API."""

    boot_minutes: float = Field(default=10, gt=0)
    """How many minutes after its launch an instance must have sent its first heartbeat."""

    heartbeat_seconds: float = Field(default=15, gt=0)
    """How often an instance sends a heartbeat, in seconds."""
