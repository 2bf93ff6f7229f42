"""A lost champion: its MLflow run, its files or its signature are gone; runs go on, or say what to do."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

import pytest

from conftest import ROOT, TIMEOUT
from continuous_training.documents import DataCheck, ModelCheck
from continuous_training.monitoring.monitor import create_monitor
from continuous_training.monitoring.new_data.check import check_new_data
from continuous_training.registry import connection, model_versions
from continuous_training.versions.file_names import SIGNATURE
from pipeline import Pipeline
from ports import free_port
from toy import change, events, store

if TYPE_CHECKING:
    from collections.abc import Callable
    from subprocess import CompletedProcess

    from continuous_training.monitoring.report import MonitorReport
    from continuous_training.registry.model_versions import Version
    from forked_python import ForkedPython

pytestmark = [pytest.mark.usefixtures("mlflow_workspace"), pytest.mark.file_seconds(90)]

DATABASE, ARTIFACTS = Path(".ct/mlflow.db"), Path(".ct/artifacts")
LATER = "2020-03-20"


class Promotions(NamedTuple):
    """MLflow's database after the promotion of a version that is good and one that is not, and the files of both."""

    database: bytes
    artifacts: Path
    copy: Path


@pytest.fixture(scope="module")
def promotions(mlflow_workspace_patch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Promotions:
    """Promote version 1, and version 2 that is better on inverted labels: on the labels of all tests it is worse."""
    Pipeline(mlflow_workspace_patch).promote()
    store(events().assign(late=~events()["late"]))
    Pipeline(mlflow_workspace_patch).promote()
    copy = tmp_path_factory.mktemp("copy") / "artifacts"
    shutil.copytree(ARTIFACTS, copy)
    return Promotions(DATABASE.read_bytes(), ARTIFACTS.resolve(), copy)


class Registry:
    """The registry of a test: version 2 is champion, version 1 the one before."""

    def __init__(self, python: ForkedPython) -> None:
        self.client = connection.open_client()
        self._python = python

    def version(self, number: str) -> Version:
        version = model_versions.by_number(self.client, "toy", number)
        assert version
        return version

    def files(self, number: str) -> Path:
        """Return the folder of a version's files."""
        return Path(urlsplit(self.client.get_model_version_download_uri("toy", number)).path)

    def delete_run(self, number: str = "2") -> None:
        self.client.delete_run(self.version(number).run_id)

    def purge_run(self, number: str = "2") -> None:
        """Delete a run as a retention job does: for good."""
        self.delete_run(number)
        uri = f"sqlite:///{DATABASE.resolve()}"
        arguments = ["gc", "--backend-store-uri", uri, "--tracking-uri", uri]
        subprocess.run([self._python.mlflow, *arguments], check=True, capture_output=True, timeout=TIMEOUT)

    def delete_files(self, number: str = "2") -> None:
        shutil.rmtree(self.files(number))

    def run_stage(self, name: str) -> CompletedProcess[str]:
        return self._python.run(ROOT / f"scripts/{name}.py")


@pytest.fixture
def registry(
    promotions: Promotions, mlflow_workspace: Path, forked_python: ForkedPython, monkeypatch: pytest.MonkeyPatch
) -> Registry:
    (mlflow_workspace / DATABASE).write_bytes(promotions.database)
    shutil.rmtree(promotions.artifacts)
    shutil.copytree(promotions.copy, promotions.artifacts)
    monkeypatch.setenv("SERVING_URLS", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("AS_OF", LATER)
    return Registry(forked_python)


def break_signature(registry: Registry) -> None:
    path = registry.files("2") / SIGNATURE
    path.write_text(path.read_text().swapcase())


def check_data(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """Run `ct check-data`; return the message of the check of the volume, and the log."""
    run = Pipeline(monkeypatch)
    run.run.write()
    run.take_snapshot().write()
    process = registry.run_stage("check_data")
    assert process.returncode == 0, process.stderr
    (volume,) = [check.message for check in DataCheck.read().checks if check.name == "volume"]
    return volume, process.stderr


def compare_in_a_process(registry: Registry, run: Pipeline) -> CompletedProcess[str]:
    """Run `ct compare` after the stages before it."""
    run.train()
    for document in (run.run, run.snapshot, run.plan, run.candidate, ModelCheck(checks=[], **run.timer.stop())):
        document.write()
    return registry.run_stage("compare")


def monitor(registry: Registry) -> MonitorReport:
    change("serving: {watch_seconds: 0}", "serving: {watch_seconds: 0}\nmonitor: {min_rows: 200, columns_share: 0.6}")
    return create_monitor(registry.client, "toy", "warehouse", LATER).check("none", None)


def follow(message: str) -> None:
    """Type the command at the end of a message; a rollback fails only because no server answers here."""
    match = re.search(r"(scripts/ct|\.venv/bin/python) .*$", message)
    assert match, message
    _, *arguments = shlex.split(match[0])
    if arguments[0] == "rollback":
        arguments[0] = str(ROOT / "scripts/rollback.py")
    subprocess.run([sys.executable, *arguments], check=False, timeout=TIMEOUT, capture_output=True)


class TestRunDeleted:
    """The run can be restored still, and MLflow still reads it."""

    def test_all_stages_and_checks_go_on_as_before(self, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
        registry.delete_run()
        volume, log = check_data(registry, monkeypatch)
        assert "times the champion's 40" in volume
        assert "no longer exists" not in log
        verdict = Pipeline(monkeypatch).compare()
        assert (verdict.decision, verdict.champion) == ("promote", "2"), verdict.message
        assert check_new_data(registry.client, "toy", "none").changes
        report = monitor(registry)
        assert report.drifts


class TestRunPurged:
    """`mlflow gc` has removed the run and its artifacts; the version has its files and their manifest."""

    def test_check_data_compares_the_volume_with_the_one_in_the_manifest(
        self, registry: Registry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        registry.purge_run()
        volume, log = check_data(registry, monkeypatch)
        assert "times the champion's 40" in volume
        run_id = registry.version("2").run_id
        warning = f"MLflow run {run_id} of version 2 of toy no longer exists: what it was trained on is read from"
        assert log.count(warning) == 1

    def test_plan_trains_again_because_it_does_not_know_what_was_trained(
        self, registry: Registry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store(events().assign(late=~events()["late"]))
        monkeypatch.setenv("AS_OF", "2020-03-01")
        assert Pipeline(monkeypatch).make_plan().decision == "nothing"
        registry.purge_run()
        plan = Pipeline(monkeypatch).make_plan()
        assert (plan.decision, plan.resumed_run_id) == ("train", None)

    def test_a_better_candidate_replaces_the_champion(
        self, registry: Registry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        registry.purge_run()
        run = Pipeline(monkeypatch)
        assert run.promote().number == "3"
        assert run.verdict.champion == "2"
        assert run.verdict.metrics[0].champion is not None
        assert run.aliases == {"candidate": "3", "champion": "3", "previous": "2"}

    def test_the_new_data_check_says_that_the_row_counts_are_lost(self, registry: Registry) -> None:
        registry.purge_run()
        check = check_new_data(registry.client, "toy", "none")
        assert check.verdict == "unknown"
        assert "of version 2 no longer exists, nor do its row counts: new data are not counted" in check.message

    def test_the_monitor_says_that_the_reference_is_lost(self, registry: Registry) -> None:
        registry.purge_run()
        report = monitor(registry)
        assert report.decision.message == "the champion's reference is lost"
        assert "of version 2 no longer exists, nor does its reference: neither drift nor a drop" in report.summary
        assert report.errors == []

    def test_the_purge_of_both_runs_does_not_stop_a_rollback(
        self, registry: Registry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        registry.purge_run("1")
        registry.purge_run("2")
        follow("scripts/ct rollback --reason 'it predicts nonsense'")
        assert Pipeline(monkeypatch).aliases["champion"] == "1"


LOSSES = [
    pytest.param(Registry.delete_files, "models:/toy/2 cannot be downloaded: its files are gone", id="files deleted"),
    pytest.param(break_signature, "its signature is of none of the accepted keys", id="signature invalid"),
]


@pytest.mark.parametrize(("lose", "cause"), LOSSES)
class TestChampionCannotBeOpened:
    def test_check_data_and_plan_go_on(
        self, registry: Registry, monkeypatch: pytest.MonkeyPatch, lose: Callable[[Registry], None], cause: str
    ) -> None:
        lose(registry)
        volume, _ = check_data(registry, monkeypatch)
        assert "times the champion's 40" in volume
        assert Pipeline(monkeypatch).make_plan().decision == "train"
        registry.purge_run()
        volume, log = check_data(registry, monkeypatch)
        assert "those of the champion are not known" in volume
        assert re.search(f"its manifest cannot be read: what it was trained on is unknown .*{cause}", log), log

    def test_compare_fails_with_the_cause_and_the_command_that_ends_it(
        self, registry: Registry, monkeypatch: pytest.MonkeyPatch, lose: Callable[[Registry], None], cause: str
    ) -> None:
        lose(registry)
        process = compare_in_a_process(registry, Pipeline(monkeypatch))
        assert process.returncode == 1
        message = process.stderr.splitlines()[-1]
        assert re.search(f"error: the champion, version 2, cannot be compared with: .*{cause}", message), message
        assert "go back to version 1: scripts/ct rollback --model toy --reason 'version 2 is lost'" in message
        follow(message)
        run = Pipeline(monkeypatch)
        assert run.aliases == {"candidate": "2", "champion": "1"}
        verdict = run.compare()
        assert (run.plan.resumed_run_id, verdict.champion) == (run.candidate.run_id, "1")
        assert verdict.lost_champion is None

    def test_without_an_intact_version_the_alias_is_removed_and_the_next_candidate_is_a_first_one(
        self, registry: Registry, monkeypatch: pytest.MonkeyPatch, lose: Callable[[Registry], None], cause: str
    ) -> None:
        lose(registry)
        registry.delete_files("1")
        verdict = Pipeline(monkeypatch).compare()
        assert verdict.decision == "reject"
        assert "remove its alias, since no earlier version can take its place" in verdict.message
        assert re.search(cause, verdict.message)
        follow(verdict.message)
        run = Pipeline(monkeypatch)
        assert run.aliases == {"candidate": "2"}
        assert run.promote().number == "3"
        assert run.verdict.champion is None
        assert run.aliases == {"candidate": "3", "champion": "3"}


class TestRecovery:
    def test_a_champion_whose_files_are_restored_is_compared_with_the_same_candidate(
        self, registry: Registry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        files = registry.files("2")
        files.rename(files.with_name("elsewhere"))
        first = Pipeline(monkeypatch)
        assert first.compare().lost_champion
        files.with_name("elsewhere").rename(files)
        run = Pipeline(monkeypatch)
        assert run.compare().decision == "promote"
        assert run.candidate.run_id == first.candidate.run_id

    def test_an_intact_version_that_no_rollback_reaches_becomes_champion_by_the_command(
        self, registry: Registry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = Pipeline(monkeypatch)
        run.promote()
        registry.delete_files("2")
        registry.delete_files("3")
        monkeypatch.setenv("FORCE", "true")
        verdict = Pipeline(monkeypatch).compare()
        assert verdict.lost_champion
        assert "go back to version 1: .venv/bin/python" in verdict.lost_champion
        follow(verdict.lost_champion)
        assert run.aliases == {"candidate": "3", "champion": "1"}

    def test_a_version_that_was_rolled_back_is_not_recommended(
        self, registry: Registry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        registry.client.set_model_version_tag("toy", "1", model_versions.ROLLED_BACK_BECAUSE, "nonsense")
        registry.delete_files("2")
        assert "remove its alias" in Pipeline(monkeypatch).compare().message


class TestChecksOutsideARun:
    def test_the_new_data_check_needs_no_model(self, registry: Registry) -> None:
        registry.delete_files()
        assert check_new_data(registry.client, "toy", "none").changes

    @pytest.mark.parametrize(("lose", "cause"), LOSSES)
    def test_the_monitor_measures_drift_and_reports_that_the_model_cannot_predict(
        self, registry: Registry, lose: Callable[[Registry], None], cause: str
    ) -> None:
        lose(registry)
        report = monitor(registry)
        assert {column.name for column in report.drifts} == {"shade", "x", "y"}
        (error,) = report.errors
        assert re.search(f"the live metric cannot be computed: version 2 cannot predict .*{cause}", error), error
