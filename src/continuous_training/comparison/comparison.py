"""The contest: what candidate and champion say of the same fresh rows, and the rules that follow from it."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from continuous_training.comparison import bootstrap, evaluation, latency, rules, slices
from continuous_training.documents import Metric
from continuous_training.errors import UserError
from continuous_training.versions import loading

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd
    from numpy.typing import NDArray

    from continuous_training.comparison.evaluation import Recorded
    from continuous_training.documents import Curve, Rule
    from continuous_training.settings import Settings


class Contender:
    """A model in the contest: what it asks for, what it answers, and what it costs."""

    def __init__(self, uri: str, settings: Settings, fresh: pd.DataFrame) -> None:
        """Load the model; raises UserError as `loading.load` does, and if nothing says what it asks for."""
        from mlflow.models import Model

        self.estimator = loading.load(uri, settings.model.trusted_types)
        described = Model.load(uri)
        if described.signature is None:
            raise UserError(f"the model {uri} was stored without a signature: it cannot be told what it asks for")
        self.uri = uri
        self.inputs = {one.name: one.type.name for one in described.signature.inputs.inputs}
        self.megabytes = None if described.model_size_bytes is None else described.model_size_bytes / 1e6
        self.asks: list[str] = list(getattr(self.estimator, "feature_names_in_", settings.data.features))
        self.classes = [str(name) for name in getattr(self.estimator, "classes_", ())]
        self._fresh = fresh
        self._task = settings.model.task

    @cached_property
    def recorded(self) -> Recorded:
        """What it says of the fresh rows; raises UserError if it cannot."""
        try:
            return evaluation.predict(self.estimator, self._fresh[self.asks], self._task)
        except Exception as error:  # whatever estimator the team's model package builds
            raise UserError(f"the model {self.uri} cannot answer for the fresh rows: {error}") from error

    @cached_property
    def _row(self) -> pd.DataFrame:
        return self._fresh.loc[self._fresh.index[:1], self.asks]

    def answer_one(self) -> object:
        """Answer for a single row."""
        return evaluation.predict(self.estimator, self._row, self._task)


class Contest:
    """A candidate before the fresh rows, and the champion beside it if there is one."""

    def __init__(self, settings: Settings, fresh: pd.DataFrame, ours: Contender, theirs: Contender | None) -> None:
        self.limits = settings.compare
        self.fresh = fresh
        self.ours = ours
        self.theirs = theirs
        self.truth: pd.Series = fresh[settings.data.target]
        self.classes = self.truth if settings.model.task == "classification" else None
        self.together: NDArray[Any] | None = slices.together(fresh[settings.data.time], self.limits.resample_by)

    def conditions(self) -> list[Rule]:
        """Return the rules without which nothing can be scored."""
        found = [rules.enough(self.classes, self.together, len(self.truth), self.limits)]
        if self.theirs:
            found.append(rules.answerable(self.theirs.asks, self.fresh.columns))
            found.append(rules.answers_alike(self.ours.classes, self.theirs.classes))
        return found

    def metrics(self) -> list[Metric]:
        """Score both; the primary metric is first, and those that decide have the interval of their difference."""
        limits = self.limits
        margins = {limits.metric: limits.margin} | {name: -allowed for name, allowed in limits.guardrails.items()}
        return [self._metric(name, margins.get(name)) for name in limits.metrics]

    def alone(self, metrics: list[Metric]) -> Iterator[Rule]:
        """Hold a first model to the absolute limits."""
        scored = {metric.name: metric for metric in metrics}
        for name, limit in self.limits.first.items():
            yield rules.reaches(scored.get(name) or self._metric(name, None), limit)
        yield from self._footprint()

    def against(self, theirs: Contender, metrics: list[Metric]) -> Iterator[Rule]:
        """Hold the candidate against the champion."""
        limits = self.limits
        yield rules.improves(metrics[0], limits)
        for metric in metrics[1:]:
            if metric.name in limits.guardrails:
                yield rules.guards(metric, limits.guardrails[metric.name], limits.confidence)
        yield from self._slices(theirs)
        yield rules.accepts(self.ours.inputs, theirs.inputs, limits.new_inputs)
        yield from self._footprint()

    def curves(self) -> list[Curve]:
        """Return the curves of both, for a plot."""
        drawn = evaluation.curves(self.ours.recorded, self.truth, "candidate")
        return drawn + (evaluation.curves(self.theirs.recorded, self.truth, "champion") if self.theirs else [])

    def _metric(self, name: str, margin: float | None) -> Metric:
        ours = evaluation.score(name, self.ours.recorded, self.truth)
        if self.theirs is None:
            return Metric(name=name, candidate=ours, champion=None)
        theirs = evaluation.score(name, self.theirs.recorded, self.truth)
        if margin is None:
            return Metric(name=name, candidate=ours, champion=theirs)
        found = bootstrap.differences(
            name,
            self.ours.recorded,
            self.theirs.recorded,
            self.truth,
            resamples=self.limits.resamples,
            together=self.together,
        )
        difference = bootstrap.interval(found, self.limits.confidence)
        return Metric(name=name, candidate=ours, champion=theirs, difference=difference, margin=margin)

    def _slices(self, theirs: Contender) -> Iterator[Rule]:
        divided = [
            (part, allowed)
            for column, allowed in self.limits.slices.items()
            for part in slices.divide(self.fresh[column], self.classes, self.together, self.limits.min_cases)
        ]
        for part, allowed in divided:
            found = bootstrap.differences(
                self.limits.metric,
                self.ours.recorded.of(part.rows),
                theirs.recorded.of(part.rows),
                self.truth.iloc[part.rows],
                resamples=self.limits.resamples,
                together=None if self.together is None else self.together[part.rows],
            )
            yield rules.spares(part.name, len(part.rows), found, allowed, self.limits.tail / len(divided))

    def _footprint(self) -> Iterator[Rule]:
        """Hold the candidate to how well it is calibrated, how long it takes to answer and how large it is."""
        limits, theirs = self.limits, self.theirs
        if limits.max_calibration_error is not None:
            errors = [evaluation.calibration_error(each.recorded, self.truth) for each in self._both()]
            yield rules.calibrated(errors[0], errors[1] if theirs else None, limits.max_calibration_error)
        if limits.max_milliseconds is not None or limits.max_slowdown is not None:
            took = latency.milliseconds([each.answer_one for each in self._both()])
            if limits.max_milliseconds is not None:
                yield rules.quick(took[0], limits.max_milliseconds)
            if limits.max_slowdown is not None and theirs:
                yield rules.keeps_pace(took[0], took[1], limits.max_slowdown)
        if limits.max_megabytes is not None:
            yield rules.small(self.ours.megabytes, limits.max_megabytes)

    def _both(self) -> list[Contender]:
        return [self.ours, self.theirs] if self.theirs else [self.ours]
