"""Runs DAGs by `dag.test()`, in Airflow's own environment: a line of JSON on stdin asks for one, one on stdout tells.

Asked is {"dag": …, "conf": …, "patience": …}, the last in seconds, of sensors; told are the run's state, its tasks'
states and tries, what they returned, and what the assets' events say. The first line tells the errors of importing the
DAGs, and what each DAG is like.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from airflow.dag_processing.dagbag import DagBag
from airflow.models.asset import AssetEvent
from airflow.models.xcom import XComModel
from airflow.sdk import DAG, BaseSensorOperator
from airflow.utils import db
from airflow.utils.session import create_session
from sqlalchemy import select


def main() -> None:
    told = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # where tasks and Airflow itself print
    db.initdb()
    bag = DagBag()
    about = {name: about_a(dag) for name, dag in bag.dags.items()}
    print(json.dumps({"errors": bag.import_errors, "dags": about}), file=told)
    for line in sys.stdin:
        asked = json.loads(line)
        print(json.dumps(run(bag.dags[asked["dag"]], asked["conf"], asked["patience"])), file=told)


def about_a(dag: DAG) -> dict[str, Any]:
    condition = dag.timetable.asset_condition
    return {
        "assets": [asset.name for asset in condition.objects] if condition else [],
        "tasks": {task.task_id: sorted(task.upstream_task_ids) for task in dag.tasks},
        "at once": dag.max_active_runs,
        "waiting in a worker": [task.task_id for task in dag.tasks if getattr(task, "mode", None) == "poke"],
        "without an end": [task.task_id for task in dag.tasks if task.execution_timeout is None],
    }


def run(dag: DAG, conf: dict[str, Any], patience: float) -> dict[str, Any]:
    for task in dag.tasks:  # whoever tests does not wait
        task.retry_delay *= 0
        task.retry_exponential_backoff = 0
        if isinstance(task, BaseSensorOperator):
            task.poke_interval, task.timeout = 0, patience
    done = dag.test(run_conf=conf)
    with create_session() as session:
        returned = select(XComModel).where(XComModel.run_id == done.run_id, XComModel.key == "return_value")
        events = select(AssetEvent).where(AssetEvent.source_run_id == done.run_id)
        return {
            "state": done.state,
            "tasks": {task.task_id: [task.state, task.try_number] for task in done.get_task_instances(session=session)},
            "returned": {found.task_id: XComModel.deserialize_value(found) for found in session.scalars(returned)},
            "events": {found.asset.name: found.extra for found in session.scalars(events)},
        }


if __name__ == "__main__":
    main()
