"""Continuous training from Airflow: ingest data, wait for enough new rows, start the run in Jenkins, store the verdict.

The Jenkinsfile defines what a run does; the DAGs define when. Both are paused until you enable the one that fits:

- `continuous_training`, every day: `ct ingest`, then `ct data-check` until it would ping, then the run. It exists only
  if `CT_CHECKOUT` names a clone of the project. `CT_SOURCE` is the source to ingest; without it nothing is ingested.
  `MODEL` is the model, if the checkout has several.
- `continuous_training_on_data`: the run, whenever the asset `warehouse/data` is updated, by any DAG's task or by a
  POST to `/api/v2/assets/events`. Its `extra` may have a `reason` and an `as_of`.

An unstable run, whose candidate was rejected, is a success; a failed, aborted or cancelled one fails the task. Stopping
a task or a DAG does not stop the run in Jenkins: abort it there.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.jenkins.hooks.jenkins import JenkinsHook
from airflow.providers.jenkins.operators.jenkins_job_trigger import JenkinsJobTriggerOperator
from airflow.sdk import Asset, Param, PokeReturnValue, dag, task
from airflow.sdk.exceptions import AirflowFailException

from jenkins import NotFoundException

if TYPE_CHECKING:
    from airflow.sdk import Context, XComArg
    from airflow.sdk.execution_time.context import OutletEventAccessors, TriggeringAssetEventsAccessor

    from jenkins import Jenkins

CHECKOUT, SOURCE = os.environ.get("CT_CHECKOUT"), os.environ.get("CT_SOURCE")
CONNECTION, JOB = "jenkins_default", "model/main"
MODEL = os.environ.get("MODEL", "")  # empty: the only model of the checkout
DATA, VERDICT = Asset("warehouse/data"), Asset(f"verdict/{MODEL}" if MODEL else "verdict")

RESULTS = {"SUCCESS", "UNSTABLE"}  # UNSTABLE: the candidate was rejected
TIMEOUT_SECONDS = 30  # of a request to Jenkins; its client has no timeout by default
SETTINGS: dict[str, Any] = {
    "start_date": datetime(2026, 1, 1),
    "catchup": False,
    "max_active_runs": 1,
    "doc_md": __doc__,
    "default_args": {
        "retries": 6,
        "retry_delay": timedelta(seconds=10),
        "retry_exponential_backoff": True,
        "max_retry_delay": timedelta(minutes=10),
        "execution_timeout": timedelta(minutes=15),
    },
}


class StartRun(JenkinsJobTriggerOperator):
    """The provider's operator up to Jenkins' queue: requests the run once, and returns the id of its queue item.

    A sensor waits for the build. The operator itself would occupy a worker for hours, take an intermediate result for
    the final one, wait for a cancelled item, and fail while the controller is away; its retry would start another run.
    Here a retry finds the run: Jenkins merges queued builds with equal parameters, and a running one is searched for.
    """

    def execute(self, context: Context) -> int:  # noqa: ARG002 - part of the interface
        """Request the run, unless one with the same parameters is running."""
        jenkins = connect()
        for build in list_builds(jenkins):
            if build["building"] and parameters_of(build).items() >= self.parameters.items():
                return build["queueId"]
        response = self.build_job(jenkins, self.parameters)
        return int(response["headers"]["Location"].rstrip("/").rpartition("/")[2])


@task.bash(cwd=CHECKOUT, execution_timeout=timedelta(hours=6))
def ingest() -> str:
    """Sync new rows into the warehouse; an interrupted sync continues."""
    return f"scripts/ct ingest --source {shlex.quote(SOURCE or '')}"


@task.sensor(mode="reschedule", poke_interval=timedelta(hours=1), timeout=timedelta(hours=20), soft_fail=True)
def wait_for_data(params: dict[str, Any]) -> PokeReturnValue:
    """Wait until `ct data-check` would ping Jenkins; skip the rest of the day if it does not.

    `ct data-check` remembers the pings that it sends, but not this run: a rejected candidate is followed by another run
    the next day.
    """
    completed = subprocess.run(
        ["scripts/ct", "data-check", "--jenkins", "none", "--json"],
        cwd=CHECKOUT,
        env=os.environ | {"AS_OF": params["as_of"]},
        stdout=subprocess.PIPE,
        check=True,
        timeout=600,
    )
    check = json.loads(completed.stdout)
    if check["verdict"] != "enough":
        return PokeReturnValue(is_done=False)
    ping = check["ping_result"]["ping"]
    return PokeReturnValue(is_done=True, xcom_value=run_parameters(ping["reason"], ping["as_of"]))


@task
def read_event(triggering_asset_events: TriggeringAssetEventsAccessor, params: dict[str, Any]) -> dict[str, str]:
    """Return the parameters of the newest update. A reason contains no time, so that Jenkins merges equal requests."""
    events = [event for group in triggering_asset_events.values() for event in group]
    extra = events[-1].extra if events else {}
    return run_parameters(extra.get("reason") or f"{DATA.name} was updated", extra.get("as_of") or params["as_of"])


@task.sensor(mode="reschedule", poke_interval=60, timeout=timedelta(hours=12), silent_fail=True)
def wait_for_build(queue_id: int) -> PokeReturnValue:
    """Wait until the build of a queue item has ended, even if Jenkins is away in between."""
    jenkins = connect()
    build = next((build for build in list_builds(jenkins) if build["queueId"] == queue_id), None)
    if build is None and jenkins.get_queue_item(queue_id).get("cancelled"):
        raise AirflowFailException(f"the run of {JOB} was cancelled in Jenkins' queue, before it started")
    return PokeReturnValue(is_done=build is not None and not build["building"], xcom_value=build)


@task(outlets=[VERDICT])
def record(build: dict[str, Any], *, outlet_events: OutletEventAccessors) -> dict[str, str | None]:
    """Store the result of the run, here and with the asset, whose update can trigger your own DAGs."""
    jenkins, number = connect(), build["number"]
    try:
        outcome = jenkins.get_build_artifact_as_bytes(JOB, number, "build/outcome.txt").decode().strip()
    except NotFoundException:  # the build ended before its report
        outcome = "there is no outcome.txt"
    if build["result"] not in RESULTS:
        raise AirflowFailException(f"{build['url']} ended as {build['result']}: {outcome}")
    verdict = jenkins.get_build_artifact(JOB, number, "build/verdict.json")  # None if nothing was trained
    summary = {
        "url": build["url"],
        "result": build["result"],
        "outcome": outcome,
        "decision": verdict["decision"] if verdict else None,
    }
    outlet_events[VERDICT].extra = summary
    return summary


def connect() -> Jenkins:
    """Return a client of the Jenkins in Airflow's connection."""
    jenkins = JenkinsHook(CONNECTION).get_jenkins_server()
    jenkins.timeout = TIMEOUT_SECONDS
    return jenkins


def list_builds(jenkins: Jenkins) -> list[dict[str, Any]]:
    """Return the newest builds, each with the id of its queue item and its parameters."""
    fields = "builds[number,url,queueId,building,result,actions[parameters[name,value]]]{0,20}"
    return jenkins.get_info("/".join(f"job/{name}" for name in JOB.split("/")), f"?tree={fields}")["builds"]


def parameters_of(build: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters of a build."""
    return {item["name"]: item["value"] for action in build["actions"] for item in action.get("parameters", [])}


def run_parameters(reason: str, as_of: str | None) -> dict[str, str]:
    """Return the parameters of a run; the others keep the defaults of the Jenkinsfile."""
    return {"TRIGGER": "data", "REASON": reason, "AS_OF": as_of or "", "MODEL": MODEL}


def train(parameters: XComArg) -> None:
    """Start a run in Jenkins and record its result."""
    start = StartRun(task_id="start", jenkins_connection_id=CONNECTION, job_name=JOB, parameters=parameters)
    record(wait_for_build(start.output))


def as_of() -> Param:
    """Return the DAG's parameter, which becomes the run's parameter of the same name."""
    return Param("", type="string", description="Use no data from after this date, such as 2013-05-01")


@dag(schedule="@daily", params={"as_of": as_of()}, **SETTINGS)
def continuous_training() -> None:
    """Ingest data, wait for enough new rows, train."""
    new_data = wait_for_data()
    if SOURCE:
        ingest() >> new_data
    train(new_data)


@dag(schedule=[DATA], params={"as_of": as_of()}, **SETTINGS)
def continuous_training_on_data() -> None:
    """Train when the asset is updated."""
    train(read_event())


if CHECKOUT:
    continuous_training()
continuous_training_on_data()
