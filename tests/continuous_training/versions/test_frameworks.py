"""Models of each framework are stored as data, compared with each other, served, and rolled back."""

from __future__ import annotations

import importlib
import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import BisectingKMeans, FeatureAgglomeration
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, StackingClassifier
from sklearn.feature_selection import SelectKBest
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.linear_model import LogisticRegression, TweedieRegressor
from sklearn.model_selection import GridSearchCV, TunedThresholdClassifierCV
from sklearn.multiclass import OutputCodeClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline as Steps
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder, SplineTransformer, StandardScaler
from sklearn.random_projection import SparseRandomProjection

from continuous_training.errors import UserError
from continuous_training.registry import model_versions
from continuous_training.serving.following import follower
from continuous_training.settings import load_settings
from continuous_training.stages import roll_back
from continuous_training.training.fitting import fit_estimator
from continuous_training.versions.estimator import open_estimator, save_estimator
from continuous_training.versions.file_names import ESTIMATOR, NATIVE
from continuous_training.versions.frameworks import FRAMEWORKS, OWN_CLASS, SCIKIT_LEARN, framework_of
from continuous_training.versions.frameworks.fitting import LabelledRows
from continuous_training.versions.golden_predictions import describe_difference
from continuous_training.versions.skops_archive import Trust
from framework_models import BOOSTERS, INSTALLED, NETWORKS, use
from pipeline import Pipeline
from server import Server
from stored_versions import read_golden_predictions
from toy import change, import_again

if TYPE_CHECKING:
    from collections.abc import Callable

lightgbm, xgboost, catboost = (
    pytest.importorskip(name, reason=f"{name} is not installed: scripts/ct test installs it") for name in BOOSTERS
)

TRUST = Trust("toy")
CLASSIFIERS: dict[str, Callable[[], Any]] = {
    "lightgbm": lambda: lightgbm.LGBMClassifier(n_estimators=5, verbose=-1),
    "xgboost": lambda: xgboost.XGBClassifier(n_estimators=5),
    "catboost": lambda: catboost.CatBoostClassifier(n_estimators=5, verbose=0, allow_writing_files=False),
}
REGRESSORS: dict[str, Callable[[], Any]] = {
    "lightgbm": lambda: lightgbm.LGBMRegressor(n_estimators=5, verbose=-1),
    "xgboost": lambda: xgboost.XGBRegressor(n_estimators=5),
    "catboost": lambda: catboost.CatBoostRegressor(n_estimators=5, verbose=0, allow_writing_files=False),
}


@pytest.fixture
def rows() -> pd.DataFrame:
    random = np.random.default_rng(0)
    x = random.normal(size=200)
    y = np.where(random.random(200) < 0.1, np.nan, random.normal(size=200))
    return pd.DataFrame({"shade": random.choice(["red", "green"], 200), "x": x, "y": y})


def chain(estimator: object) -> Steps:
    """Return a pipeline that ends with the estimator."""
    return make_pipeline(make_column_transformer((OrdinalEncoder(), ["shade"]), ("passthrough", ["x", "y"])), estimator)


def fit(estimator: object, rows: pd.DataFrame, labels: Any) -> Any:
    """Fit an estimator as a run does."""
    return fit_estimator(estimator, "toy", LabelledRows(rows, labels), None, lambda *_: None)[0]


def test_every_framework_is_tested() -> None:
    assert {*BOOSTERS, OWN_CLASS} == FRAMEWORKS.keys()
    assert CLASSIFIERS.keys() == BOOSTERS.keys() == REGRESSORS.keys()


LABELS = {
    "booleans": lambda rows: rows["x"] > 0,
    "texts": lambda rows: pd.Series(np.where(rows["x"] > 0, "late", "on time"), dtype=object),
    "three classes": lambda rows: pd.Series(np.digitize(rows["x"], [-0.5, 0.5])),
}


@pytest.mark.parametrize(("framework", "labels"), [*itertools.product(CLASSIFIERS, LABELS)])
def test_a_stored_classifier_predicts_as_the_fitted_one(
    framework: str, labels: str, rows: pd.DataFrame, tmp_path: Path
) -> None:
    fitted = fit(chain(CLASSIFIERS[framework]()), rows, LABELS[labels](rows))
    assert save_estimator(fitted, tmp_path, TRUST) == framework
    stored = open_estimator(tmp_path, framework, TRUST)
    assert (stored.predict_proba(rows) == fitted.predict_proba(rows)).all()
    assert (stored.predict(rows) == fitted.predict(rows)).all()
    assert list(stored.classes_) == list(fitted.classes_) == sorted(set(LABELS[labels](rows)))
    assert list(stored.feature_names_in_) == ["shade", "x", "y"]


@pytest.mark.parametrize("is_alone", [True, False])
@pytest.mark.parametrize("framework", REGRESSORS)
def test_a_stored_regressor_predicts_as_the_fitted_one(
    framework: str, rows: pd.DataFrame, tmp_path: Path, *, is_alone: bool
) -> None:
    if is_alone:
        rows = rows[["x", "y"]]
    unfitted = REGRESSORS[framework]() if is_alone else chain(REGRESSORS[framework]())
    fitted = fit(unfitted, rows, 3e5 + 500 * rows["x"])
    save_estimator(fitted, tmp_path, TRUST)
    stored = open_estimator(tmp_path, framework, TRUST)
    assert (stored.predict(rows) == fitted.predict(rows)).all()
    assert stored.predict(rows).dtype == fitted.predict(rows).dtype
    assert (tmp_path / ESTIMATOR).exists() != is_alone


@pytest.mark.parametrize("framework", CLASSIFIERS)
@pytest.mark.parametrize("content", [b"", b"tree\n", bytes(1000)])
def test_damaged_files_are_an_error(framework: str, content: bytes, rows: pd.DataFrame, tmp_path: Path) -> None:
    save_estimator(fit(chain(CLASSIFIERS[framework]()), rows, rows["x"] > 0), tmp_path, TRUST)
    (path,) = (tmp_path / NATIVE).glob("booster.*")
    path.write_bytes(content)
    with pytest.raises(UserError, match="its estimator cannot be opened: "):
        open_estimator(tmp_path, framework, TRUST).predict_proba(rows)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ({"module": "os", "class": "system"}, "is not one of the package toy"),
        ({"module": "toyish.model", "class": "Rule"}, "is not one of the package toy"),
        ({"module": "json", "class": "JSONDecoder"}, "is not one of the package toy"),
        ({"module": "toy.model", "class": "json"}, "is not defined there"),
        ({"module": "toy.model", "class": "build"}, "is not defined there"),
        ({"module": "toy.model", "class": "Nothing"}, "is not defined there"),
        ({}, "cannot be opened: 'module'"),
        ([], "cannot be opened: "),
    ],
)
@pytest.mark.usefixtures("workspace")
def test_only_a_class_of_the_models_package_is_loaded(
    name: object, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(OWN_CLASS, monkeypatch)
    folder = tmp_path / "version" / NATIVE
    folder.mkdir(parents=True)
    (folder / "class.json").write_text(json.dumps(name))
    with pytest.raises(UserError, match=message):
        open_estimator(folder.parent, OWN_CLASS, TRUST)


@pytest.mark.usefixtures("workspace")
def test_a_class_of_the_package_can_be_the_last_step_of_a_pipeline(
    rows: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(OWN_CLASS, monkeypatch)
    source = Path("src/toy/model.py")
    change("class Rule:", "class Rule(BaseEstimator):", source)
    source.write_text(f"from sklearn.base import BaseEstimator\n{source.read_text()}")
    build = importlib.import_module("toy.model").build
    fitted = fit(
        make_pipeline(StandardScaler().set_output(transform="pandas"), build([], [])), rows[["x"]], rows["x"] > 0
    )
    folder = tmp_path / "version"
    folder.mkdir()
    assert save_estimator(fitted, folder, TRUST) == OWN_CLASS
    stored = open_estimator(folder, OWN_CLASS, TRUST)
    assert (stored.predict_proba(rows[["x"]]) == fitted.predict_proba(rows[["x"]])).all()


@pytest.mark.parametrize("library", NETWORKS)
class TestNetworks:
    @pytest.fixture(autouse=True)
    def _model(self, library: str, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG002 - its folder
        if library not in INSTALLED:
            pytest.skip(f"{library} is not installed: scripts/ct test installs it")
        use(library, monkeypatch)

    def fit(self, rows: pd.DataFrame) -> Any:
        parameters = load_settings("toy").model.parameters
        network = importlib.import_module("toy.model").build(categories=["shade"], numbers=["x", "y"], **parameters)
        return fit(network, rows, rows["x"] > 0)

    def test_weights_predict_in_single_precision_as_the_fitted_network(
        self, rows: pd.DataFrame, tmp_path: Path
    ) -> None:
        fitted, folder = self.fit(rows), tmp_path / "version"
        folder.mkdir()
        assert save_estimator(fitted, folder, TRUST) == OWN_CLASS
        stored = open_estimator(folder, OWN_CLASS, TRUST)
        assert stored.predict_proba(rows).dtype == "float32"
        assert describe_difference(stored.predict_proba(rows), fitted.predict_proba(rows)) is None
        assert (stored.predict(rows) == (rows["x"] > 0)).mean() > 0.8

    def test_a_network_that_does_not_store_itself_is_refused_with_advice(
        self, rows: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        change("def save", "def store", Path("src/toy/model.py"))
        import_again(monkeypatch)
        with pytest.raises(UserError, match=r"Network can store itself, with save\(folder\) and a class method load"):
            save_estimator(self.fit(rows), tmp_path, TRUST)


def test_an_unknown_framework_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="its framework 'os' is none of catboost, lightgbm"):
        open_estimator(tmp_path, "os", TRUST)


def test_a_scikit_learn_estimator_needs_no_other_framework(rows: pd.DataFrame) -> None:
    assert framework_of(chain("passthrough").fit(rows), "toy") == SCIKIT_LEARN


@pytest.mark.parametrize(
    "estimator",
    [
        BisectingKMeans(n_clusters=2),
        CalibratedClassifierCV(LogisticRegression()),
        FeatureAgglomeration(),
        GaussianProcessClassifier(),
        GridSearchCV(LogisticRegression(), {"C": [1, 10]}),
        HistGradientBoostingClassifier(max_iter=2),
        KNeighborsClassifier(algorithm="kd_tree"),
        MLPClassifier(max_iter=500),
        OutputCodeClassifier(LogisticRegression()),
        SelectKBest(k=1),
        SparseRandomProjection(1),
        SplineTransformer(),
        StackingClassifier([("a", LogisticRegression())]),
        TunedThresholdClassifierCV(LogisticRegression()),
        TweedieRegressor(),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_no_estimator_of_scikit_learn_needs_a_list_of_types(estimator: Any, rows: pd.DataFrame, tmp_path: Path) -> None:
    features = rows[["x"]].assign(z=rows["x"] ** 2)
    assert save_estimator(fit(estimator, features, (rows["x"] > 0).astype(int)), tmp_path, TRUST) == SCIKIT_LEARN
    stored = open_estimator(tmp_path, SCIKIT_LEARN, TRUST)
    for method in ("predict", "transform"):
        if hasattr(estimator, method):
            assert np.array_equal(dense(getattr(stored, method)(features)), dense(getattr(estimator, method)(features)))


def check_predictions(server: Server, run: Pipeline, number: str) -> None:
    """Check that a server serves a version, with its offline predictions."""
    server.wait_for_version(number)
    version = model_versions.by_number(run.client, "toy", number)
    assert version is not None
    rows, golden = read_golden_predictions(version.uri)
    response = server.invoke(dataframe_split=rows)
    assert response.headers["X-Model-Version"] == number
    assert describe_difference(response.json()["predictions"], golden) is None
    assert server.predict({"shade": "red", "x": 1.0, "y": None}).json()["predictions"][0]["label"] is True


def dense(values: Any) -> Any:
    """Return an array for a sparse matrix."""
    return values.toarray() if hasattr(values, "toarray") else values


@pytest.mark.usefixtures("mlflow_workspace")
class TestRuns:
    def test_half_precision_is_compared_as_such(self, monkeypatch: pytest.MonkeyPatch) -> None:
        use(OWN_CLASS, monkeypatch)
        change("[1 - late, late])", "[0.9 - late, 0.1 + late]).astype('float16')", Path("src/toy/model.py"))
        run = Pipeline(monkeypatch)
        run.promote()
        with Server() as server:
            check_predictions(server, run, "1")

    @pytest.mark.integration(seconds=90)
    def test_champions_of_one_framework_after_the_other_are_served_and_rolled_back(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Each candidate is compared with a champion of another framework, which a new server serves until then."""
        monkeypatch.setattr(follower, "POLL_SECONDS", 0.2)
        run = Pipeline(monkeypatch)
        run.promote(compare=False)
        for number, model in enumerate(INSTALLED, start=2):
            use(model, monkeypatch)
            run = Pipeline(monkeypatch)
            with Server() as server:
                monkeypatch.setenv("SERVING_URLS", server.url)
                check_predictions(server, run, str(number - 1))
                verdict = run.compare()
                assert verdict.champion == str(number - 1)
                assert run.settings.model.trusted_types == ()
                assert {rule.name: rule.passed for rule in verdict.rules}["classes"]
                run.verdict = verdict.model_copy(update={"decision": "promote"})
                run.register_candidate()
                run.deploy_version()
                check_predictions(server, run, str(number))
        last = len(INSTALLED) + 1
        with Server() as server:
            check_predictions(server, run, str(last))
            monkeypatch.setenv("SERVING_URLS", server.url)
            for number in range(last - 1, 0, -1):
                roll_back.roll_back(run.client, "toy", "a test", run.timer)
                check_predictions(server, run, str(number))

    @pytest.mark.parametrize(
        ("suffix", "message"),
        [
            (" * np.nan", "the model predicts NaN or infinite values for"),
            ("[:, :1]", r"the model returns predictions of shape \(\d+, 1\), not \(\d+, 2\)"),
            ("[:-1]", r"the model returns [\d,]+ predictions for [\d,]+ rows"),
        ],
    )
    def test_predictions_that_are_none_end_the_training(
        self, suffix: str, message: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        use(OWN_CLASS, monkeypatch)
        change(
            "np.column_stack([1 - late, late])", f"np.column_stack([1 - late, late]){suffix}", Path("src/toy/model.py")
        )
        with pytest.raises(UserError, match=message):
            Pipeline(monkeypatch).train()

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ("import json\n", "import keras_of_tomorrow\n", "cannot be imported: No module named 'keras_of_tomorrow'"),
            ("predict_proba", "predict", "Rule has no predict_proba, which the task classification needs"),
            ("        self.classes_ = np.unique(labels)\n", "", "Rule has no classes_, which"),
            ("        self.limit =", "        raise ValueError('too few rows')\n        self.limit =", "too few rows"),
            ("(folder / ", "(folder / 'nowhere' / ", "Rule cannot be stored: .*nowhere"),
            ("json.loads((", "json.loads('' and (", "its estimator cannot be opened: "),
            (
                "np.unique(labels)",
                "np.unique(labels)[::-1]",
                "Rule.classes_ is True, False: sort it, as np.unique does",
            ),
            ("    @classmethod\n", "", "Rule.load is not a class method: write @classmethod above it"),
            ("rule.limit = ", "rule.limit = 9 + ", "what the fitted one does, so it is not used: 0.75 in place of"),
        ],
    )
    def test_a_class_that_lacks_something_ends_the_training_with_one_line(
        self, old: str, new: str, message: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        use(OWN_CLASS, monkeypatch)
        change(old, new, Path("src/toy/model.py"))
        with pytest.raises(UserError, match=message):
            Pipeline(monkeypatch).train()
