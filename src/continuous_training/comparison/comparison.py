"""The comparison of a candidate with the champion: metrics and rules from the predictions for the fresh rows."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np

from continuous_training.comparison import bootstrap, curves, evaluation, latency, rules
from continuous_training.comparison.cases import check_cases, count_by_class, count_cases, count_groups
from continuous_training.comparison.ground_truth import GroundTruth
from continuous_training.comparison.importance import measure_importance
from continuous_training.comparison.slice_rules import SliceRules
from continuous_training.documents import Metric
from continuous_training.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd

    from continuous_training.comparison.stored_model import StoredModel
    from continuous_training.documents import Confusion, Curve, Importance, ModelRole, Rule
    from continuous_training.settings import Settings

log = logging.getLogger(__name__)


class Comparison:
    """A candidate and the champion, if there is one, on the fresh rows."""

    def __init__(
        self,
        settings: Settings,
        fresh: pd.DataFrame,
        candidate: StoredModel,
        champion: StoredModel | None,
        confidence: float,
    ) -> None:
        """Take the models and the rows.

        Args:
            settings: the settings of the model.
            fresh: the fresh rows.
            candidate: the candidate.
            champion: the champion; None if there is none.
            confidence: of the intervals that decide, at least that of the settings.
        """
        self._settings = settings
        self.limits = settings.compare
        self.fresh = fresh
        self.candidate = candidate
        self.champion = champion
        self.labels: pd.Series | pd.DataFrame = fresh[settings.data.target]
        self.targets = settings.data.targets
        self.classes = fresh[self.targets[0]] if settings.model.task == "classification" else None
        self._time = settings.data.time
        self.truth = GroundTruth.of(fresh, settings)
        self.groups = bootstrap.draw_groups(fresh, settings)
        self._class_sizes, self._group_number = count_by_class(self.classes), count_groups(self.groups)
        self.confidence = confidence

    def without_champion(self) -> Comparison:
        """Return the comparison of the candidate as a first model."""
        return Comparison(self._settings, self.fresh, self.candidate, None, self.confidence)

    def on_common_classes(self) -> Comparison | None:
        """Return the comparison on the rows whose class both models know, as if they knew no other.

        None if that are fewer than two classes, which distinguish no models.
        """
        if self.classes is None or self.champion is None:
            return None
        names = self.candidate.common_classes(self.champion)
        if len(names) < 2:
            return None
        rows = self.fresh[self.classes.isin(names)]
        candidate, champion = (model.among(names, rows) for model in (self.candidate, self.champion))
        return Comparison(self._settings, rows, candidate, champion, self.confidence)

    def check_preconditions(self) -> list[Rule]:
        """Check the rules without which no metric can be computed."""
        results = [check_cases(len(self.labels), self._class_sizes, self._group_number, self.limits)]
        if self.champion:
            results.append(rules.check_champion_columns(self.champion.input_columns, self.fresh.columns))
            if self.candidate.classes or self.champion.classes:
                results.append(rules.check_classes(self.candidate.classes, self.champion.classes))
            if len(self.candidate.targets) > 1 or len(self.champion.targets) > 1:
                results.append(rules.check_targets(self.candidate.targets, self.champion.targets))
        return results

    def compute_metrics(self) -> list[Metric]:
        """Score both models, on the primary metric first; the deciding metrics have a confidence interval."""
        limits = self.limits
        margins = {limits.metric: limits.margin} | {
            name: -max_decrease for name, max_decrease in limits.guardrails.items()
        }
        return [self._compute_metric(name, margins.get(name)) for name in limits.metrics]

    def score_targets(self) -> dict[str, Metric]:
        """Score each of several targets by the primary metric on its own; a function scores all of them together."""
        metric = self.limits.metric
        if len(self.targets) == 1 or metric in self.truth.functions:
            return {}
        scores = [
            [evaluation.score(metric, *target) for target in evaluation.split_targets(model.predictions, self.truth)]
            for _, model in self._roles()
        ]
        return {
            name: Metric(name=metric, candidate=candidate, champion=champion[0] if champion else None)
            for name, candidate, *champion in zip(self.targets, *scores, strict=True)
        }

    def check_candidate(self, metrics: list[Metric]) -> Iterator[Rule]:
        """Check the candidate against the champion or, while there is none, against the absolute limits."""
        yield from self._check_improvement(self.champion, metrics) if self.champion else self.check_first(metrics)
        yield from self._check_operation()

    def check_first(self, metrics: list[Metric]) -> Iterator[Rule]:
        """Check the absolute limits of a first model's metrics."""
        metrics_by_name = {metric.name: metric for metric in metrics}
        for name, limit in self.limits.first.items():
            yield rules.check_first_metric(metrics_by_name.get(name) or self._compute_metric(name, None), limit)

    def curves(self) -> list[Curve]:
        """Return the curves of both models, for a plot."""
        times = self.fresh[self._time]
        return [
            curve
            for role, model in self._roles()
            for curve in curves.compute_curves(model.predictions, self.labels, times, role, self.targets)
        ]

    def confusion(self) -> list[Confusion]:
        """Return how often both models confuse the classes, of which there are more than two."""
        tables = [curves.count_confusions(model.predictions, self.labels, role) for role, model in self._roles()]
        return [table for table in tables if table]

    def importance(self) -> Importance | None:
        """Return the importance of the features for both models; None, with a warning, if it cannot be measured.

        It decides nothing, so a model that fails on shuffled rows, which may contradict themselves, is not refused.
        """
        try:
            return measure_importance(
                *(self.limits.metric, self.candidate, self.champion, self.fresh, self.truth),
                by_class=self.classes is not None,
            )
        except UserError as error:
            log.warning("The importance of the features cannot be measured: %s", error)
            return None

    def _roles(self) -> Iterator[tuple[ModelRole, StoredModel]]:
        yield "candidate", self.candidate
        if self.champion:
            yield "champion", self.champion

    def _compute_metric(self, name: str, margin: float | None) -> Metric:
        candidate = evaluation.score(name, self.candidate.predictions, self.truth)
        if self.champion is None:
            return Metric(name=name, candidate=candidate, champion=None)
        champion = evaluation.score(name, self.champion.predictions, self.truth)
        if margin is None:
            return Metric(name=name, candidate=candidate, champion=champion)
        differences = bootstrap.differences(
            name,
            self.candidate.predictions,
            self.champion.predictions,
            self.truth,
            resamples=self.limits.resamples,
            groups=self.groups,
        )
        cases = count_cases(len(self.labels), self._class_sizes, self._group_number)
        difference = bootstrap.interval(differences, self.limits.confidence, decisive=self.confidence, cases=cases)
        return Metric(
            name=name,
            candidate=candidate,
            champion=champion,
            difference=difference,
            margin=margin,
            standard_error=None if difference is None else float(np.nanstd(differences)),
        )

    def _check_improvement(self, champion: StoredModel, metrics: list[Metric]) -> Iterator[Rule]:
        limits = self.limits
        yield rules.check_improvement(metrics[0], limits.margin, self.confidence)
        for metric in metrics[1:]:
            if metric.name in limits.guardrails:
                yield rules.check_guardrail(metric, limits.guardrails[metric.name], self.confidence)
        models = self.candidate.predictions, champion.predictions
        days = (self.fresh[self._time].max() - self.fresh[self._time].min()) / timedelta(days=1)
        slices = SliceRules(self.fresh, limits, models, self.truth, self.classes, self.groups, days)
        yield from slices.check()
        yield rules.check_input_types(self.candidate.input_types, champion.input_types, limits.new_inputs)

    def _check_operation(self) -> Iterator[Rule]:
        """Check the candidate's calibration, latency and size."""
        limits = self.limits
        models = [self.candidate, self.champion] if self.champion else [self.candidate]
        if limits.max_calibration_error is not None:
            errors = [evaluation.calibration_error(model.predictions, self.labels) for model in models]
            yield rules.check_calibration(errors[0], errors[1] if self.champion else None, limits.max_calibration_error)
        if limits.max_milliseconds is not None or limits.max_slowdown is not None:
            medians = latency.milliseconds([model.time_first_row for model in models])
            if limits.max_milliseconds is not None:
                yield rules.check_latency(medians[0], limits.max_milliseconds)
            if limits.max_slowdown is not None and self.champion:
                yield rules.check_slowdown(medians[0], medians[1], limits.max_slowdown)
        if limits.max_megabytes is not None:
            yield rules.check_size(self.candidate.megabytes, limits.max_megabytes)
