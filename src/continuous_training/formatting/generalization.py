"""The training rows and the fresh rows: how much better a model is on the rows that it has seen.

A difference is normal, and alone it is no fault: rule 37 of https://developers.google.com/machine-learning/guides/rules-of-ml
lists the causes. It decides nothing, because only the score on the fresh rows counts.
"""

from __future__ import annotations

from continuous_training.formatting.scorers import TRAINING, format_score, is_error, plain_name

MAX_RATIO = 2.0  # of the errors on fresh and on training rows: a rule of thumb, from which on a sentence says so


def describe_gap(metrics: dict[str, float], scorer: str) -> str | None:
    """Return a sentence if a model is far worse on the fresh rows than on its training rows, else None.

    The ratio is that of the errors. The error of a score that is at most 1, such as `roc_auc` or `r2`, is what it lacks
    of 1; a score that can be greater has no error to compare.

    Args:
        metrics: scorers of the model by name; the names of those on the training rows begin with `TRAINING`.
        scorer: which of them.
    """
    fresh, training = metrics.get(scorer), metrics.get(f"{TRAINING}{scorer}")
    if fresh is None or training is None:
        return None
    best = 0.0 if is_error(scorer) else 1.0
    error, training_error = best - fresh, best - training
    if training_error < 0 or error <= MAX_RATIO * training_error:
        return None
    lacks = "" if is_error(scorer) else ", which is at most 1,"
    times = f"{error / training_error:.2g} times the error" if training_error else "an error that it did not have"
    return (
        f"{plain_name(scorer)}{lacks} is {format_score(training, scorer)} on the training rows and "
        f"{format_score(fresh, scorer)} on the fresh rows, {times}: the model may have learned its training rows by "
        "heart, or the fresh rows differ from them"
    )
