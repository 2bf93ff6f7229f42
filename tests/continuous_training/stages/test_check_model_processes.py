"""The behaviour tests of the flights, asked as a run asks them: a good candidate passes all, broken ones do not."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import mlflow.sklearn
import numpy as np
import pytest

from conftest import ROOT, RUN_VARIABLES
from continuous_training.data.snapshots import read_snapshot
from continuous_training.registry import runs
from continuous_training.stages import check_model
from flight_delays.model import build
from pipeline import Pipeline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import pandas as pd

    from continuous_training.documents import Check

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def april(tmp_path_factory: pytest.TempPathFactory, empty_mlflow: Path) -> Iterator[Pipeline]:
    """Train on the flights before April 2013 in a workspace of its own."""
    folder = tmp_path_factory.mktemp("flights")
    for part in ("src/flight_delays", "tests"):
        shutil.copytree(ROOT / part, folder / part)
    shutil.copy(ROOT / "requirements.lock", folder)
    (folder / ".ct").mkdir()
    shutil.copy(empty_mlflow, folder / ".ct" / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        for name in RUN_VARIABLES.split():  # MLflow leaves the address of the test before in the environment
            patch.delenv(name, raising=False)
        patch.chdir(folder)
        run = Pipeline(patch, AS_OF="2013-04-01")
        run.train()
        yield run


def checks(run: Pipeline, model_uri: str) -> list[Check]:
    candidate = run.candidate.model_copy(update={"model_uri": model_uri})
    return check_model.check(run.run, run.settings, run.snapshot, candidate, run.timer).checks


def test_a_good_candidate_shows_every_behaviour(april: Pipeline) -> None:
    found = checks(april, april.candidate.model_uri)
    assert len(found) > 20
    assert [check for check in found if not check.passed] == []


def shuffled_labels(features: pd.DataFrame, late: pd.Series) -> Any:
    return estimator(features).fit(features, np.random.default_rng(1).permutation(late))


def minutes_as_names(features: pd.DataFrame, late: pd.Series) -> Any:
    named = estimator(features, "departure_minute").set_params(columntransformer__ordinalencoder__max_categories=200)
    return named.fit(features, late)


def known_names_only(features: pd.DataFrame, late: pd.Series) -> Any:
    strict = {"handle_unknown": "error", "unknown_value": None}
    strict = {f"columntransformer__ordinalencoder__{name}": value for name, value in strict.items()}
    return estimator(features).set_params(**strict).fit(features, late)


def estimator(features: pd.DataFrame, *also_categories: str) -> Any:
    categories = [*features.select_dtypes(object), *also_categories]
    return build(categories, [name for name in features if name not in categories], random_state=0)


@pytest.mark.parametrize(
    ("broken", "lacks"),
    [
        (
            shuffled_labels,
            {
                "late departures in the last hours make a flight likelier late [late_share_at_origin]",
                "rain and poor visibility make a flight likelier late",
                "flights are told apart",
            },
        ),
        (minutes_as_names, {"one minute hardly moves an answer [departure_minute]"}),
        (
            known_names_only,
            {
                "a missing feature does not move the average far",
                "an unseen name is answered near the average of the known ones [carrier]",
            },
        ),
    ],
)
def test_a_broken_candidate_is_caught_by_what_it_lacks(
    april: Pipeline, broken: Callable[[pd.DataFrame, pd.Series], Any], lacks: set[str]
) -> None:
    data, rows = april.settings.data, read_snapshot(april.snapshot.train.path, april.settings.data)
    with mlflow.start_run(experiment_id=runs.experiment_id(april.client, april.run.model)):
        logged = mlflow.sklearn.log_model(
            broken(rows[data.features], rows[data.target]),
            name="model",
            serialization_format="skops",
            skops_trusted_types=list(april.settings.model.trusted_types),
            pip_requirements=[],
        )
    found = checks(april, logged.model_uri)
    assert lacks <= {check.name for check in found if not check.passed}
    assert any(check.passed for check in found)
