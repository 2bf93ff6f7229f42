"""The importance of features: what matters is found, the same each time, within its time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression

from continuous_training.comparison import evaluation
from continuous_training.comparison.evaluation import Predictions
from continuous_training.comparison.importance import (
    CLASS_ROWS,
    ROWS,
    find_correlated,
    measure_importance,
    sample_rows,
    shuffle,
)
from continuous_training.documents import CorrelatedFeatures, FeatureImportance, Importance

MAE = "neg_mean_absolute_error"


class FittedModel:
    """A fitted estimator in this process, as StoredModel is one in another."""

    def __init__(self, estimator: Any, rows: pd.DataFrame, columns: list[str]) -> None:
        self._estimator, self.input_columns = estimator, columns
        self.predictions = self.predict(rows)

    def predict(self, rows: pd.DataFrame) -> Predictions:
        task = "classification" if hasattr(self._estimator, "classes_") else "regression"
        return evaluation.predict(self._estimator, rows[self.input_columns], task)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    """Rows whose price is 3 times their size less 1 time their age; their noise does not matter."""
    random = np.random.default_rng(1)
    frame = pd.DataFrame(random.normal(size=(5000, 3)), columns=["noise", "age", "size"])
    return frame.assign(price=3 * frame["size"] - frame["age"] + random.normal(scale=0.1, size=len(frame)))


def fit(rows: pd.DataFrame, columns: list[str]) -> FittedModel:
    return FittedModel(LinearRegression().fit(rows[columns], rows["price"]), rows, columns)


def importance_of(
    rows: pd.DataFrame, candidate: FittedModel, champion: FittedModel | None = None, **options: Any
) -> Importance:
    return measure_importance(MAE, candidate, champion, rows, rows["price"], by_class=False, **options)  # type: ignore[arg-type]


def test_the_most_important_feature_is_first_with_the_increase_of_the_error(rows: pd.DataFrame) -> None:
    importance = importance_of(rows, fit(rows, ["noise", "age", "size"]))
    values = {feature.name: feature.candidate for feature in importance.features}
    assert [*values] == ["size", "age", "noise"]
    # the mean distance of two normal values is 2 / sqrt(pi) of their standard deviation, times their weight
    assert values["size"] == pytest.approx(3 * 2 / np.sqrt(np.pi), rel=0.1)
    assert values["age"] == pytest.approx(2 / np.sqrt(np.pi), rel=0.15)
    assert values["noise"] == pytest.approx(0, abs=0.01)
    assert importance.sentences[0] == "The candidate looks most at size, age and noise."
    assert (importance.rows, importance.left_out) == (ROWS, 0)


def test_it_is_the_same_each_time(rows: pd.DataFrame) -> None:
    model = fit(rows, ["noise", "age", "size"])
    assert importance_of(rows, model) == importance_of(rows, model)


def test_what_changed_most_between_champion_and_candidate_is_a_sentence(rows: pd.DataFrame) -> None:
    importance = importance_of(rows, fit(rows, ["noise", "size"]), fit(rows, ["age", "size"]))
    by_name = {feature.name: feature for feature in importance.features}
    assert (by_name["age"].candidate, by_name["noise"].champion) == (None, None)
    assert importance.sentences[1].startswith("Compared with the champion it lacks age, worth +1.")
    reverse = importance_of(rows, fit(rows, ["age", "size"]), fit(rows, ["noise", "size"]))
    assert reverse.sentences[1].startswith("Compared with the champion it has age too, worth +1.")


def test_the_first_sentence_is_about_the_candidate_alone() -> None:
    values = {"age": (0.1, 0.9), "size": (0.3, 0.2), "noise": (0.2, 0.1)}
    features = [FeatureImportance(name=name, candidate=a, champion=b) for name, (a, b) in values.items()]
    importance = Importance(metric=MAE, rows=9, left_out=0, features=features, correlated=[])
    assert importance.sentences[0] == "The candidate looks most at size, noise and age."


def test_equal_models_look_at_the_same_features(rows: pd.DataFrame) -> None:
    model = fit(rows, ["age", "size"])
    importance = importance_of(rows, model, model)
    assert importance.sentences[1] == "The champion looks at the same features as much."


def test_features_for_which_there_is_no_time_are_left_out_and_counted(rows: pd.DataFrame) -> None:
    importance = importance_of(rows, fit(rows, ["noise", "age", "size"]), seconds=0.0)
    assert ([feature.name for feature in importance.features], importance.left_out) == (["noise"], 2)
    assert "The time was enough for the first 1 of 3 features." in importance.sentences


def test_a_model_without_any_important_feature_is_described() -> None:
    frame = pd.DataFrame({"x": np.arange(300.0), "late": np.arange(300) % 2 == 0})
    model = FittedModel(DummyClassifier().fit(frame[["x"]], frame["late"]), frame, ["x"])
    importance = measure_importance("roc_auc", model, None, frame, frame["late"], by_class=True)  # type: ignore[arg-type]
    assert importance.sentences[0].startswith("No feature alone matters to the candidate")


def test_a_rare_class_is_in_the_sample() -> None:
    labels = pd.Series(np.arange(200_000) % 1000 == 0)
    assert labels.iloc[sample_rows(labels, by_class=True)].sum() >= CLASS_ROWS
    assert labels.iloc[sample_rows(labels, by_class=False)].sum() < CLASS_ROWS
    frame = pd.DataFrame(
        {"x": labels.astype(float) + np.random.default_rng(0).normal(size=len(labels)), "late": labels}
    )
    model = FittedModel(LogisticRegression().fit(frame[["x"]], frame["late"]), frame, ["x"])
    importance = measure_importance("roc_auc", model, None, frame, labels, by_class=True)  # type: ignore[arg-type]
    assert importance.features[0].candidate == pytest.approx(0.26, abs=0.06)


def test_shuffling_changes_one_column_and_no_type() -> None:
    frame = pd.DataFrame(
        {"shade": ["red", None, "blue", "red"], "count": [1, 2, 3, 4], "ok": [True, False, True, True]},
    ).astype({"shade": object})
    shuffled = shuffle(frame, "count", 0)
    assert (shuffled.dtypes == frame.dtypes).all()
    for part in np.array_split(np.arange(len(shuffled)), 3):
        assert sorted(shuffled["count"].iloc[part]) == [1, 2, 3, 4]
        pd.testing.assert_series_equal(shuffled["shade"].iloc[part].reset_index(drop=True), frame["shade"])
    assert shuffled["count"].tolist() != [1, 2, 3, 4] * 3


def test_correlated_features_are_named(rows: pd.DataFrame) -> None:
    frame = rows.assign(copy=-np.exp(rows["size"]), constant=1.0, empty=np.nan, shade="red")
    frame.loc[::7, "copy"] = np.nan
    [pair] = find_correlated(frame[["noise", "copy", "size", "constant", "empty", "shade"]])
    assert pair.names == ("copy", "size")
    assert pair.correlation < -0.9
    importance = Importance(
        metric=MAE,
        rows=9,
        left_out=0,
        features=[FeatureImportance(name="size", candidate=1.0, champion=None)],
        correlated=[CorrelatedFeatures(names=("a", "b"), correlation=0.95)] * 5,
    )
    assert importance.sentences[-1] == (
        "Strongly correlated, and so more important than shown: a and b (0.9500), a and b (0.9500), a and b (0.9500) "
        "and 2 other pairs."
    )
