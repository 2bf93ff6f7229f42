"""Rows beyond memory: a fit in batches is that of all rows, and reads one batch at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.linear_model import SGDClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from continuous_training.errors import UserError
from continuous_training.training.fitting import fit_estimator, fit_in_batches
from continuous_training.versions.estimator import NativeEstimator, open_estimator, save_estimator
from continuous_training.versions.frameworks.batches import LabelledBatches
from continuous_training.versions.frameworks.fitting import LabelledRows
from continuous_training.versions.skops_archive import Trust
from framework_models import BOOSTERS as LIBRARIES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

lightgbm, xgboost, catboost = (
    pytest.importorskip(name, reason=f"{name} is not installed: scripts/ct test installs it") for name in LIBRARIES
)

ROWS, SIZES = 1000, (400, 1, 599)
CLASSIFIERS: dict[str, Callable[..., Any]] = {
    "lightgbm": lambda **options: lightgbm.LGBMClassifier(n_estimators=10, verbose=-1, **options),
    "xgboost": lambda **options: xgboost.XGBClassifier(n_estimators=10, **options),
}
REGRESSORS: dict[str, Callable[..., Any]] = {
    "lightgbm": lambda **options: lightgbm.LGBMRegressor(n_estimators=10, verbose=-1, **options),
    "xgboost": lambda **options: xgboost.XGBRegressor(n_estimators=10, **options),
}


class Reader:
    """Reads the batches of a frame; `numbers` has those that were read."""

    def __init__(self, features: pd.DataFrame) -> None:
        ends = np.cumsum(SIZES)
        self._parts = [features.iloc[end - size : end] for size, end in zip(SIZES, ends, strict=True)]
        self.numbers: list[int] = []

    def __call__(self, number: int) -> pd.DataFrame:
        self.numbers.append(number)
        return self._parts[number].reset_index(drop=True)


def make_rows(classes: int | None, weights: NDArray[np.float64] | None = None) -> LabelledRows:
    """Make rows with labels that are texts, or numbers without classes."""
    random = np.random.default_rng(0)
    features = pd.DataFrame({"x": random.normal(size=ROWS), "shade": random.choice(["red", "green"], ROWS)})
    features["y"] = np.where(random.random(ROWS) < 0.1, np.nan, random.normal(size=ROWS))
    values = features["x"] + (features["shade"] == "red") + 0.1 * random.normal(size=ROWS)
    if classes is None:
        return LabelledRows(features, values, weights)
    return LabelledRows(features, pd.qcut(values, classes, labels=[*"abcd"[:classes]]).astype(object), weights)


def chain(estimator: object) -> Any:
    columns = make_column_transformer((OrdinalEncoder(), ["shade"]), ("passthrough", ["x", "y"]))
    return make_pipeline(columns, estimator)


def in_batches(rows: LabelledRows) -> tuple[LabelledBatches, Reader]:
    read = Reader(rows.features)
    return LabelledBatches(read, [*rows.features.columns], SIZES, rows.labels, rows.weights), read


def ignore(step: int, metrics: Mapping[str, float]) -> None:
    assert step
    assert metrics


def fit(estimator: Any, rows: LabelledRows) -> NativeEstimator:
    return fit_in_batches(estimator, "toy", rows, in_batches(rows)[0], ignore)[0]


@pytest.mark.parametrize("framework", CLASSIFIERS)
class TestBoosters:
    @pytest.mark.parametrize("classes", [2, 3])
    def test_a_classifier_of_batches_predicts_as_one_of_all_rows(
        self, framework: str, classes: int, tmp_path: Path
    ) -> None:
        rows = make_rows(classes)
        fitted = fit(chain(CLASSIFIERS[framework]()), rows)
        expected, _ = fit_estimator(chain(CLASSIFIERS[framework]()), "toy", rows, None, ignore)
        assert list(fitted.classes_) == [*"abc"[:classes]]
        probabilities = fitted.predict_proba(rows.features)
        assert probabilities == pytest.approx(expected.predict_proba(rows.features), abs=0.02)
        assert (fitted.predict(rows.features) == rows.labels).mean() > 0.9
        save_estimator(fitted, tmp_path, Trust("toy"))
        stored = open_estimator(tmp_path, framework, Trust("toy"))
        assert (stored.predict_proba(rows.features) == probabilities).all()

    def test_a_regressor_without_a_pipeline_knows_its_columns(self, framework: str, tmp_path: Path) -> None:
        rows = make_rows(None)
        rows = LabelledRows(rows.features[["x", "y"]], rows.labels)
        fitted = fit(REGRESSORS[framework](), rows)
        save_estimator(fitted, tmp_path, Trust("toy"))
        stored = open_estimator(tmp_path, framework, Trust("toy"))
        assert list(stored.feature_names_in_) == ["x", "y"]
        assert (stored.predict(rows.features) == fitted.predict(rows.features)).all()
        assert np.corrcoef(fitted.predict(rows.features), rows.labels)[0, 1] > 0.8

    def test_rows_without_weight_have_no_influence(self, framework: str) -> None:
        rows = make_rows(None)
        wrong = rows.labels.where(np.arange(ROWS) % 2 == 0, 1000.0)
        weights = (np.arange(ROWS) % 2 == 0).astype(np.float64)
        fitted = fit(chain(REGRESSORS[framework]()), LabelledRows(rows.features, wrong, weights))
        assert fitted.predict(rows.features).max() < 10

    def test_the_steps_of_the_fit_are_reported(self, framework: str) -> None:
        reports: list[tuple[int, Mapping[str, float]]] = []
        rows = make_rows(2)
        fit_in_batches(
            *(chain(CLASSIFIERS[framework]()), "toy", rows, in_batches(rows)[0]),
            lambda step, metrics: reports.append((step, metrics)),
        )
        assert [step for step, _ in reports] == list(range(1, 11))
        [name] = reports[0][1]
        assert reports[-1][1][name] < reports[0][1][name]

    def test_batches_are_read_in_their_order_and_a_few_times(self, framework: str) -> None:
        rows = make_rows(2)
        batches, read = in_batches(rows)
        fit_in_batches(chain(CLASSIFIERS[framework]()), "toy", rows, batches, ignore)
        passes = len(read.numbers) // len(SIZES)
        assert read.numbers == [*range(len(SIZES))] * passes
        assert passes <= 6

    def test_texts_need_an_encoder(self, framework: str) -> None:
        with pytest.raises(UserError, match="needs numbers, and shade are none: encode them in a step before it"):
            fit(CLASSIFIERS[framework](), make_rows(2))

    def test_sparse_features_are_refused(self, framework: str) -> None:
        columns = make_column_transformer((OneHotEncoder(), ["shade"]), sparse_threshold=1)
        with pytest.raises(UserError, match="sparse features, which model.batches does not allow"):
            fit(make_pipeline(columns, CLASSIFIERS[framework]()), make_rows(2))

    def test_a_parameter_of_fits_in_memory_is_refused(self, framework: str) -> None:
        name = {"lightgbm": "early_stopping_round", "xgboost": "early_stopping_rounds"}[framework]
        with pytest.raises(UserError, match=rf"{name} cannot be used with model.batches"):
            fit(chain(CLASSIFIERS[framework](**{name: 5})), make_rows(2))


@pytest.mark.parametrize(
    "estimator", [SGDClassifier(), catboost.CatBoostClassifier(), make_pipeline(StandardScaler(), SGDClassifier())]
)
def test_other_estimators_cannot_be_fitted_in_batches(estimator: Any) -> None:
    with pytest.raises(UserError, match="cannot be fitted in batches, only estimators of LightGBM and XGBoost"):
        fit(estimator, make_rows(2))
