"""The example model by itself: it learns, it is deterministic, and unknown or missing inputs do not break it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from flight_delays.model import build

CATEGORIES, NUMBERS = ["carrier", "origin"], ["departure_minute", "visibility"]


def flights(rows: int, seed: int) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "carrier": random.choice(["UA", "AA", "B6"], rows),
            "origin": random.choice(["EWR", "JFK"], rows),
            "departure_minute": random.integers(300, 1440, rows).astype(float),
            "visibility": random.uniform(0, 10, rows),
        }
    )


def late(frame: pd.DataFrame) -> pd.Series:
    chance = 0.05 + 0.5 * (frame["departure_minute"] > 1000) + 0.3 * (frame["carrier"] == "B6")
    return pd.Series(np.random.default_rng(5).random(len(frame)) < chance)


@pytest.fixture(scope="module")
def fitted():
    frame = flights(3000, 1)
    return build(CATEGORIES, NUMBERS, max_iter=30, random_state=0).fit(frame, late(frame))


def test_it_learns_what_makes_flights_late(fitted) -> None:
    fresh = flights(2000, 2)
    assert roc_auc_score(late(fresh), fitted.predict_proba(fresh)[:, 1]) > 0.75


def test_an_evening_flight_is_likelier_late_than_a_morning_one(fitted) -> None:
    frame = flights(200, 3)
    morning, evening = (fitted.predict_proba(frame.assign(departure_minute=at))[:, 1] for at in (420.0, 1200.0))
    assert (evening > morning).all()


def test_the_same_data_gives_the_same_model(fitted) -> None:
    frame = flights(3000, 1)
    again = build(CATEGORIES, NUMBERS, max_iter=30, random_state=0).fit(frame, late(frame))
    assert np.array_equal(again.predict_proba(frame), fitted.predict_proba(frame))


def test_unknown_carriers_and_missing_weather_get_an_answer(fitted) -> None:
    frame = flights(5, 4).assign(carrier="ZZ", origin=None, visibility=np.nan)
    answers = fitted.predict_proba(frame)
    assert np.isfinite(answers).all()
    assert np.allclose(answers.sum(axis=1), 1)
