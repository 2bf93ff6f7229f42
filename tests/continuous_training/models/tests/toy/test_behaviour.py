"""The behaviour of the toy model: of the candidate in `ct check-model`, of one that is fitted here in `ct test`."""

import os

import numpy as np
import pandas as pd
import pytest

from toy.model import build


@pytest.fixture(scope="session")
def rows():
    if path := os.environ.get("CT_FRESH_ROWS"):
        return pd.read_parquet(path)
    random = np.random.default_rng(1)
    return pd.DataFrame({"shade": random.choice(["red", "blue"], 400), "x": random.normal(size=400), "y": 0.0})


@pytest.fixture(scope="session")
def model(rows):
    if path := os.environ.get("CT_CANDIDATE"):
        import mlflow.sklearn

        return mlflow.sklearn.load_model(path)
    return build(["shade"], ["x", "y"]).fit(rows, rows["x"] > 0)


def test_a_larger_x_is_more_likely_late(model, rows):
    assert (model.predict_proba(rows.assign(x=2.0)) > model.predict_proba(rows.assign(x=-2.0)))[:, 1].all()


@pytest.mark.parametrize("shade", ["red", "green", "blue"])
def test_the_shade_hardly_changes_predictions(model, rows, shade):
    expected, actual = model.predict_proba(rows)[:, 1], model.predict_proba(rows.assign(shade=shade))[:, 1]
    assert np.abs(expected - actual).max() < 0.2


def test_a_missing_y_hardly_changes_predictions(model, rows):
    expected, actual = model.predict_proba(rows)[:, 1], model.predict_proba(rows.assign(y=np.nan))[:, 1]
    assert np.abs(expected - actual).max() < 0.2


def test_predictions_for_an_unknown_shade_are_probabilities(model, rows):
    probabilities = model.predict_proba(rows.assign(shade="unknown"))
    assert ((probabilities >= 0) & (probabilities <= 1)).all()
