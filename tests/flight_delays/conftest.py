"""The model and the flights of the tests: the run's candidate and its fresh rows, or a model of synthetic flights."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

import flight_delays
from flight_delays.model import build

SETTINGS = yaml.safe_load(Path(flight_delays.__file__).with_name("training.yaml").read_text(encoding="utf-8"))
COLUMNS = SETTINGS["data"]["columns"]
FEATURES = [name for name, column in COLUMNS.items() if column.get("feature", True)]
CATEGORIES = [name for name in FEATURES if COLUMNS[name]["type"] == "category"]
NUMBERS = [name for name in FEATURES if name not in CATEGORIES]


def make_flights(rows: int, seed: int) -> pd.DataFrame:
    """Make synthetic flights, and which of them are late."""
    random = np.random.default_rng(seed)
    bad_weather = random.random(rows) < 0.3
    frame = pd.DataFrame(
        {
            "carrier": random.choice(["9E", "AA", "B6", "DL", "EV", "UA", "WN"], rows),
            "origin": random.choice(["EWR", "JFK", "LGA"], rows),
            "dest": random.choice(["ATL", "BOS", "FLL", "LAX", "MIA", "ORD", "SFO"], rows),
            "departure_minute": random.integers(300, 1440, rows).astype(float),
            "arrival_minute": random.integers(0, 1440, rows).astype(float),
            "day_of_week": random.integers(0, 7, rows).astype(float),
            "distance": random.integers(100, 2600, rows).astype(float),
            "plane_age": random.integers(0, 30, rows).astype(float),
            "seats": random.choice([55.0, 149.0, 189.0, 330.0], rows),
            "temperature": random.uniform(15, 95, rows),
            "dew_point": random.uniform(0, 75, rows),
            "humidity": np.where(bad_weather, random.uniform(75, 100, rows), random.uniform(20, 80, rows)),
            "wind_direction": random.choice(np.arange(0.0, 361, 10), rows),
            "wind_speed": random.gamma(4, 2.5, rows),
            "precipitation": np.where(bad_weather, random.exponential(0.15, rows), 0.0),
            "pressure": random.normal(1018, 7, rows),
            "visibility": np.where(bad_weather, random.uniform(0, 9, rows), 10.0),
            "late_share_at_origin": random.beta(1, 4, rows),
            "late_share_of_carrier": random.beta(1, 4, rows),
        }
    )
    log_odds = (
        -3.9
        + 4.0 * frame["late_share_at_origin"]
        + 3.0 * frame["late_share_of_carrier"]
        + 1.2 * (frame["departure_minute"] - 300) / 1140
        + 1.2 * (10 - frame["visibility"]) / 10
        + 3.0 * frame["precipitation"].clip(upper=0.5)
        + 0.04 * frame["wind_speed"]
        + 0.4 * (frame["day_of_week"] == 5)
        + frame["carrier"].map({"EV": 0.3, "DL": -0.3}).fillna(0.0)
    )
    late = random.random(rows) < 1 / (1 + np.exp(-log_odds))
    for name in NUMBERS:
        if COLUMNS[name].get("max_null_share"):
            frame.loc[random.random(rows) < 0.05, name] = np.nan
    return frame[FEATURES].assign(late=late)


@pytest.fixture(scope="session")
def training_flights() -> pd.DataFrame:
    """Make the flights that the model is trained on."""
    return make_flights(5000, seed=1)


@pytest.fixture(scope="session")
def holdout_flights() -> pd.DataFrame:
    """Make flights that the model is not trained on."""
    return make_flights(1000, seed=2)


def fit(rows: pd.DataFrame) -> Any:
    """Fit the package's estimator with the parameters of training.yaml."""
    return build(CATEGORIES, NUMBERS, **SETTINGS["model"]["parameters"]).fit(rows[FEATURES], rows["late"])


@pytest.fixture(scope="session")
def fitted_model(training_flights: pd.DataFrame) -> Any:
    """Fit the model."""
    return fit(training_flights)


@pytest.fixture(scope="session")
def second_fitted_model(training_flights: pd.DataFrame) -> Any:
    """Fit it once more on the same rows."""
    return fit(training_flights)


@pytest.fixture(scope="session")
def model(request: pytest.FixtureRequest) -> Any:
    """Return the candidate if `ct check-model` runs the tests, else the fitted model."""
    candidate = os.environ.get("CT_CANDIDATE")
    if not candidate:
        return request.getfixturevalue("fitted_model")
    import mlflow.pyfunc  # here because it takes seconds

    return mlflow.pyfunc.load_model(candidate).get_raw_model()


@pytest.fixture(scope="session")
def flights(request: pytest.FixtureRequest) -> pd.DataFrame:
    """Return the fresh rows if `ct check-model` runs the tests, else the test flights."""
    fresh = os.environ.get("CT_FRESH_ROWS")
    if not fresh:
        return request.getfixturevalue("holdout_flights")[FEATURES]
    return pd.read_parquet(fresh)
