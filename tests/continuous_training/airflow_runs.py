"""Runs DAGs with `dag.test()` in Airflow's environment: requests are lines of JSON on stdin, results lines on stdout.

A request is {"dag": …, "conf": …, "timeout": …}; the timeout of sensors is in seconds. A result has the state of the
run, the states and tries of its tasks, their return values and the events of assets. The first line has the import
errors and a description of each DAG.
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
    results = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # for the output of tasks and of Airflow
    db.initdb()
    bag = DagBag()
    descriptions = {name: describe(dag) for name, dag in bag.dags.items()}
    print(json.dumps({"errors": bag.import_errors, "dags": descriptions}), file=results)
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(run(bag.dags[request["dag"]], request["conf"], request["timeout"])), file=results)


def describe(dag: DAG) -> dict[str, Any]:
    condition = dag.timetable.asset_condition
    return {
        "assets": [asset.name for asset in condition.objects] if condition else [],
        "tasks": {task.task_id: sorted(task.upstream_task_ids) for task in dag.tasks},
        "max_active_runs": dag.max_active_runs,
        "poking_sensors": [task.task_id for task in dag.tasks if getattr(task, "mode", None) == "poke"],
        "without_timeout": [task.task_id for task in dag.tasks if task.execution_timeout is None],
    }


def run(dag: DAG, conf: dict[str, Any], timeout: float) -> dict[str, Any]:
    for task in dag.tasks:  # tests do not wait
        task.retry_delay *= 0
        task.retry_exponential_backoff = 0
        if isinstance(task, BaseSensorOperator):
            task.poke_interval, task.timeout = 0, timeout
    dag_run = dag.test(run_conf=conf)
    with create_session() as session:
        return_values = select(XComModel).where(XComModel.run_id == dag_run.run_id, XComModel.key == "return_value")
        events = select(AssetEvent).where(AssetEvent.source_run_id == dag_run.run_id)
        return {
            "state": dag_run.state,
            "tasks": {
                task.task_id: [task.state, task.try_number] for task in dag_run.get_task_instances(session=session)
            },
            "returned": {value.task_id: XComModel.deserialize_value(value) for value in session.scalars(return_values)},
            "events": {event.asset.name: event.extra for event in session.scalars(events)},
        }


if __name__ == "__main__":
    main()
