"""What the package builds, by itself: it learns, and the same data teaches it the same."""

from __future__ import annotations

import numpy as np
from sklearn.base import clone
from sklearn.metrics import roc_auc_score


def test_it_learns_what_makes_flights_late(built, unseen) -> None:
    assert roc_auc_score(unseen["late"], built.predict_proba(unseen)[:, 1]) > 0.7


def test_the_same_data_gives_the_same_model(built, past, unseen) -> None:
    again = clone(built).fit(past.drop(columns="late"), past["late"])
    assert np.array_equal(again.predict_proba(unseen), built.predict_proba(unseen))
