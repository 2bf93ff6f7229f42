"""The behaviour tests of the toy model on candidates: a good one passes, broken ones fail."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import pytest

from continuous_training.data.snapshots import read_snapshot
from continuous_training.registry import runs
from continuous_training.stages import check_model
from continuous_training.versions import packing
from pipeline import Pipeline
from toy import MODELS

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

    from continuous_training.documents import Check

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def run(mlflow_workspace_patch: pytest.MonkeyPatch) -> Pipeline:
    """Train in a workspace with the model's tests."""
    shutil.copytree(MODELS / "tests/toy", "tests/toy", ignore=shutil.ignore_patterns("__pycache__"))
    mlflow_workspace_patch.setenv("PYTHONPATH", str(Path("src").resolve()))
    run = Pipeline(mlflow_workspace_patch)
    run.train()
    return run


def check(run: Pipeline, model_uri: str, run_id: str) -> list[Check]:
    candidate = run.candidate.model_copy(update={"model_uri": model_uri, "run_id": run_id})
    return check_model.check(run.run, run.settings, run.snapshot, candidate, run.timer).checks


def test_a_good_candidate_passes_all_behaviour_tests(run: Pipeline) -> None:
    checks = check(run, run.candidate.model_uri, run.candidate.run_id)
    assert len(checks) == 6
    assert [check for check in checks if not check.passed] == []


def inverted_labels(build: Callable[..., Any], features: pd.DataFrame, late: pd.Series) -> Any:
    return build(["shade"], ["x", "y"]).fit(features, ~late)


def depends_on_shade(build: Callable[..., Any], features: pd.DataFrame, late: pd.Series) -> Any:
    return build(["shade"], ["x", "y"]).fit(features, (features["shade"] == "red") ^ (late & (features["x"] > 2)))


def rejects_unknown_categories(build: Callable[..., Any], features: pd.DataFrame, late: pd.Series) -> Any:
    strict = build(["shade"], ["x", "y"]).set_params(columntransformer__onehotencoder__handle_unknown="error")
    return strict.fit(features, late)


@pytest.mark.parametrize(
    ("fit", "failures"),
    [
        (inverted_labels, {"a larger x is more likely late"}),
        (
            depends_on_shade,
            {"the shade hardly changes predictions [red]", "the shade hardly changes predictions [green]"},
        ),
        (rejects_unknown_categories, {"predictions for an unknown shade are probabilities"}),
    ],
)
def test_a_broken_candidate_fails_the_tests_of_its_defect(
    run: Pipeline, fit: Callable[..., Any], failures: set[str]
) -> None:
    from toy.model import build

    data, rows = run.settings.data, read_snapshot(run.snapshot.train.path, run.settings.data)
    estimator = fit(build, rows[data.features], rows[data.target].astype(bool))
    with mlflow.start_run(experiment_id=runs.experiment_id(run.client, run.run.model)) as tracked_run:
        predictions = estimator.predict_proba(rows[data.features])
        model_uri = packing.log_files(estimator, run.run.model, run.settings, rows, set(), predictions)
    run_id = tracked_run.info.run_id
    packing.sign_files(run.client, model_uri, run.run.model, run.settings, run_id, {})
    checks = check(run, model_uri, run_id)
    assert failures <= {check.name for check in checks if not check.passed}
    assert any(check.passed for check in checks)
