"""The rules that a refit is held to: it agrees with the judged candidate, and more recent rows have gained before.

Both models are compared on the training rows, which both were fitted on: what one of them has memorised of rows that
the other has never seen is no disagreement.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import spearmanr

from continuous_training.comparison import bootstrap, evaluation
from continuous_training.comparison.evaluation import ClassifierPredictions
from continuous_training.documents import Rule
from continuous_training.formatting import format_confidence, format_percent
from continuous_training.formatting.scorers import format_improvement, plain_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from numpy.typing import ArrayLike, NDArray

    from continuous_training.comparison.evaluation import Predictions
    from continuous_training.comparison.ground_truth import GroundTruth
    from continuous_training.comparison.stored_model import StoredModel
    from continuous_training.settings import Compare, Refit

GAIN = "gain of recent rows"


def check_signature(refit: StoredModel, judged: StoredModel) -> Rule:
    """Check that both models take the same columns of the same types, and predict the same classes or targets."""
    parts = {
        "inputs": (refit.manifest.inputs, judged.manifest.inputs),
        "outputs": (refit.manifest.outputs, judged.manifest.outputs),
        "classes": (refit.classes, judged.classes),
        "targets": (refit.targets, judged.targets),
    }
    differing = [name for name, (one, other) in parts.items() if one != other]
    message = "the refit has the candidate's signature"
    if differing:
        message = f"the refit has other {' and '.join(differing)} than the candidate"
    return Rule(name="refit: signature", passed=not differing, value=len(differing), limit=0, message=message)


def check_agreement(refit: Predictions, judged: Predictions, labels: ArrayLike, limits: Refit) -> Iterator[Rule]:
    """Check that a refit agrees with the judged candidate on rows that both were fitted on.

    Args:
        refit: its predictions for these rows.
        judged: the candidate's for the same rows, of the same shape.
        labels: of these rows, of shape (rows,) or (rows, targets).
        limits: of the differences.
    """
    yield check_correlation(correlation(refit.values, judged.values), limits.min_correlation)
    if isinstance(refit, ClassifierPredictions) and isinstance(judged, ClassifierPredictions):
        changed = float(np.mean(refit.values.argmax(axis=1) != judged.values.argmax(axis=1)))
        yield check_changed_decisions(changed, limits.max_changed_decisions)
        error, judged_error = (evaluation.calibration_error(model, labels) for model in (refit, judged))
        yield check_calibration(error, judged_error, limits.max_calibration_increase)
    else:
        yield check_difference(relative_difference(refit.values, judged.values), limits.max_difference)


def correlation(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Return the rank correlation of two models' predictions, the lowest one of several outputs.

    It is Spearman's, which is 1 if both order the rows equally. An output that is the same for all rows orders none: it
    agrees with one that is so too, and is not correlated with any other.

    Args:
        one: predictions, of shape (rows,) or (rows, outputs).
        other: those of the other model, of the same shape.
    """
    columns = zip(_columns(one).T, _columns(other).T, strict=True)
    return min(_correlation(left, right) for left, right in columns)


def _correlation(left: NDArray[Any], right: NDArray[Any]) -> float:
    constant = [bool(np.all(values == values[0])) for values in (left, right)]
    if any(constant):
        return 1.0 if all(constant) else 0.0
    return float(spearmanr(left, right).statistic)


def relative_difference(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Return the mean absolute difference in standard deviations of the other model's predictions.

    Of several targets it is the largest. Predictions without any spread have no difference, or an infinite one.

    Args:
        one: predictions, of shape (rows,) or (rows, targets).
        other: those of the other model, of the same shape.
    """
    distance = np.abs(_columns(one) - _columns(other)).mean(axis=0)
    spread = _columns(other).std(axis=0)
    ratios = np.divide(distance, spread, out=np.where(distance > 0, np.inf, 0.0), where=spread > 0)
    return float(ratios.max())


def _columns(values: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(values, dtype=np.float64).reshape(len(values), -1)


def check_correlation(value: float, limit: float) -> Rule:
    """Check the rank correlation of both models' predictions."""
    message = f"the refit's predictions have a rank correlation of {value:.4f} with the candidate's; at least {limit:g}"
    return Rule(
        name="refit: rank correlation", passed=value >= limit, value=value, limit=limit, message=f"{message} is needed"
    )


def check_changed_decisions(value: float, limit: float) -> Rule:
    """Check the share of rows for which the most probable class differs."""
    message = f"the refit decides {format_percent(value)} of the rows differently; at most {format_percent(limit)}"
    return Rule(
        name="refit: changed decisions",
        passed=value <= limit,
        value=value,
        limit=limit,
        message=f"{message} is allowed",
    )


def check_calibration(refit: float, judged: float, limit: float) -> Rule:
    """Check by how much the calibration error is larger than the candidate's."""
    increase = refit - judged
    message = (
        f"the refit's calibration error is {refit:.4f}, the candidate's {judged:.4f} on the same rows; an increase of "
        f"{limit:g} is allowed"
    )
    return Rule(name="refit: calibration", passed=increase <= limit, value=increase, limit=limit, message=message)


def check_difference(value: float, limit: float) -> Rule:
    """Check the mean absolute difference of both models' predictions, in standard deviations."""
    passed = value <= limit
    message = (
        f"the refit's predictions differ from the candidate's by {value:.3g} standard deviations on average; at most "
        f"{limit:g} are allowed"
    )
    return Rule(
        name="refit: difference",
        passed=passed,
        value=value if np.isfinite(value) else None,
        limit=limit,
        message=message,
    )


def measure_gain(
    candidate: Predictions,
    earlier: Predictions,
    truth: GroundTruth,
    limits: Compare,
    groups: NDArray[Any] | None,
) -> tuple[float, tuple[float, float] | None]:
    """Return what the candidate gained by its more recent rows, with its interval if the resamples have one.

    Args:
        candidate: its predictions for the fresh rows.
        earlier: those of the same recipe, fitted on older rows.
        truth: the ground truth of the fresh rows.
        limits: the metric, the resamples and the confidence.
        groups: what the bootstrap draws, of shape (rows,); None draws rows.

    Raises:
        UserError: the metric cannot be computed.
    """
    gain = evaluation.score(limits.metric, candidate, truth) - evaluation.score(limits.metric, earlier, truth)
    resampled = bootstrap.differences(
        limits.metric, candidate, earlier, truth, resamples=limits.resamples, groups=groups
    )
    return gain, bootstrap.interval(resampled, limits.confidence)


def check_gain(gain: float, interval: tuple[float, float] | None, limit: float, days: float, limits: Compare) -> Rule:
    """Check that more recent rows have gained, at the moment at which this can be measured.

    Args:
        gain: of the candidate over a fit that lacks the newest training rows, on the fresh rows.
        interval: of the gain.
        limit: the least gain.
        days: how many days of rows it lacks.
        limits: of the comparison.
    """
    metric, improvement = plain_name(limits.metric), format_improvement(gain)
    ends = " to ".join(map(format_improvement, interval)) if interval else "an interval that is not defined"
    message = (
        f"the newest {days:.3g} days of the training rows were worth {improvement} {metric} on the fresh rows "
        f"({ends} with {format_confidence(limits.confidence)} confidence); at least {format_improvement(limit)} is "
        "needed"
    )
    return Rule(name=f"refit: {GAIN}", passed=gain >= limit, value=gain, limit=limit, message=message)


def skip_gain(problem: str, limit: float) -> Rule:
    """Return the rule above where the training window is too short for it: nothing speaks against more rows."""
    message = f"what recent rows gain cannot be measured: {problem}"
    return Rule(name=f"refit: {GAIN}", passed=True, judged=False, value=None, limit=limit, message=message)
