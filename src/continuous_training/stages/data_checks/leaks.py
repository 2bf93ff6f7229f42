"""Leaks: features, keys and nulls that know the target."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from continuous_training.data import single_features
from continuous_training.data.duckdb_connection import literal, quote
from continuous_training.data.single_features import Feature
from continuous_training.data.snapshots import ARROW_TYPES
from continuous_training.documents import Check
from continuous_training.formatting import join_names

if TYPE_CHECKING:
    from collections.abc import Iterable

    from continuous_training.data.snapshot_rows import SnapshotRows
    from continuous_training.settings import Settings

NUMBERS = {"number", "integer", "boolean"}  # other features are categories, as are numbers of few values
CODES = 100  # different values, up to which a number may be a code
MAX_CLASSES = 5  # the most frequent ones, each against the others
LISTED = 5  # in a message
PATTERN_OF_NULLS = "which features are null"


def check_leaks(rows: SnapshotRows, settings: Settings) -> list[Check]:
    """Check that no feature, no column of the key and no pattern of nulls alone tells a target too well."""
    results = []
    for target in settings.data.targets:
        scores = score_features(rows, settings, target)
        if scores:
            results.append(_check(scores, settings, target))
    return results


def score_features(rows: SnapshotRows, settings: Settings, target: str) -> dict[str, float]:
    """Return how much each feature, the key and the nulls alone tell about a target.

    For a classification it is an area under the ROC curve, 0.5 to 1, of more than two classes the mean over the most
    frequent ones, weighted by their rows; for a regression an absolute correlation, 0 to 1.
    """
    data = settings.data
    if rows.types.get(target) != str(ARROW_TYPES[data.columns[target].type]):
        return {}
    features = [*_columns(rows, settings), *_nulls(rows, settings)]
    if not features:
        return {}
    scores: dict[str, float] = {}
    for name, score in _score(rows, settings, features, target):
        scores[name] = max(score, scores.get(name, 0.0))  # a number that may be a code is scored twice
    return scores


def _check(scores: dict[str, float], settings: Settings, target: str) -> Check:
    limits = settings.checks
    is_regression = settings.model.task == "regression"
    limit = limits.max_single_feature_correlation if is_regression else limits.max_single_feature_auc
    judged = {name: score for name, score in scores.items() if name not in limits.trusted_features}
    leaks = sorted((name for name in judged if judged[name] > limit), key=lambda name: -judged[name])
    best = max(judged or scores, key=lambda name: scores[name])
    measure = "a correlation of" if is_regression else "AUC"
    listed = join_names([f"{_quoted(name)} ({measure} {scores[name]:.2f})" for name in (leaks or [best])[:LISTED]])
    more = f" and {len(leaks) - LISTED} more" if len(leaks) > LISTED else ""
    message = f"most is told by {listed}; up to {limit:g} it is no leak"
    if leaks:
        message = (
            f"alone, {listed}{more} tells '{target}'; above {limit:g} it was probably made from it or after it: remove "
            "it, or list it in checks.trusted_features if every request has it"
        )
    column = None if best == PATTERN_OF_NULLS else best
    return Check(name="leaks", column=column, passed=not leaks, message=message)


def _quoted(name: str) -> str:
    return name if name == PATTERN_OF_NULLS else f"'{name}'"


def _columns(rows: SnapshotRows, settings: Settings) -> list[Feature]:
    """Return the features and the columns of the key, numbers of few values also as categories."""
    data, features, numbers = settings.data, [], []
    for name in dict.fromkeys([*data.features, *data.key]):
        kind = data.columns[name].type
        if rows.types.get(name) != str(ARROW_TYPES[kind]) or name in {data.time, *data.targets}:
            continue
        if kind == "timestamp":
            features.append(Feature(name, f"epoch({quote(name)})", is_category=False))
        elif kind in NUMBERS:
            features.append(Feature(name, f"CAST({quote(name)} AS DOUBLE)", is_category=False))
            numbers.append(name)
        elif name in data.features:
            features.append(Feature(name, quote(name), is_category=True))
    distinct = rows.aggregate({name: f"approx_count_distinct({quote(name)})" for name in numbers})
    return features + [
        Feature(name, quote(name), is_category=True)
        for name in numbers
        if name in data.features and 2 < distinct[name] <= CODES
    ]


def _nulls(rows: SnapshotRows, settings: Settings) -> list[Feature]:
    """Return whether each feature is null, and all of that together, as features."""
    names = [name for name in settings.data.features if name in rows.types.keys() - settings.checks.trusted_features]
    counts = rows.aggregate({name: f"count({quote(name)})" for name in names})
    total = rows.train + rows.fresh
    nullable = [name for name in names if 0 < counts[name] < total]
    features = [Feature(name, f"CAST({quote(name)} IS NULL AS DOUBLE)", is_category=False) for name in nullable]
    if len(nullable) > 1:
        pattern = " || ".join(f"CAST(CAST({quote(name)} IS NULL AS INTEGER) AS VARCHAR)" for name in nullable)
        features.append(Feature(PATTERN_OF_NULLS, f"hash({pattern})", is_category=True))
    return features


def _score(rows: SnapshotRows, settings: Settings, features: list[Feature], target: str) -> Iterable[tuple[str, float]]:
    """Yield each score of each feature; a feature of the same name may occur more than once."""
    groups: list[dict[str, Feature]] = []  # the results of a group are by name
    for feature in features:
        place = sum(feature.name in group for group in groups)
        if place == len(groups):
            groups.append({})
        groups[place][feature.name] = feature
    for group in ([*named.values()] for named in groups):
        if settings.model.task == "regression":
            yield from single_features.correlations(rows, group, target).items()
            continue
        shares = _class_shares(rows, target)
        total = sum(shares.values())
        sums: dict[str, float] = dict.fromkeys((feature.name for feature in group), 0.0)
        for label, share in shares.items():
            positive = f"{quote(target)} = {_sql(label)}"
            aucs = single_features.aucs(rows, group, positive)
            for name in sums:
                sums[name] += share / total * aucs.get(name, 0.5)
        if total:
            yield from sums.items()


def _class_shares(rows: SnapshotRows, target: str) -> dict[Any, int]:
    """Return the rows of the most frequent classes; of two classes, of one: it tells the other."""
    value = quote(target)
    by_frequency = f"GROUP BY ALL ORDER BY 2 DESC, 1 LIMIT {MAX_CLASSES}"
    counts = rows.query(f"SELECT {value}, count(*) FROM rows WHERE {value} IS NOT NULL {by_frequency}")  # noqa: S608
    if len(counts) < 2:
        return {}
    return dict(counts[:1] if len(counts) == 2 else counts)


def _sql(label: Any) -> str:  # noqa: ANN401 - a label of any type
    return literal(label) if isinstance(label, str) else str(label)
