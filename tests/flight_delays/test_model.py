"""The estimator of the package: it learns, and training is reproducible."""

from __future__ import annotations

import numpy as np
from sklearn.base import clone
from sklearn.metrics import roc_auc_score


def test_the_model_learns_the_causes_of_delays(fitted_model, holdout_flights) -> None:
    assert roc_auc_score(holdout_flights["late"], fitted_model.predict_proba(holdout_flights)[:, 1]) > 0.7


def test_training_twice_gives_the_same_model(fitted_model, training_flights, holdout_flights) -> None:
    again = clone(fitted_model).fit(training_flights.drop(columns="late"), training_flights["late"])
    assert np.array_equal(again.predict_proba(holdout_flights), fitted_model.predict_proba(holdout_flights))
