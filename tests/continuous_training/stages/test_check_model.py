"""Check model: what becomes of a model's behaviour tests, and that nothing but the candidate decides it."""

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


def test_the_larger_x_the_likelier_late(model, rows):
    assert (model.predict_proba(rows.assign(x=2.0)) > model.predict_proba(rows.assign(x=-2.0)))[:, 1].all()


@pytest.mark.parametrize("feature", ["shade", "no_such_thing"])
def test_a_feature_is_asked_for(model, rows, feature):
    assert feature in model.feature_names_in_, f"{feature} is not"


def test_y_decides(model, rows):
    assert (model.predict_proba(rows.assign(y=-1.0))[:, 1] > 0.99).all()


def test_of_another_season():
    pytest.skip("it is winter")
"""


@pytest.fixture(scope="module")
def trained(tracked_module: pytest.MonkeyPatch) -> Pipeline:
    """Train a candidate, which nothing here changes, in the workspace of all tests."""
    run = Pipeline(tracked_module)
    run.train()
    return run


@pytest.fixture
def write(trained: Pipeline) -> Iterator[Write]:
    """Write the behaviour tests of one test, and remove them after it."""
    folder = Path("tests", trained.run.model).resolve()
    folder.mkdir(parents=True)
    yield (folder / "test_behaviour.py").write_text
    shutil.rmtree(folder)


def checks(run: Pipeline) -> list[Check]:
    return check_model.check(run.run, run.settings, run.snapshot, run.candidate, run.timer).checks


def test_each_behaviour_is_a_check_in_words_and_a_failed_one_says_why(trained: Pipeline, write: Write) -> None:
    write(BEHAVIOUR)
    found = {check.name: check for check in checks(trained)}
    assert {name: check.passed for name, check in found.items()} == {
        "the larger x the likelier late": True,
        "a feature is asked for [shade]": True,
        "a feature is asked for [no_such_thing]": False,
        "y decides": False,
    }
    assert found["a feature is asked for [no_such_thing]"].message == "no_such_thing is not"
    assert found["y decides"].message.startswith("assert ")
    assert "\n" not in found["y decides"].message
    assert "no_such_thing is not" in check_model.JUNIT.read_text()


def test_a_model_without_behaviour_tests_is_told_which_file_to_write(
    trained: Pipeline, caplog: pytest.LogCaptureFixture
) -> None:
    assert checks(trained) == []
    assert "write tests/toy/test_behaviour.py" in caplog.text


@pytest.mark.parametrize(
    ("tests", "message"),
    [
        ("", "contains no test"),
        ("def test_it_is_python(:", "cannot be run, pytest exited with 2"),
        ("def test_it_is_asked(nothing_of_this_name): ...", "cannot run test_it_is_asked"),
        ("import pytest\ndef test_it_is_asked(): pytest.skip('no')", "skips all its tests"),
        ("def test_it_is_asked(): ...", "test_it_is_asked asserts nothing.*add an assert, or remove the test"),
    ],
    ids=["no test", "a broken file", "a broken fixture", "only skipped tests", "a test without an assertion"],
)
def test_tests_that_ask_nothing_end_the_run_instead_of_judging(
    trained: Pipeline, write: Write, tests: str, message: str
) -> None:
    write(tests)
    with pytest.raises(UserError, match=message):
        checks(trained)


def test_ones_own_pytest_options_leave_out_no_test(
    monkeypatch: pytest.MonkeyPatch, trained: Pipeline, write: Write
) -> None:
    write("def test_it_holds(): assert 1 < 2\ndef test_it_fails(): assert False")
    monkeypatch.setenv("PYTEST_ADDOPTS", "-k holds")
    assert [check.passed for check in checks(trained)] == [True, False]


def test_a_candidate_that_is_not_to_be_trusted_is_asked_nothing(trained: Pipeline, write: Write) -> None:
    write("def test_it_is_asked(): ...")
    check_model.JUNIT.unlink(missing_ok=True)
    (described,) = Path(".ct/artifacts").rglob("MLmodel")
    change("serialization_format: skops", "serialization_format: pickle", described)
    with pytest.raises(UserError, match="was not stored with skops"):
        checks(trained)
    assert not check_model.JUNIT.exists()
    change("serialization_format: pickle", "serialization_format: skops", described)


@pytest.mark.usefixtures("workspace")
class TestRows:
    def test_they_are_spread_over_the_whole_window_and_always_the_same(self, monkeypatch: pytest.MonkeyPatch) -> None:
        run = Pipeline(monkeypatch)
        fresh = read_snapshot(run.take_snapshot().fresh.path, run.settings.data)
        monkeypatch.setattr(check_model, "ROWS", 56)
        chosen = check_model.sample_rows(fresh, run.settings.data)
        days = fresh.loc[chosen.index, "seen"].dt.date.value_counts()
        assert (len(days), days.min(), days.max()) == (14, 4, 4)
        pd.testing.assert_frame_equal(check_model.sample_rows(fresh, run.settings.data), chosen)

    def test_they_hold_the_features_alone_in_the_order_of_the_key(self) -> None:
        data = load_settings("toy").data
        random = np.random.default_rng(4)
        fresh = pd.DataFrame({"id": range(9), "seen": random.permutation(9), "late": True, "x": range(9), "y": 1.0})
        chosen = check_model.sample_rows(fresh.assign(shade="red"), data)
        assert list(chosen) == ["shade", "x", "y"]
        assert list(chosen["x"]) == list(range(9))
