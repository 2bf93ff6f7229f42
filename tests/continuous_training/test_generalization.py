"""Training rows and fresh rows: a large gap is a sentence, an ordinary one is none."""

from __future__ import annotations

import pytest

from continuous_training.formatting.generalization import describe_gap

MAE = "neg_mean_absolute_error"


@pytest.mark.parametrize(
    ("scorer", "training", "fresh", "sentence"),
    [
        (
            *(MAE, -8.7, -60.7),
            (
                "mean_absolute_error is 8.7000 on the training rows and 60.70 on the fresh rows, 7 times the error: "
                "the model may have learned its training rows by heart, or the fresh rows differ from them"
            ),
        ),
        (
            "roc_auc",
            0.99,
            0.74,
            "roc_auc, which is at most 1, is 0.9900 on the training rows and 0.7400 on the fresh rows, 26",
        ),
        ("accuracy", 1.0, 0.8, "on the fresh rows, an error that it did not have:"),
        (MAE, -8.7, -12.0, None),
        (MAE, -8.7, -6.0, None),
        (MAE, 0.0, 0.0, None),
        ("roc_auc", 0.80, 0.747, None),
        ("r2", -0.1, -0.2, None),
        ("positive_likelihood_ratio", 5.0, 2.0, None),  # it can be greater than 1
    ],
)
def test_a_sentence_says_when_the_scores_are_far_apart(
    scorer: str, training: float, fresh: float, sentence: str | None
) -> None:
    message = describe_gap({scorer: fresh, f"train_{scorer}": training}, scorer)
    assert message is None if sentence is None else sentence in str(message)


def test_without_a_score_on_training_rows_there_is_none() -> None:
    assert describe_gap({MAE: -60.7}, MAE) is None
