"""Scorers as people read them: the plain name of a metric, and its values in their natural sign.

A scorer is greater for the better model. By scikit-learn's convention the scorer of an error is the error with a minus,
and its name begins with `neg_`: an error of 65 is -65 as `neg_mean_absolute_error`. The scorers of a team's own metrics
follow the same convention. training.yaml, the documents and MLflow have scorers; every message and every page has what
these functions return. A difference of two scorers is an improvement, which is positive for errors too.

https://scikit-learn.org/stable/modules/model_evaluation.html
"""

from __future__ import annotations

from continuous_training.formatting import format_number

ERROR = "neg_"
TRAINING = "train_"  # before the name of a scorer in MLflow: its value on the training rows
VALIDATION = "validation_"  # and that on the validation rows

# Scorers that need no trial: they exist, and are defined for all labels of a task
DEFINED_FOR = {
    "classification": {"accuracy", "neg_log_loss", "neg_brier_score", "balanced_accuracy"},
    "regression": {
        *("neg_mean_absolute_error", "neg_mean_squared_error", "neg_root_mean_squared_error"),
        *("neg_median_absolute_error", "r2", "explained_variance"),
    },
}
DEFINED_FOR_TWO_CLASSES = {"roc_auc", "average_precision", "f1", "precision", "recall"}


def is_error(scorer: str) -> bool:
    """Return whether a lower value of the metric is better."""
    return _split(scorer)[1].startswith(ERROR)


def plain_name(scorer: str) -> str:
    """Return the name of the metric, such as `mean_absolute_error` for `neg_mean_absolute_error`."""
    rows, name = _split(scorer)
    return rows + name.removeprefix(ERROR)


def natural_value(value: float, scorer: str) -> float:
    """Return the value of the metric: an error is positive."""
    return 0.0 - value if is_error(scorer) else value  # not -value, which is -0.0 for 0


def format_score(value: float, scorer: str) -> str:
    """Format a scorer's value as the metric's."""
    return format_number(natural_value(value, scorer))


def format_improvement(difference: float) -> str:
    """Format the better model's scorer less the other's, with its sign."""
    return format_number(difference, signed=True)


def _split(scorer: str) -> tuple[str, str]:
    """Split off the prefix that says on which rows a scorer was computed."""
    rows = next((prefix for prefix in (TRAINING, VALIDATION) if scorer.startswith(prefix)), "")
    return rows, scorer.removeprefix(rows)
