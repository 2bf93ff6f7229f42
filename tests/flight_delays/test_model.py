"""The estimator of the package: it learns, and training is reproducible."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import roc_auc_score


def test_the_model_learns_the_causes_of_delays(fitted_model, holdout_flights) -> None:
    assert roc_auc_score(holdout_flights["late"], fitted_model.predict_proba(holdout_flights)[:, 1]) > 0.7


def test_training_twice_gives_the_same_model(fitted_model, second_fitted_model, holdout_flights) -> None:
    models = fitted_model, second_fitted_model
    assert np.array_equal(*(model.predict_proba(holdout_flights) for model in models))
