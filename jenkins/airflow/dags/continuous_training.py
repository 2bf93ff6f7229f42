"""Continuous training from Airflow: bring data, wait for enough of it, have Jenkins do the run, keep the verdict.

What a run does stays in the Jenkinsfile; here is only when. Both DAGs are paused until you switch on the one that fits:

- `continuous_training`, every day: `ct ingest`, then `ct data-check` until it would ping, then the run. It is here only
  where `CT_CHECKOUT` names a clone of the project; `CT_SOURCE` is what to ingest, and without it others bring the data.
  `MODEL` names the model, where the checkout has several.
- `continuous_training_on_data`: the run, whenever the asset `warehouse/data` is updated, by any DAG's task or by a
  POST to `/api/v2/assets/events`. Its `extra` may have a `reason` and an `as_of`.

A yellow run, whose candidate was rejected, is a result; red, aborted and cancelled ones fail the task. Whoever stops a
task or a DAG here leaves Jenkins' run alone: it is stopped in Jenkins, which then puts the champion in order.
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
MODEL = os.environ.get("MODEL", "")  # none: the only one of the checkout
DATA, VERDICT = Asset("warehouse/data"), Asset(f"verdict/{MODEL}" if MODEL else "verdict")

RESULTS = {"SUCCESS", "UNSTABLE"}  # yellow is what the Jenkinsfile makes of a rejected candidate
PATIENCE = 30  # seconds for an answer of Jenkins; its client would wait for ever
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


class Start(JenkinsJobTriggerOperator):
    """The provider's operator as far as Jenkins' queue: asks for the run once, and returns the number of what waits.

    Waiting is the sensor's. The operator's own would hold a worker for hours, take a result that Jenkins has set while
    the build goes on for its end, wait for a cancelled one, and give up when the controller is away; its retry would
    then start another run. Here a retry finds the run that was started: Jenkins merges what waits with the same
    parameters, and what has begun is looked for.
    """

    def execute(self, context: Context) -> int:  # noqa: ARG002 - Airflow gives it
        """Ask for the run, unless one goes on that was asked for in the same words."""
        jenkins = connected()
        for build in builds(jenkins):
            if build["building"] and parameters_of(build).items() >= self.parameters.items():
                return build["queueId"]
        answer = self.build_job(jenkins, self.parameters)
        return int(answer["headers"]["Location"].rstrip("/").rpartition("/")[2])


@task.bash(cwd=CHECKOUT, execution_timeout=timedelta(hours=6))
def ingest() -> str:
    """Sync what is new into the warehouse; one that was cut off goes on where it was."""
    return f"scripts/ct ingest --source {shlex.quote(SOURCE or '')}"


@task.sensor(mode="reschedule", poke_interval=timedelta(hours=1), timeout=timedelta(hours=20), soft_fail=True)
def wait(params: dict[str, Any]) -> PokeReturnValue:
    """Wait until so much is new that the project would ping Jenkins; a day on which it is not ends here, skipped.

    The project would remember a ping of its own. This one it does not, so a candidate that is rejected is followed by
    another the next day.
    """
    said = subprocess.run(
        ["scripts/ct", "data-check", "--jenkins", "none", "--json"],
        cwd=CHECKOUT,
        env=os.environ | {"AS_OF": params["as_of"]},
        stdout=subprocess.PIPE,
        check=True,
        timeout=600,
    )
    found = json.loads(said.stdout)
    if found["verdict"] != "enough":
        return PokeReturnValue(is_done=False)
    ping = found["asking"]["ping"]
    return PokeReturnValue(is_done=True, xcom_value=asked(ping["reason"], ping["as_of"]))


@task
def told(triggering_asset_events: TriggeringAssetEventsAccessor, params: dict[str, Any]) -> dict[str, str]:
    """Take what is said of the newest update. A reason has no times in it: Jenkins merges what says the same."""
    events = [event for each in triggering_asset_events.values() for event in each]
    extra = events[-1].extra if events else {}
    return asked(extra.get("reason") or f"{DATA.name} was updated", extra.get("as_of") or params["as_of"])


@task.sensor(mode="reschedule", poke_interval=60, timeout=timedelta(hours=12), silent_fail=True)
def watch(queued: int) -> PokeReturnValue:
    """Wait for the end of the build that came of what was queued, however often Jenkins is away meanwhile."""
    jenkins = connected()
    build = next((build for build in builds(jenkins) if build["queueId"] == queued), None)
    if build is None and jenkins.get_queue_item(queued).get("cancelled"):
        raise AirflowFailException(f"the run of {JOB} was cancelled in Jenkins' queue, before it began")
    return PokeReturnValue(is_done=build is not None and not build["building"], xcom_value=build)


@task(outlets=[VERDICT])
def record(build: dict[str, Any], *, outlet_events: OutletEventAccessors) -> dict[str, str | None]:
    """Keep what became of the run: here, and with the asset, whose update may start what you do with a verdict."""
    jenkins, number = connected(), build["number"]
    try:
        outcome = jenkins.get_build_artifact_as_bytes(JOB, number, "build/outcome.txt").decode().strip()
    except NotFoundException:  # it ended too early to say anything
        outcome = "it left no outcome.txt"
    if build["result"] not in RESULTS:
        raise AirflowFailException(f"{build['url']} ended as {build['result']}: {outcome}")
    verdict = jenkins.get_build_artifact(JOB, number, "build/verdict.json")  # None, if there was nothing to learn
    found = {
        "url": build["url"],
        "result": build["result"],
        "outcome": outcome,
        "decision": verdict["decision"] if verdict else None,
    }
    outlet_events[VERDICT].extra = found
    return found


def connected() -> Jenkins:
    """Return Jenkins as Airflow's connection has it."""
    jenkins = JenkinsHook(CONNECTION).get_jenkins_server()
    jenkins.timeout = PATIENCE
    return jenkins


def builds(jenkins: Jenkins) -> list[dict[str, Any]]:
    """Return the newest builds, each with the number that it had in the queue and with what was asked for."""
    shown = "builds[number,url,queueId,building,result,actions[parameters[name,value]]]{0,20}"
    return jenkins.get_info("/".join(f"job/{name}" for name in JOB.split("/")), f"?tree={shown}")["builds"]


def parameters_of(build: dict[str, Any]) -> dict[str, Any]:
    """Return what a build was asked for."""
    return {one["name"]: one["value"] for action in build["actions"] for one in action.get("parameters", [])}


def asked(reason: str, as_of: str | None) -> dict[str, str]:
    """Return what Jenkins is asked for; the other parameters of the Jenkinsfile keep their defaults."""
    return {"TRIGGER": "data", "REASON": reason, "AS_OF": as_of or "", "MODEL": MODEL}


def train(parameters: XComArg) -> None:
    """Have Jenkins do one run."""
    start = Start(task_id="start", jenkins_connection_id=CONNECTION, job_name=JOB, parameters=parameters)
    record(watch(start.output))


def as_of() -> Param:
    """Return the parameter of a DAG that a run of Jenkins takes under the same name."""
    return Param("", type="string", description="Use no data from after this date, such as 2013-05-01")


@dag(schedule="@daily", params={"as_of": as_of()}, **SETTINGS)
def continuous_training() -> None:
    """Bring data, wait for enough of it, train."""
    news = wait()
    if SOURCE:
        ingest() >> news
    train(news)


@dag(schedule=[DATA], params={"as_of": as_of()}, **SETTINGS)
def continuous_training_on_data() -> None:
    """Train, because somebody says that the data are new."""
    train(told())


if CHECKOUT:
    continuous_training()
continuous_training_on_data()
