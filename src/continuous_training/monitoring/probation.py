"""The probation of a new champion: whether it is surely worse than the version before it would have been.

Both predict the rows that were served since the promotion and whose labels are known by now: the champion's predictions
are in the log, the other version predicts the logged inputs. Without labels the failed requests still tell.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

from continuous_training.comparison import bootstrap
from continuous_training.comparison.cases import count_by_class, count_cases, count_groups
from continuous_training.comparison.difference import estimate_difference
from continuous_training.comparison.evaluation import ClassifierPredictions
from continuous_training.comparison.ground_truth import GroundTruth
from continuous_training.errors import UserError
from continuous_training.formatting import format_percent, format_time
from continuous_training.formatting.scorers import format_improvement, plain_name
from continuous_training.monitoring import predictions_log, reference, warehouse_rows
from continuous_training.registry import model_versions
from continuous_training.registry.version_state import VersionState
from continuous_training.serving.rollout.counters import Counters, read_counters
from continuous_training.serving.rollout.limits import SIGNIFICANCE, binomial_p_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from mlflow import MlflowClient

    from continuous_training.comparison.evaluation import Predictions
    from continuous_training.registry.model_versions import Version
    from continuous_training.settings import Serving, Settings


class ProbationState(VersionState):
    """The day on which the labels were looked at last: once a day, since each look is a chance of a false alarm."""

    tag: ClassVar[str] = "ct.probation"

    looked_on: date | None = None


class Result(NamedTuple):
    """What a look at a champion on probation has shown, as a sentence."""

    is_worse: bool
    message: str


@dataclass(frozen=True)
class Probation:
    """A champion on probation, and the version before it.

    `now` is the time of the servers, `as_of` the end of the warehouse's data.
    """

    client: MlflowClient
    settings: Settings
    source: Literal["log", "warehouse"]
    champion: Version
    previous: Version
    promoted_at: datetime
    as_of: datetime
    now: datetime

    @classmethod
    def find(
        cls,
        client: MlflowClient,
        model: str,
        settings: Settings,
        source: Literal["log", "warehouse"],
        as_of: datetime,
        now: datetime,
    ) -> Probation | None:
        """Return the probation of a model's champion; None if it has none, or it is over.

        It is as long as `serving.probation_days`, and until the labels of these days are known. A promotion in the
        future is none: whoever can write to the registry can write its time.
        """
        champion = model_versions.by_alias(client, model, model_versions.CHAMPION)
        previous = model_versions.by_alias(client, model, model_versions.PREVIOUS)
        if champion is None or previous is None or champion.promoted_at is None or champion.promoted_at > now:
            return None
        if champion.replaced_version != previous.number or previous.rollback_reason is not None:
            return None
        probation = cls(client, settings, source, champion, previous, champion.promoted_at, as_of, now)
        return probation if settings.serving.probation_days and now <= probation.end else None

    @property
    def end(self) -> datetime:
        """When the labels of the last day are known."""
        days = self.settings.serving.probation_days + self.settings.data.label_delay_days
        return self.promoted_at + timedelta(days=days)

    def look(self, servers: Sequence[str]) -> Result:
        """Look at the failed requests, and once a day at the labels.

        Args:
            servers: the addresses of the prediction servers; none if they cannot be reached from here.

        Raises:
            UserError: a server, the log, the warehouse or a version cannot be read.
        """
        failures = self._compare_failures(servers)
        if failures is not None:
            return Result(is_worse=True, message=failures)
        on_probation = f"version {self.champion.number} is on probation until {format_time(self.end)}"
        state = ProbationState.of(self.champion)
        if state.looked_on == self.now.date():
            return Result(is_worse=False, message=f"{on_probation}: the labels of today were compared already")
        rows = self._read_rows()
        if rows is None or not len(rows):
            return Result(is_worse=False, message=f"{on_probation}: no label of a row since its promotion is known yet")
        result = self._compare_labels(rows)
        ProbationState(looked_on=self.now.date()).write(self.client, self.champion)
        return result if result.is_worse else result._replace(message=f"{on_probation}: {result.message}")

    def _compare_failures(self, servers: Sequence[str]) -> str | None:
        """Return in one line that more of the champion's requests failed than may, and than of the previous version."""
        totals = {version.number: Counters() for version in (self.champion, self.previous)}
        for url in servers:
            for (version, role), counters in read_counters(url).items():
                if role == "champion" and version in totals:
                    totals[version] += counters
        return describe_failures(totals[self.champion.number], totals[self.previous.number], self.settings.serving)

    def _read_rows(self) -> pd.DataFrame | None:
        """Return rows since the promotion with their labels and features; from the log, with the champion's answers."""
        data = self.settings.data
        window = (self.as_of - (self.now - self.promoted_at), self.as_of - timedelta(days=data.label_delay_days))
        if window[0] >= window[1]:
            return None
        if self.source == "warehouse":
            return warehouse_rows.read_labels(self.settings, [window])[0]
        with predictions_log.open_log(self.champion.name, self.promoted_at) as log:
            if not log.has_keys(self.settings):
                return None
            labels = log.join_labels(
                self.settings, [window], self.champion.number, self.as_of, self.now, features=data.features
            )
            return labels[0]

    def _compare_labels(self, rows: pd.DataFrame) -> Result:
        """Compare both versions on labelled rows by the metric that decides, as Compare does."""
        limits, serving = self.settings.compare, self.settings.serving
        previous = warehouse_rows.predict(self.previous, rows, self.settings)
        champion = self._predict_champion(rows)
        if _outputs(champion) != _outputs(previous):
            message = (
                f"it cannot be compared with version {self.previous.number}, which predicts other classes or targets"
            )
            return Result(is_worse=False, message=message)
        is_classifier = isinstance(champion, ClassifierPredictions)
        groups = bootstrap.draw_groups(rows, self.settings)
        classes = count_by_class(rows[self.settings.data.targets[0]] if is_classifier else None)
        cases = count_cases(len(rows), classes, count_groups(groups))
        if cases < limits.min_cases:
            message = f"{len(rows):,} rows with labels are too few, with {cases:,} of {limits.min_cases:,} cases"
            return Result(is_worse=False, message=message)
        truth = GroundTruth.of(rows, self.settings)
        difference = estimate_difference(champion, previous, truth, limits, groups, cases)
        if difference is None:
            message = f"{plain_name(limits.metric)} is not defined on most resamples of {len(rows):,} rows"
            return Result(is_worse=False, message=message)
        # One look a day, each with its part of the error (Bonferroni)
        tail = limits.tail / max(1, math.ceil(serving.probation_days))
        change, best = difference.value, difference.best(tail)
        allowed = -(limits.non_inferior or 0)
        message = (
            f"its {plain_name(limits.metric)} improves by {format_improvement(change)} over that of version "
            f"{self.previous.number} on {len(rows):,} rows since its promotion, with {100 * (1 - tail):.4g}% "
            f"confidence by {format_improvement(best)} at most"
        )
        if best >= allowed:
            return Result(is_worse=False, message=message)
        at_least = f"; {format_improvement(allowed)} is allowed" if allowed else ""
        return Result(is_worse=True, message=f"{message}{at_least}")

    def _predict_champion(self, rows: pd.DataFrame) -> Predictions:
        """Return the champion's logged predictions or, without a log, what it predicts.

        Raises:
            UserError: it has no reference that describes its logged predictions, or cannot predict.
        """
        if "answers" not in rows:
            return warehouse_rows.predict(self.champion, rows, self.settings)
        champion_reference = reference.load_reference(self.client, self.champion)
        if champion_reference is None:
            raise UserError(f"version {self.champion.number} has no reference, which describes its logged predictions")
        return reference.logged_predictions(rows, champion_reference)


def describe_failures(champion: Counters, previous: Counters, serving: Serving) -> str | None:
    """Return in one line that significantly more requests failed than may; None if that is not so.

    Args:
        champion: the requests of the champion.
        previous: those of the version before it, as champion: if more of its requests failed, so many may.
        serving: the limits.
    """
    allowed = max(serving.max_error_share, previous.error_share)
    if champion.requests < serving.min_requests:
        return None
    if binomial_p_value(champion.failures, champion.requests, allowed) >= SIGNIFICANCE:
        return None
    share, before = format_percent(champion.error_share), format_percent(previous.error_share)
    of_previous = f", of the version before it {before}" if previous.requests else ""
    return f"{share} of {champion.requests:,} requests failed{of_previous}; {format_percent(allowed)} may fail"


def _outputs(predictions: Predictions) -> tuple[object, ...]:
    if isinstance(predictions, ClassifierPredictions):
        return tuple(map(str, predictions.classes_))
    return predictions.values.shape[1:]
