"""What an inspection of candidate and champion on the fresh rows shows: feature importance, curves, confused classes.

Compare writes these values into the verdict, and the report shows them. They decide nothing.
"""

from __future__ import annotations

from typing import Literal

from continuous_training.documents.values import Value
from continuous_training.formatting import format_number, join_names, pluralize
from continuous_training.formatting.scorers import format_improvement, plain_name

ModelRole = Literal["candidate", "champion"]

CLEAR_CHANGE = 0.1  # of the largest importance: a smaller change between two models is not mentioned
MAX_NAMES = 3  # of features or pairs in a sentence


class Curve(Value):
    """The points of one model's curve on the fresh rows.

    `roc` and `calibration` are of a classifier of two classes. `predicted` has the mean of the target for rows of
    similar predictions, and `residuals` the mean of the target less the prediction over time, in seconds since 1970.
    `low` and `high` are their first and last decile, if the curve has them. `target` names the one that a curve is of,
    if there are several.
    """

    kind: Literal["roc", "calibration", "predicted", "residuals"]
    model: ModelRole
    target: str | None = None
    x: list[float]
    y: list[float]
    low: list[float] | None = None
    high: list[float] | None = None


class Confusion(Value):
    """How often one model predicts each class, by the class of the row: `counts[actual][predicted]`."""

    model: ModelRole
    classes: list[str]
    counts: list[list[int]]


class FeatureImportance(Value):
    """By how much the metric worsens when a feature's values are shuffled; None for a model without this feature."""

    name: str
    candidate: float | None
    champion: float | None

    @property
    def largest(self) -> float:
        """The larger of both values."""
        return max(value for value in (self.candidate, self.champion) if value is not None)

    @property
    def change(self) -> float:
        """The candidate's value less the champion's. A feature that a model does not have is worth nothing to it."""
        return (self.candidate or 0.0) - (self.champion or 0.0)


class CorrelatedFeatures(Value):
    """Two features whose ranks are strongly correlated."""

    names: tuple[str, str]
    correlation: float


class Importance(Value):
    """The permutation importance of the features, the most important first.

    `rows` is the number of rows that were shuffled, `left_out` the number of features for which there was no time.
    """

    metric: str
    rows: int
    left_out: int
    features: list[FeatureImportance]
    correlated: list[CorrelatedFeatures]

    @property
    def has_champion(self) -> bool:
        """Whether two models were compared."""
        return any(feature.champion is not None for feature in self.features)

    @property
    def sentences(self) -> list[str]:
        """What had no time, what matters most, what changed most, and which values are too low."""
        sentences = [
            self._describe_left_out(),
            self._describe_largest(),
            self._describe_change(),
            self._describe_pairs(),
        ]
        return [sentence for sentence in sentences if sentence]

    def _describe_largest(self) -> str:
        by_value = sorted(self.features, key=lambda feature: -(feature.candidate or 0))
        names = [feature.name for feature in by_value if (feature.candidate or 0) > 0][:MAX_NAMES]
        if not names:
            return "No feature alone matters to the candidate: shuffling it does not worsen the metric."
        of_these = "Of these, the" if self.left_out else "The"
        return f"{of_these} candidate looks most at {join_names(names)}."

    def _describe_change(self) -> str:
        if not self.has_champion:
            return ""
        feature = max(self.features, key=lambda feature: abs(feature.change))
        if abs(feature.change) < CLEAR_CHANGE * max(feature.largest for feature in self.features):
            return "The champion looks at the same features as much."
        metric, compared = plain_name(self.metric), "Compared with the champion it"
        if feature.candidate is None:
            return (
                f"{compared} lacks {feature.name}, worth {format_improvement(feature.champion or 0)} of {metric} there."
            )
        value = f"{format_improvement(feature.candidate)} of {metric}"
        if feature.champion is None:
            return f"{compared} has {feature.name} too, worth {value}."
        more = "more" if feature.change > 0 else "less"
        champion = format_improvement(feature.champion)
        return f"{compared} looks {more} at {feature.name}: {value}, the champion's value is {champion}."

    def _describe_left_out(self) -> str:
        if not self.left_out:
            return ""
        total = len(self.features) + self.left_out
        return f"The time was enough for the first {len(self.features):,} of {total:,} features."

    def _describe_pairs(self) -> str:
        if not self.correlated:
            return ""
        pairs = [f"{' and '.join(pair.names)} ({format_number(pair.correlation)})" for pair in self.correlated]
        more = f" and {pluralize(len(pairs) - MAX_NAMES, 'other pair')}" if len(pairs) > MAX_NAMES else ""
        return f"Strongly correlated, and so more important than shown: {', '.join(pairs[:MAX_NAMES])}{more}."
