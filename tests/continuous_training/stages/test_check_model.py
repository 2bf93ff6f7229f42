"""Check model: the behaviour tests become checks of the candidate; broken tests are an error."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from continuous_training.data.snapshots import read_snapshot
from continuous_training.errors import UserError
from continuous_training.settings import load_settings
from continuous_training.stages import check_model
from pipeline import Pipeline
from toy import change

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from continuous_training.documents import Check

    Write = Callable[[str], object]

pytestmark = pytest.mark.integration

BEHAVIOUR = """
import os

import mlflow.sklearn
import pandas as pd
import pytest


@pytest.fixture(scope="session")
def model():
    return mlflow.sklearn.load_model(os.environ["CT_CANDIDATE"])


@pytest.fixture(scope="session")
def rows():
    return pd.read_parquet(os.environ["CT_FRESH_ROWS"])


def test_a_larger_x_is_more_likely_late(model, rows):
    assert (model.predict_proba(rows.assign(x=2.0)) > model.predict_proba(rows.assign(x=-2.0)))[:, 1].all()


@pytest.mark.parametrize("feature", ["shade", "no_such_thing"])
def test_the_model_has_the_feature(model, rows, feature):
    assert feature in model.feature_names_in_, f"{feature} is not"


def test_y_determines_the_prediction(model, rows):
    assert (model.predict_proba(rows.assign(y=-1.0))[:, 1] > 0.99).all()


def test_in_summer():
    pytest.skip("it is winter")
"""


@pytest.fixture(scope="module")
def pipeline(mlflow_workspace_patch: pytest.MonkeyPatch) -> Pipeline:
    """Train a candidate in the workspace of all tests."""
    run = Pipeline(mlflow_workspace_patch)
    run.train()
    return run


@pytest.fixture
def write(pipeline: Pipeline) -> Iterator[Write]:
    """Return a function that writes the behaviour tests; they are removed after the test."""
    folder = Path("tests", pipeline.run.model).resolve()
    folder.mkdir(parents=True)
    yield (folder / "test_behaviour.py").write_text
    shutil.rmtree(folder)


def run_checks(run: Pipeline) -> list[Check]:
    return check_model.check(run.run, run.settings, run.snapshot, run.candidate, run.timer).checks


def test_each_behaviour_test_is_a_check_with_the_reason_of_its_failure(pipeline: Pipeline, write: Write) -> None:
    write(BEHAVIOUR)
    checks = {check.name: check for check in run_checks(pipeline)}
    assert {name: check.passed for name, check in checks.items()} == {
        "a larger x is more likely late": True,
        "the model has the feature [shade]": True,
        "the model has the feature [no_such_thing]": False,
        "y determines the prediction": False,
    }
    assert checks["the model has the feature [no_such_thing]"].message == "no_such_thing is not"
    assert checks["y determines the prediction"].message.startswith("assert ")
    assert "\n" not in checks["y determines the prediction"].message
    assert "no_such_thing is not" in check_model.JUNIT.read_text()


def test_a_model_without_behaviour_tests_is_warned_with_the_file_to_write(
    pipeline: Pipeline, caplog: pytest.LogCaptureFixture
) -> None:
    assert run_checks(pipeline) == []
    assert "write tests/toy/test_behaviour.py" in caplog.text


@pytest.mark.parametrize(
    ("tests", "message"),
    [
        ("", "contains no test"),
        ("def test_broken(:", "cannot be run, pytest exited with 2"),
        ("def test_candidate(no_such_fixture): ...", "cannot run test_candidate"),
        ("import pytest\ndef test_candidate(): pytest.skip('no')", "skips all its tests"),
        ("def test_candidate(): ...", "test_candidate asserts nothing.*add an assert, or remove the test"),
    ],
    ids=["no test", "a syntax error", "an unknown fixture", "only skipped tests", "a test without an assertion"],
)
def test_behaviour_tests_that_check_nothing_are_an_error(
    pipeline: Pipeline, write: Write, tests: str, message: str
) -> None:
    write(tests)
    with pytest.raises(UserError, match=message):
        run_checks(pipeline)


def test_pytest_addopts_excludes_no_test(monkeypatch: pytest.MonkeyPatch, pipeline: Pipeline, write: Write) -> None:
    write("def test_it_holds(): assert 1 < 2\ndef test_it_fails(): assert False")
    monkeypatch.setenv("PYTEST_ADDOPTS", "-k holds")
    assert [check.passed for check in run_checks(pipeline)] == [True, False]


def test_no_test_runs_on_an_untrusted_candidate(pipeline: Pipeline, write: Write) -> None:
    write("def test_candidate(): ...")
    check_model.JUNIT.unlink(missing_ok=True)
    (metadata,) = Path(".ct/artifacts").rglob("MLmodel")
    change("serialization_format: skops", "serialization_format: pickle", metadata)
    with pytest.raises(UserError, match="its file MLmodel is not as signed"):
        run_checks(pipeline)
    assert not check_model.JUNIT.exists()
    change("serialization_format: pickle", "serialization_format: skops", metadata)


@pytest.mark.usefixtures("workspace")
class TestRows:
    def test_the_rows_cover_the_whole_window_and_are_reproducible(self, monkeypatch: pytest.MonkeyPatch) -> None:
        run = Pipeline(monkeypatch)
        fresh = read_snapshot(run.take_snapshot().fresh.path, run.settings.data)
        monkeypatch.setattr(check_model, "ROWS", 56)
        sample = check_model.sample_rows(fresh, run.settings.data)
        days = fresh.loc[sample.index, "seen"].dt.date.value_counts()
        assert (len(days), days.min(), days.max()) == (14, 4, 4)
        pd.testing.assert_frame_equal(check_model.sample_rows(fresh, run.settings.data), sample)

    def test_the_rows_have_only_features_and_are_ordered_by_key(self) -> None:
        data = load_settings("toy").data
        random = np.random.default_rng(4)
        fresh = pd.DataFrame({"id": range(9), "seen": random.permutation(9), "late": True, "x": range(9), "y": 1.0})
        sample = check_model.sample_rows(fresh.assign(shade="red"), data)
        assert list(sample) == ["shade", "x", "y"]
        assert list(sample["x"]) == list(range(9))
