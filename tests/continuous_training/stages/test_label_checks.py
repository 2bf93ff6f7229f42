"""Check data says early what would fail the fit or the comparison: classes, metrics, a deleted experiment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from continuous_training.data import warehouse
from continuous_training.errors import UserError
from continuous_training.registry import connection, runs
from continuous_training.settings import load_settings
from pipeline import Pipeline
from toy import change, events, store

if TYPE_CHECKING:
    import pandas as pd

    from continuous_training.documents import Check


def check(monkeypatch: pytest.MonkeyPatch, frame: pd.DataFrame) -> dict[str, Check]:
    store(frame)
    return {check.name: check for check in Pipeline(monkeypatch).check_data()}


@pytest.mark.usefixtures("workspace")
class TestClassesOfTheTrainingRows:
    def test_one_class_only_fails(self, monkeypatch: pytest.MonkeyPatch) -> None:
        frame = events()
        frame.loc[frame["seen"] < "2020-02-15", "late"] = True
        classes = check(monkeypatch, frame)["training classes"]
        assert not classes.passed
        assert classes.message.startswith("the training rows are all of the class True: a model needs two, so increase")

    def test_two_classes_pass(self, monkeypatch: pytest.MonkeyPatch) -> None:
        classes = check(monkeypatch, events())["training classes"]
        assert (classes.passed, classes.message) == (True, "the training rows have 2 classes")


@pytest.mark.usefixtures("workspace")
class TestMetricsOfTheLabels:
    def use_kinds(self, metric: str) -> pd.DataFrame:
        change("late: {type: boolean, feature: false}", "late: {type: category, feature: false}")
        change("metric: roc_auc", f"metric: {metric}")
        change("first: {roc_auc: 0.6}", f"first: {{{metric}: 0.1}}")
        kinds = np.random.default_rng(1).choice(["early", "late", "on time"], len(events()))
        return events().assign(late=kinds)

    def test_a_metric_of_two_classes_fails_for_three(self, monkeypatch: pytest.MonkeyPatch) -> None:
        metrics = check(monkeypatch, self.use_kinds("roc_auc"))["metrics"]
        assert not metrics.passed
        assert metrics.message.startswith("the metric roc_auc cannot be computed: multi_class must be in")

    def test_a_metric_of_any_classes_passes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        metrics = check(monkeypatch, self.use_kinds("f1_macro"))["metrics"]
        assert (metrics.passed, metrics.message) == (True, "f1_macro can be computed for these labels")

    def test_classes_may_be_integers(self, monkeypatch: pytest.MonkeyPatch) -> None:
        frame = self.use_kinds("f1_macro")
        change("late: {type: category, feature: false}", "late: {type: integer, feature: false}")
        frame["late"] = frame["late"].map({"early": 1, "late": 2, "on time": 3})
        metrics = check(monkeypatch, frame)["metrics"]
        assert metrics.passed, metrics.message

    def test_metrics_that_are_always_defined_are_not_tried(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert "metrics" not in check(monkeypatch, events())

    def test_a_metric_of_positive_numbers_fails_for_others(self, monkeypatch: pytest.MonkeyPatch) -> None:
        change("late: {type: boolean, feature: false}", "late: {type: number, feature: false}")
        change("task: classification", "task: regression")
        change("metric: roc_auc", "metric: neg_mean_squared_log_error")
        change("report: [neg_log_loss]", "report: [r2]")
        change("first: {roc_auc: 0.6}", "first: {r2: -9}")
        metrics = check(monkeypatch, events().assign(late=lambda rows: rows["x"]))["metrics"]
        assert not metrics.passed
        assert metrics.message.startswith("the metric neg_mean_squared_log_error cannot be computed: ")


@pytest.mark.usefixtures("workspace")
def test_a_boolean_among_the_values_of_a_category_is_a_mistake() -> None:
    change("[red, green, blue]", "[SE, NO]")
    with pytest.raises(UserError, match=r"false is a boolean, as YAML reads NO, Off and yes: put texts in quotes"):
        load_settings("toy")


@pytest.mark.usefixtures("mlflow_workspace")
def test_an_experiment_that_was_deleted_is_an_error_with_the_command_that_restores_it() -> None:
    client = connection.open_client()
    number = runs.experiment_id(client, "toy")
    client.delete_experiment(number)
    with pytest.raises(UserError, match=rf"experiment toy was deleted: .*mlflow experiments restore .*{number}"):
        runs.experiment_id(client, "toy")
    client.restore_experiment(number)
    assert runs.experiment_id(client, "toy") == number


@pytest.mark.usefixtures("workspace")
class TestAWarehouseThatAnotherProcessWrites:
    LOCKED = OSError('IO Error: Could not set lock on file "x": Conflicting lock is held')

    def open(self, monkeypatch: pytest.MonkeyPatch, failures: int) -> list[float]:
        pauses: list[float] = []
        connect, remaining = warehouse.duckdb_connection.connect, [self.LOCKED] * failures

        def connect_once_it_is_free(*arguments: object) -> object:
            if remaining:
                raise remaining.pop()
            return connect(*arguments)

        monkeypatch.setattr(warehouse.duckdb_connection, "connect", connect_once_it_is_free)
        monkeypatch.setattr(warehouse.time, "sleep", pauses.append)
        warehouse._open_file("duckdb://.ct/warehouse.duckdb").close()
        return pauses

    def test_is_opened_again_a_few_times(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert self.open(monkeypatch, 3) == [1, 5, 25]

    def test_is_an_error_if_it_stays_locked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(UserError, match="cannot be opened: IO Error: Could not set lock on file"):
            self.open(monkeypatch, 4)
