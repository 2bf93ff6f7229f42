"""Airflow's DAGs, run in Airflow's environment with a stub of Jenkins' API."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT
from continuous_training.jenkins.ping import NO_JENKINS, Ping, PingResult
from continuous_training.monitoring.new_data.check import NewDataCheck
from http_stub import Request, http_stub
from jenkins_builds import PASSWORD, POLLS, Jenkins, connection

pytestmark = pytest.mark.integration(seconds=20)

DAGS = ROOT / "jenkins" / "airflow" / "dags"
DAILY, ON_DATA = "continuous_training", "continuous_training_on_data"
NEW_ROWS = "20,113 new rows since 2013-04-01"
PROMOTION = {
    "build/outcome.txt": "promoted: version 3 is the champion\n",
    "build/verdict.json": json.dumps({"decision": "promote"}),
}
REJECTION = {"build/outcome.txt": "rejected: no better\n", "build/verdict.json": json.dumps({"decision": "reject"})}
PING = Ping(trigger="data", reason=NEW_ROWS, as_of="2013-05-01", model="toy", model_version="1")
CHECK = NewDataCheck(model=PING.model, as_of=datetime(2013, 5, 1), verdict="not enough", message="")
ENOUGH, NOT_ENOUGH = (
    CHECK.model_copy(
        update={"verdict": "enough", "ping_result": PingResult(ping=PING, address=NO_JENKINS)}
    ).model_dump_json(),
    CHECK.model_dump_json(),
)
CT = """#!/bin/sh
echo "$AS_OF $*" >>commands
head -n 1 output/"$1"
sed -i '1{$!d}' output/"$1" # the last line is repeated
exit "$(cat exit)"
"""


class Airflow:
    """Airflow with a separate home and checkout; `log` has its output."""

    def __init__(self, python: Path, home: Path, jenkins: str) -> None:
        self.checkout, self.log = home / "checkout", home / "log"
        (self.checkout / "scripts").mkdir(parents=True)
        (self.checkout / "output").mkdir()
        (self.checkout / "scripts" / "ct").write_text(CT)
        (self.checkout / "scripts" / "ct").chmod(0o755)
        environment = {
            "PATH": os.environ["PATH"],
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW_CONN_JENKINS_DEFAULT": connection(jenkins),
            "CT_CHECKOUT": str(self.checkout),
            "CT_SOURCE": "flights",
            "MODEL": "toy",
        }
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [python, ROOT / "tests/continuous_training/airflow_runs.py"],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self.description = self._read_result()

    def run(self, dag: str, as_of: str = "", timeout: float = 60) -> dict[str, Any]:
        assert self.process.stdin is not None
        conf = {"as_of": as_of}  # always, because Airflow stores it in the DAG
        self.process.stdin.write(json.dumps({"dag": dag, "conf": conf, "timeout": timeout}) + "\n")
        self.process.stdin.flush()
        return self._read_result()

    def _read_result(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(self.log.read_text(errors="replace")[-4000:])
        result: dict[str, Any] = json.loads(line)
        return result

    def set_output(self, command: str, *lines: str) -> None:
        """Set the lines that a command prints, one per call; the last one is repeated."""
        (self.checkout / "output" / command).write_text("".join(f"{line}\n" for line in lines))

    def set_exit_code(self, code: int) -> None:
        (self.checkout / "exit").write_text(f"{code}")

    def commands(self) -> list[str]:
        return (self.checkout / "commands").read_text().splitlines()


class CurrentJenkins:
    """The stub of the current test, at an address that stays the same."""

    def __init__(self) -> None:
        self.url, self.jenkins = "", Jenkins()

    def respond(self, request: Request) -> Any:
        return self.jenkins.respond(request)


@pytest.fixture(scope="module")
def current_jenkins() -> Iterator[CurrentJenkins]:
    current = CurrentJenkins()
    with http_stub(current.respond) as current.url:
        yield current


@pytest.fixture(scope="module")
def running_airflow(
    env_python: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory, current_jenkins: CurrentJenkins
) -> Iterator[Airflow]:
    with ExitStack() as resources:
        airflow = Airflow(env_python("jenkins/airflow"), tmp_path_factory.mktemp("airflow"), current_jenkins.url)
        resources.callback(airflow.process.wait)
        resources.callback(airflow.process.kill)
        yield airflow


@pytest.fixture
def airflow(running_airflow: Airflow) -> Airflow:
    """Return Airflow with an unused checkout that has new rows."""
    (running_airflow.checkout / "commands").write_text("")
    running_airflow.set_exit_code(0)
    running_airflow.set_output("ingest", "20113")
    running_airflow.set_output("data-check", ENOUGH)
    return running_airflow


@pytest.fixture
def jenkins(current_jenkins: CurrentJenkins) -> Jenkins:
    current_jenkins.jenkins = Jenkins(artifacts=PROMOTION, url=current_jenkins.url)
    return current_jenkins.jenkins


def states(result: dict[str, Any]) -> dict[str, str]:
    return {name: state for name, (state, _) in result["tasks"].items()}


class TestDags:
    def test_both_dags_are_imported_without_errors(self, airflow: Airflow) -> None:
        assert airflow.description["errors"] == {}
        assert set(airflow.description["dags"]) == {DAILY, ON_DATA}

    def test_the_order_of_the_tasks(self, airflow: Airflow) -> None:
        upstream_tasks = {
            "ingest": [],
            "wait_for_data": ["ingest"],
            "start": ["wait_for_data"],
            "wait_for_build": ["start"],
            "record": ["wait_for_build"],
        }
        assert airflow.description["dags"][DAILY]["tasks"] == upstream_tasks

    def test_an_update_of_the_asset_starts_the_other_dag(self, airflow: Airflow) -> None:
        assert airflow.description["dags"][ON_DATA]["assets"] == ["warehouse/data"]
        assert airflow.description["dags"][DAILY]["assets"] == []

    @pytest.mark.parametrize("dag", [DAILY, ON_DATA])
    def test_runs_are_sequential_and_all_tasks_have_a_timeout(self, airflow: Airflow, dag: str) -> None:
        description = airflow.description["dags"][dag]
        assert (description["max_active_runs"], description["poking_sensors"], description["without_timeout"]) == (
            1,
            [],
            [],
        )


class TestDaily:
    def test_new_data_start_a_run_whose_verdict_is_recorded(self, airflow: Airflow, jenkins: Jenkins) -> None:
        result = airflow.run(DAILY, as_of="2013-05-01")
        assert states(result) == dict.fromkeys(
            ("ingest", "wait_for_data", "start", "wait_for_build", "record"), "success"
        )
        assert airflow.commands() == [
            " ingest --source flights",
            "2013-05-01 data-check --jenkins none --json",
        ]
        (build,) = jenkins.builds
        assert build.parameters == {"TRIGGER": "data", "REASON": NEW_ROWS, "AS_OF": "2013-05-01", "MODEL": "toy"}
        verdict = {
            "url": f"{jenkins.url}/job/model/job/main/1/",
            "result": "SUCCESS",
            "outcome": "promoted: version 3 is the champion",
            "decision": "promote",
        }
        assert result["returned"]["record"] == verdict
        assert result["events"] == {"verdict/toy": verdict}

    def test_a_failed_ingest_starts_no_run(self, airflow: Airflow, jenkins: Jenkins) -> None:
        airflow.set_exit_code(1)
        result = airflow.run(DAILY)
        assert (result["state"], states(result)["ingest"]) == ("failed", "failed")
        assert jenkins.builds == []

    def test_the_dag_waits_until_there_are_enough_new_rows(self, airflow: Airflow, jenkins: Jenkins) -> None:
        airflow.set_output("data-check", NOT_ENOUGH, NOT_ENOUGH, ENOUGH)
        assert airflow.run(DAILY)["state"] == "success"
        assert [command.split()[0] for command in airflow.commands()] == ["ingest", *["data-check"] * 3]
        assert len(jenkins.builds) == 1

    def test_a_day_without_enough_new_rows_starts_no_run(self, airflow: Airflow, jenkins: Jenkins) -> None:
        airflow.set_output("data-check", NOT_ENOUGH)
        result = airflow.run(DAILY, timeout=0)
        assert (result["state"], states(result)["wait_for_data"], states(result)["start"]) == (
            "success",
            "skipped",
            "skipped",
        )
        assert jenkins.builds == []


class TestOnData:
    def test_a_rejected_candidate_is_a_success_of_the_dag(self, airflow: Airflow, jenkins: Jenkins) -> None:
        jenkins.result, jenkins.artifacts = "UNSTABLE", REJECTION
        result = airflow.run(ON_DATA)
        assert result["state"] == "success"
        assert (result["returned"]["record"]["result"], result["returned"]["record"]["decision"]) == (
            "UNSTABLE",
            "reject",
        )
        (build,) = jenkins.builds
        assert (build.parameters["TRIGGER"], build.parameters["REASON"]) == ("data", "warehouse/data was updated")

    def test_a_run_without_training_has_no_verdict(self, airflow: Airflow, jenkins: Jenkins) -> None:
        jenkins.artifacts = {"build/outcome.txt": "nothing new\n"}
        result = airflow.run(ON_DATA)
        assert (result["state"], result["returned"]["record"]["decision"]) == ("success", None)

    @pytest.mark.parametrize(
        ("result", "artifacts", "message"),
        [
            ("FAILURE", {"build/outcome.txt": "failed at Train\n"}, "ended as FAILURE: failed at Train"),
            ("ABORTED", {}, "ended as ABORTED: there is no outcome.txt"),
        ],
    )
    def test_a_failed_run_fails_the_dag_and_is_not_repeated(
        self, airflow: Airflow, jenkins: Jenkins, result: str, artifacts: dict[str, str], message: str
    ) -> None:
        jenkins.result, jenkins.artifacts = result, artifacts
        result = airflow.run(ON_DATA)
        assert (result["state"], result["tasks"]["record"], result["events"]) == ("failed", ["failed", 1], {})
        assert len(jenkins.builds) == 1
        assert f"{jenkins.url}/job/model/job/main/1/ {message}" in airflow.log.read_text()

    def test_a_run_that_is_cancelled_in_the_queue_fails_the_dag(self, airflow: Airflow, jenkins: Jenkins) -> None:
        jenkins.cancels = True
        result = airflow.run(ON_DATA)
        assert (result["state"], result["tasks"]["wait_for_build"]) == ("failed", ["failed", 1])
        assert len(jenkins.builds) == 1

    def test_requests_to_an_unavailable_jenkins_are_repeated(self, airflow: Airflow, jenkins: Jenkins) -> None:
        jenkins.unavailable = {"buildWithParameters": 1, "queue/item": 1, "artifact": 1, "main/api/json": 2}
        result = airflow.run(ON_DATA)
        assert result["state"] == "success"
        assert len(jenkins.builds) == 1

    @pytest.mark.parametrize("polls", [0, POLLS], ids=["in the queue", "running"])
    def test_a_run_is_started_once_if_the_response_is_lost(
        self, airflow: Airflow, jenkins: Jenkins, polls: int
    ) -> None:
        jenkins.lost_responses, jenkins.polls = 1, polls
        result = airflow.run(ON_DATA)
        assert (result["state"], result["tasks"]["start"]) == ("success", ["success", 2])
        assert len(jenkins.builds) == 1

    @pytest.mark.usefixtures("jenkins")
    def test_the_password_is_in_no_log(self, airflow: Airflow) -> None:
        airflow.run(ON_DATA)
        assert PASSWORD not in airflow.log.read_text()
