"""Airflow's DAGs, run in Airflow's own environment against Jenkins' API on this machine."""

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
from jenkins_builds import A_WHILE, PASSWORD, Jenkins, connection
from listening import Heard, listening

pytestmark = pytest.mark.integration(seconds=20)

DAGS = ROOT / "jenkins" / "airflow" / "dags"
DAILY, ON_DATA = "continuous_training", "continuous_training_on_data"
NEWS = "20,113 new rows since 2013-04-01"
PROMOTED = {
    "build/outcome.txt": "promoted: version 3 answers\n",
    "build/verdict.json": json.dumps({"decision": "promote"}),
}
REJECTED = {"build/outcome.txt": "rejected: no better\n", "build/verdict.json": json.dumps({"decision": "reject"})}
PING = Ping(trigger="data", reason=NEWS, as_of="2013-05-01", model="toy", model_version="1")
CHECKED = NewDataCheck(model=PING.model, as_of=datetime(2013, 5, 1), verdict="not enough", message="")
ENOUGH, TOO_LITTLE = (
    CHECKED.model_copy(
        update={"verdict": "enough", "ping_result": PingResult(ping=PING, address=NO_JENKINS)}
    ).model_dump_json(),
    CHECKED.model_dump_json(),
)
CT = """#!/bin/sh
echo "$AS_OF $*" >>called
head -n 1 output/"$1"
sed -i '1{$!d}' output/"$1" # the last line is printed again and again
exit "$(cat exit)"
"""


class Airflow:
    """Airflow with a home, a checkout and a Jenkins of its own; what it prints for people is in `log`."""

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
        self.about = self._told()

    def run(self, dag: str, as_of: str = "", patience: float = 60) -> dict[str, Any]:
        assert self.process.stdin is not None
        conf = {"as_of": as_of}  # always, because Airflow keeps it in the DAG
        self.process.stdin.write(json.dumps({"dag": dag, "conf": conf, "patience": patience}) + "\n")
        self.process.stdin.flush()
        return self._told()

    def _told(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(self.log.read_text(errors="replace")[-4000:])
        told: dict[str, Any] = json.loads(line)
        return told

    def says(self, command: str, *lines: str) -> None:
        """Have a command of the checkout print these, one each time it is called, and the last one for ever."""
        (self.checkout / "output" / command).write_text("".join(f"{line}\n" for line in lines))

    def exits(self, code: int) -> None:
        (self.checkout / "exit").write_text(f"{code}")

    def called(self) -> list[str]:
        return (self.checkout / "called").read_text().splitlines()


class Here:
    """The Jenkins of the test that goes on, at an address that does not change."""

    def __init__(self) -> None:
        self.url, self.jenkins = "", Jenkins()

    def answer(self, heard: Heard) -> Any:
        return self.jenkins.answer(heard)


@pytest.fixture(scope="module")
def here() -> Iterator[Here]:
    found = Here()
    with listening(found.answer) as found.url:
        yield found


@pytest.fixture(scope="module")
def all_of_airflow(
    env_python: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory, here: Here
) -> Iterator[Airflow]:
    with ExitStack() as up:
        airflow = Airflow(env_python("jenkins/airflow"), tmp_path_factory.mktemp("airflow"), here.url)
        up.callback(airflow.process.wait)
        up.callback(airflow.process.kill)
        yield airflow


@pytest.fixture
def airflow(all_of_airflow: Airflow) -> Airflow:
    """Have it as if nothing had been run, in a checkout where new rows have come."""
    (all_of_airflow.checkout / "called").write_text("")
    all_of_airflow.exits(0)
    all_of_airflow.says("ingest", "20113")
    all_of_airflow.says("data-check", ENOUGH)
    return all_of_airflow


@pytest.fixture
def jenkins(here: Here) -> Jenkins:
    here.jenkins = Jenkins(artifacts=PROMOTED, url=here.url)
    return here.jenkins


def states(done: dict[str, Any]) -> dict[str, str]:
    return {name: state for name, (state, _) in done["tasks"].items()}


class TestDags:
    def test_both_are_read_without_an_error(self, airflow: Airflow) -> None:
        assert airflow.about["errors"] == {}
        assert set(airflow.about["dags"]) == {DAILY, ON_DATA}

    def test_data_are_brought_and_waited_for_before_jenkins_trains_and_the_verdict_is_kept(
        self, airflow: Airflow
    ) -> None:
        after = {
            "ingest": [],
            "wait_for_data": ["ingest"],
            "start": ["wait_for_data"],
            "wait_for_build": ["start"],
            "record": ["wait_for_build"],
        }
        assert airflow.about["dags"][DAILY]["tasks"] == after

    def test_news_of_the_warehouse_start_the_other(self, airflow: Airflow) -> None:
        assert airflow.about["dags"][ON_DATA]["assets"] == ["warehouse/data"]
        assert airflow.about["dags"][DAILY]["assets"] == []

    @pytest.mark.parametrize("dag", [DAILY, ON_DATA])
    def test_one_run_at_a_time_and_none_holds_a_worker_or_goes_on_for_ever(self, airflow: Airflow, dag: str) -> None:
        about = airflow.about["dags"][dag]
        assert (about["at once"], about["waiting in a worker"], about["without an end"]) == (1, [], [])


class TestDaily:
    def test_what_is_new_is_trained_on_and_the_promotion_is_recorded(self, airflow: Airflow, jenkins: Jenkins) -> None:
        done = airflow.run(DAILY, as_of="2013-05-01")
        assert states(done) == dict.fromkeys(
            ("ingest", "wait_for_data", "start", "wait_for_build", "record"), "success"
        )
        assert airflow.called() == [
            " ingest --source flights",
            "2013-05-01 data-check --jenkins none --json",
        ]
        (build,) = jenkins.builds
        assert build.parameters == {"TRIGGER": "data", "REASON": NEWS, "AS_OF": "2013-05-01", "MODEL": "toy"}
        verdict = {
            "url": f"{jenkins.url}/job/model/job/main/1/",
            "result": "SUCCESS",
            "outcome": "promoted: version 3 answers",
            "decision": "promote",
        }
        assert done["returned"]["record"] == verdict
        assert done["events"] == {"verdict/toy": verdict}

    def test_an_ingest_that_fails_starts_nothing(self, airflow: Airflow, jenkins: Jenkins) -> None:
        airflow.exits(1)
        done = airflow.run(DAILY)
        assert (done["state"], states(done)["ingest"]) == ("failed", "failed")
        assert jenkins.builds == []

    def test_until_enough_is_new_it_waits(self, airflow: Airflow, jenkins: Jenkins) -> None:
        airflow.says("data-check", TOO_LITTLE, TOO_LITTLE, ENOUGH)
        assert airflow.run(DAILY)["state"] == "success"
        assert [called.split()[0] for called in airflow.called()] == ["ingest", *["data-check"] * 3]
        assert len(jenkins.builds) == 1

    def test_a_day_on_which_too_little_is_new_ends_without_a_run(self, airflow: Airflow, jenkins: Jenkins) -> None:
        airflow.says("data-check", TOO_LITTLE)
        done = airflow.run(DAILY, patience=0)
        assert (done["state"], states(done)["wait_for_data"], states(done)["start"]) == (
            "success",
            "skipped",
            "skipped",
        )
        assert jenkins.builds == []


class TestOnData:
    def test_a_rejected_candidate_is_a_result(self, airflow: Airflow, jenkins: Jenkins) -> None:
        jenkins.result, jenkins.artifacts = "UNSTABLE", REJECTED
        done = airflow.run(ON_DATA)
        assert done["state"] == "success"
        assert (done["returned"]["record"]["result"], done["returned"]["record"]["decision"]) == ("UNSTABLE", "reject")
        (build,) = jenkins.builds
        assert (build.parameters["TRIGGER"], build.parameters["REASON"]) == ("data", "warehouse/data was updated")

    def test_a_run_that_had_nothing_to_learn_is_one_without_a_verdict(self, airflow: Airflow, jenkins: Jenkins) -> None:
        jenkins.artifacts = {"build/outcome.txt": "nothing new\n"}
        done = airflow.run(ON_DATA)
        assert (done["state"], done["returned"]["record"]["decision"]) == ("success", None)

    @pytest.mark.parametrize(
        ("result", "artifacts", "message"),
        [
            ("FAILURE", {"build/outcome.txt": "failed at Train\n"}, "ended as FAILURE: failed at Train"),
            ("ABORTED", {}, "ended as ABORTED: there is no outcome.txt"),
        ],
    )
    def test_a_failed_run_fails_here_and_is_not_started_again(
        self, airflow: Airflow, jenkins: Jenkins, result: str, artifacts: dict[str, str], message: str
    ) -> None:
        jenkins.result, jenkins.artifacts = result, artifacts
        done = airflow.run(ON_DATA)
        assert (done["state"], done["tasks"]["record"], done["events"]) == ("failed", ["failed", 1], {})
        assert len(jenkins.builds) == 1
        assert f"{jenkins.url}/job/model/job/main/1/ {message}" in airflow.log.read_text()

    def test_one_that_is_cancelled_in_the_queue_fails_here(self, airflow: Airflow, jenkins: Jenkins) -> None:
        jenkins.cancels = True
        done = airflow.run(ON_DATA)
        assert (done["state"], done["tasks"]["wait_for_build"]) == ("failed", ["failed", 1])
        assert len(jenkins.builds) == 1

    def test_a_jenkins_that_is_away_for_a_moment_is_waited_for(self, airflow: Airflow, jenkins: Jenkins) -> None:
        jenkins.away = {"buildWithParameters": 1, "queue/item": 1, "artifact": 1, "main/api/json": 2}
        done = airflow.run(ON_DATA)
        assert done["state"] == "success"
        assert len(jenkins.builds) == 1

    @pytest.mark.parametrize("hurry", [0, A_WHILE], ids=["while it waits in the queue", "when it has begun"])
    def test_a_run_whose_start_was_not_heard_of_is_found_again(
        self, airflow: Airflow, jenkins: Jenkins, hurry: int
    ) -> None:
        jenkins.deaf, jenkins.hurry = 1, hurry
        done = airflow.run(ON_DATA)
        assert (done["state"], done["tasks"]["start"]) == ("success", ["success", 2])
        assert len(jenkins.builds) == 1

    @pytest.mark.usefixtures("jenkins")
    def test_the_password_is_in_no_log(self, airflow: Airflow) -> None:
        airflow.run(ON_DATA)
        assert PASSWORD not in airflow.log.read_text()
