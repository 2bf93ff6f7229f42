"""Each framework fits with weights, stops early by the validation rows, and reports its steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from continuous_training.errors import UserError
from continuous_training.training.fitting import fit_estimator, fix_steps
from continuous_training.versions.estimator import NativeEstimator, open_estimator, save_estimator
from continuous_training.versions.frameworks import SCIKIT_LEARN, framework_of
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

ROUNDS, PATIENCE = 300, 5
BOOSTERS: dict[str, Callable[[], Any]] = {
    "lightgbm": lambda: lightgbm.LGBMClassifier(n_estimators=ROUNDS, early_stopping_round=PATIENCE, verbose=-1),
    "xgboost": lambda: xgboost.XGBClassifier(n_estimators=ROUNDS, early_stopping_rounds=PATIENCE),
    "catboost": lambda: catboost.CatBoostClassifier(
        n_estimators=ROUNDS, early_stopping_rounds=PATIENCE, learning_rate=0.3, verbose=0, allow_writing_files=False
    ),
    SCIKIT_LEARN: lambda: HistGradientBoostingClassifier(max_iter=ROUNDS, n_iter_no_change=PATIENCE),
}
REGRESSORS: dict[str, Callable[[], Any]] = {
    "lightgbm": lambda: lightgbm.LGBMRegressor(n_estimators=20, min_child_samples=5, verbose=-1),
    "xgboost": lambda: xgboost.XGBRegressor(n_estimators=20),
    "catboost": lambda: catboost.CatBoostRegressor(n_estimators=50, verbose=0, allow_writing_files=False),
    SCIKIT_LEARN: lambda: HistGradientBoostingRegressor(max_iter=20, min_samples_leaf=5),
}
LOSS = {"lightgbm": "binary_logloss", "xgboost": "logloss", "catboost": "Logloss", SCIKIT_LEARN: "loss"}


class Steps:
    """The metrics of a fit."""

    def __init__(self) -> None:
        self.metrics: list[dict[str, float]] = []

    def report(self, step: int, metrics: Mapping[str, float]) -> None:
        assert step == len(self.metrics) + 1
        self.metrics.append(dict(metrics))


def make_rows(count: int, seed: int, weights: NDArray[Any] | None = None) -> LabelledRows:
    """Make rows with texts as labels, of which a fifth are noise."""
    random = np.random.default_rng(seed)
    features = pd.DataFrame({"shade": random.choice(["red", "green"], count), "x": random.normal(size=count)})
    late = (features["x"] > 0) ^ (random.random(count) < 0.2)
    return LabelledRows(features, pd.Series(np.where(late, "late", "in time"), dtype=object), weights)


def chain(estimator: object) -> Any:
    return make_pipeline(make_column_transformer((OneHotEncoder(), ["shade"]), ("passthrough", ["x"])), estimator)


def fit(estimator: object, training: LabelledRows, validation: LabelledRows | None = None) -> Any:
    return fit_estimator(estimator, "toy", training, validation, Steps().report)[0]


@pytest.mark.parametrize("framework", BOOSTERS)
class TestEarlyStopping:
    def test_a_fit_stops_early_and_the_stored_model_is_that_of_the_best_step(
        self, framework: str, tmp_path: Path
    ) -> None:
        steps = Steps()
        training, validation = make_rows(400, 0), make_rows(200, 1)
        fitted, best = fit_estimator(chain(BOOSTERS[framework]()), "toy", training, validation, steps.report)
        losses = [metrics[f"validation/{LOSS[framework]}"] for metrics in steps.metrics]
        assert PATIENCE < len(losses) < ROUNDS
        assert steps.metrics[-1][f"training/{LOSS[framework]}"] < steps.metrics[0][f"training/{LOSS[framework]}"]
        if framework != SCIKIT_LEARN:  # which keeps all steps
            assert best == int(np.argmin(losses)) + 1 == len(losses) - PATIENCE
            probabilities = fitted.predict_proba(validation.features)
            labels = validation.encode(fitted.classes_).labels
            loss = -np.log(probabilities[np.arange(200), labels]).mean()
            assert loss == pytest.approx(min(losses), abs=1e-6)
        assert framework_of(getattr(fitted, "estimator", None) or fitted[-1], "toy") == framework
        save_estimator(fitted, tmp_path, Trust("toy"))
        stored = open_estimator(tmp_path, framework, Trust("toy"))
        assert (stored.predict_proba(validation.features) == fitted.predict_proba(validation.features)).all()

    def test_a_refit_does_as_many_steps_and_needs_no_validation_rows(self, framework: str) -> None:
        estimator, steps = chain(BOOSTERS[framework]()), Steps()
        assert fix_steps(estimator, "toy", 7)
        fitted, _ = fit_estimator(estimator, "toy", make_rows(600, 0), None, steps.report)
        assert (fitted[-1].n_iter_ if framework == SCIKIT_LEARN else len(steps.metrics)) == 7

    def test_the_steps_before_are_fitted_on_the_training_rows_alone(self, framework: str) -> None:
        training, validation = make_rows(400, 0), make_rows(200, 1)
        training, validation = (
            LabelledRows(rows.features[["x"]] + offset, rows.labels)
            for rows, offset in ((training, 0), (validation, 9))
        )
        fitted = fit(make_pipeline(StandardScaler(), BOOSTERS[framework]()), training, validation)
        scaler = (fitted.transformers if isinstance(fitted, NativeEstimator) else fitted)[0]
        assert scaler.mean_ == pytest.approx(training.features.mean())

    def test_the_validation_rows_are_not_fitted_on(self, framework: str) -> None:
        training, validation = make_rows(400, 0), make_rows(200, 1)
        opposite = LabelledRows(validation.features, validation.labels.map({"late": "in time", "in time": "late"}))
        fitted = fit(chain(BOOSTERS[framework]()), training, opposite)
        certain = pd.DataFrame({"shade": ["red", "red"], "x": [-1.5, 1.5]})
        late = fitted.predict_proba(certain)[:, 1]
        assert late[0] < late[1]

    def test_weights_of_validation_rows_decide_when_the_fit_stops(self, framework: str) -> None:
        training = make_rows(400, 0, np.ones(400))
        losses = []
        for weights in (np.ones(200), np.where(np.arange(200) < 20, 50.0, 1.0)):
            steps = Steps()
            fit_estimator(chain(BOOSTERS[framework]()), "toy", training, make_rows(200, 1, weights), steps.report)
            losses.append([metrics[f"validation/{LOSS[framework]}"] for metrics in steps.metrics])
        assert losses[0] != losses[1]


@pytest.mark.parametrize("framework", [name for name in BOOSTERS if name != SCIKIT_LEARN])
class TestPatience:
    def test_early_stopping_without_validation_rows_is_an_error(self, framework: str) -> None:
        with pytest.raises(
            UserError, match=r"^early_stopping_rounds? needs validation rows: set model.validation_days"
        ):
            fit(chain(BOOSTERS[framework]()), make_rows(50, 0))

    def test_validation_rows_without_early_stopping_are_a_warning(
        self, framework: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        estimator = BOOSTERS[framework]().set_params(n_estimators=3)
        for name in ("early_stopping_round", "early_stopping_rounds"):
            if name in estimator.get_params():
                estimator.set_params(**{name: None})
        fit(chain(estimator), make_rows(50, 0), make_rows(50, 1))
        assert "Nothing stops this fit early: that needs the parameter early_stopping_round" in caplog.text


@pytest.mark.parametrize("framework", REGRESSORS)
def test_rows_of_a_larger_weight_count_more(framework: str) -> None:
    features = pd.DataFrame({"x": np.arange(100) // 2 % 2})  # says nothing about the labels
    labels = pd.Series(np.arange(100) % 2 * 10.0)
    weights = np.where(labels > 0, 3.0, 1.0)
    unweighted = fit(REGRESSORS[framework](), LabelledRows(features, labels)).predict(features)
    weighted = fit(REGRESSORS[framework](), LabelledRows(features, labels, weights)).predict(features)
    assert unweighted == pytest.approx(5, abs=0.1)
    assert weighted == pytest.approx(7.5, abs=0.7)


@pytest.mark.parametrize("framework", BOOSTERS)
def test_the_user_sees_each_estimator_as_it_was_built(framework: str) -> None:
    estimator = BOOSTERS[framework]()
    before = {name: value for name, value in estimator.get_params().items() if name != "early_stopping"}
    fit(chain(estimator), make_rows(400, 0), make_rows(200, 1))
    after = estimator.get_params()
    assert {name: after[name] for name in before if name != "objective"} == {
        name: value for name, value in before.items() if name != "objective"
    }


class Network(BaseEstimator):
    """A class of the model's package, which takes what it names."""

    def fit(
        self,
        rows: pd.DataFrame,
        labels: pd.Series,
        sample_weight: Any = None,
        X_val: Any = None,  # noqa: N803 - scikit-learn's name
        y_val: Any = None,
        callback: Any = None,
    ) -> Network:
        self.classes_ = np.unique(labels)
        self.received = (len(rows), len(labels), sum(sample_weight), len(X_val), len(y_val))
        for epoch in (1, 2):
            callback(epoch, {"validation/loss": 1 / epoch})
        return self


class TestScikitLearn:
    def test_a_class_of_ones_own_receives_what_its_fit_names(self) -> None:
        steps = Steps()
        training = make_rows(40, 0, np.full(40, 2.0))
        network, best = fit_estimator(Network(), "toy", training, make_rows(20, 1), steps.report)
        assert network.received == (40, 40, 80.0, 20, 20)
        assert steps.metrics == [{"validation/loss": 1.0}, {"validation/loss": 0.5}]
        assert best is None

    def test_weights_that_an_estimator_does_not_take_are_an_error(self) -> None:
        with pytest.raises(UserError, match=r"KNeighborsClassifier.fit takes no sample_weight: remove data.weight"):
            fit(chain(KNeighborsClassifier()), make_rows(40, 0, np.ones(40)))

    def test_validation_rows_that_an_estimator_does_not_take_are_an_error(self) -> None:
        with pytest.raises(
            UserError, match="LogisticRegression.fit takes no validation rows as X_val and y_val: remove"
        ):
            fit(chain(LogisticRegression()), make_rows(40, 0), make_rows(40, 1))

    def test_weights_equal_repeated_rows(self) -> None:
        rows = make_rows(60, 0)
        counts = np.arange(60) % 3
        repeated = LabelledRows(
            rows.features.loc[np.repeat(np.arange(60), counts)], rows.labels.loc[np.repeat(np.arange(60), counts)]
        )
        weighted = LabelledRows(rows.features, rows.labels, counts.astype(float))
        first, second = (fit(chain(LogisticRegression(tol=1e-10)), each) for each in (weighted, repeated))
        assert first[-1].coef_ == pytest.approx(second[-1].coef_, abs=1e-4)

    def test_a_pipeline_with_a_memory_predicts(self, tmp_path: Path) -> None:
        rows = make_rows(60, 0)
        pipeline = make_pipeline(*[step for _, step in chain(LogisticRegression()).steps], memory=str(tmp_path))
        assert (fit(pipeline, rows).predict_proba(rows.features).argmax(axis=1) >= 0).all()


RANKERS: dict[str, Callable[[], Any]] = {
    "lightgbm": lambda: lightgbm.LGBMRanker(n_estimators=20, min_child_samples=1, verbose=-1),
    "xgboost": lambda: xgboost.XGBRanker(n_estimators=20),
    "catboost": lambda: catboost.CatBoostRanker(n_estimators=20, verbose=0, allow_writing_files=False),
}


@pytest.mark.parametrize("framework", RANKERS)
class TestRankers:
    def test_a_ranker_ranks_the_rows_of_each_group(self, framework: str, tmp_path: Path) -> None:
        training, validation = self.make_rows(0), self.make_rows(1)
        fitted = fit(RANKERS[framework](), training, validation)
        save_estimator(fitted, tmp_path, Trust("toy"))
        stored = open_estimator(tmp_path, framework, Trust("toy"))
        scores = stored.predict(validation.features)
        assert (scores == fitted.predict(validation.features)).all()
        assert np.corrcoef(scores, validation.labels)[0, 1] > 0.7

    def test_a_ranker_without_groups_is_an_error(self, framework: str) -> None:
        rows = self.make_rows(0)
        with pytest.raises(UserError, match="Ranker ranks the rows of a group: set data.group"):
            fit(RANKERS[framework](), LabelledRows(rows.features, rows.labels))

    @staticmethod
    def make_rows(seed: int) -> LabelledRows:
        x = np.random.default_rng(seed).normal(size=300)
        labels = pd.Series(np.digitize(x, [-0.5, 0.5]))
        return LabelledRows(pd.DataFrame({"x": x}), labels, groups=np.arange(300) // 10)
