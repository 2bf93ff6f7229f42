"""Training on EC2, after a search on several instances if there are. No instance outlives this process."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from continuous_training.compute.ec2 import bundle, images, instance_types, launch, storage, usage
from continuous_training.compute.ec2.account import Account, read_tracking_uri
from continuous_training.compute.ec2.aws import Aws
from continuous_training.compute.ec2.fleet import Fleet
from continuous_training.compute.ec2.launch import LaunchContext
from continuous_training.compute.ec2.signals import defer_signals
from continuous_training.compute.ec2.user_data import Task
from continuous_training.errors import UserError
from continuous_training.model_packages import SOURCES
from continuous_training.registry import connection, runs, trials
from continuous_training.registry.trials import Share
from continuous_training.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlflow import MlflowClient
    from mlflow.entities import Run as TrackedRun

    from continuous_training.documents import Run, Snapshot
    from continuous_training.settings import Compute

log = logging.getLogger(__name__)

SNAPSHOT = "../snapshot"  # on an instance, from the folder of the code


def train(run: Run, snapshot: Snapshot, run_id: str) -> None:
    """Run MLproject's entry point `train` on an instance, which logs to the MLflow run.

    If `at_once` instances may run, they first share the trials of a grid or a search that are still to be done.

    Raises:
        UserError: the training failed; the message says how. All instances are terminated in that case too.
    """
    settings, client = load_settings(run.model), connection.open_client()
    tracked_run = client.get_run(run_id)
    limits = _subtract_cost(settings.ec2, client, tracked_run)
    aws, account, uri = Aws(), Account.from_environment(), read_tracking_uri()
    launch.check_security_group(aws, account.security_group)
    types = instance_types.prepare_types(
        aws, limits, lambda platform: images.choose_image(aws, account, run.lock, platform)
    )
    context = LaunchContext(account, limits, run, types)
    inputs = upload_inputs(aws, account.bucket, run, snapshot)

    def build_task_of(share: Share | None) -> Task:
        command = build_command(run, run_id=run_id) if share is None else build_search_command(run, run_id, share)
        return build_task(aws, context, uri, inputs, command)

    known = trials.find_trials(client, tracked_run, settings) if settings.model.trials else {}
    open_trials = trials.list_open_trials(tracked_run, known, settings)
    fleet = Fleet(aws, context, run_id, share_trials(open_trials, settings.compute.at_once), build_task_of)
    try:
        fleet.search()
        fleet.train()
    except BaseException:
        with defer_signals():
            try:
                fleet.terminate()
            except UserError as error:  # not the reason why the training failed
                log.error("%s", error)  # noqa: TRY400
            fleet.log_usage()
        raise
    fleet.terminate()
    fleet.log_usage()


def _subtract_cost(limits: Compute, client: MlflowClient, tracked_run: TrackedRun) -> Compute:
    """Return the limits; those of a refit are what the training of its candidate has left of max_cost_usd."""
    candidate = tracked_run.data.tags.get(runs.REFIT_OF)
    if candidate is None:
        return limits
    usd = client.get_run(candidate).data.metrics.get(usage.COST, 0.0)
    return limits.model_copy(update={"max_cost_usd": limits.max_cost_usd - usd})


def share_trials(numbers: Sequence[int], instances: int) -> list[Share]:
    """Return the shares of some trials, none of them empty; nothing if one instance would do all."""
    count = min(instances, len(numbers))
    shares = [share for number in range(count) if (share := Share(number, count)).select(numbers)]
    return shares if len(shares) > 1 else []


def upload_inputs(aws: Aws, bucket: str, run: Run, snapshot: Snapshot) -> dict[str, str]:
    """Upload code and rows to S3; return the SHA-256 of each, by the names of Task's fields."""
    storage.check_bucket(aws, bucket)
    with bundle.archive_commit(run.commit) as code:
        files = {"code": code, "train_rows": snapshot.train.path, "fresh_rows": snapshot.fresh.path}
        return {name: storage.upload_file(aws, bucket, path) for name, path in files.items()}


def build_command(run: Run, parameters: Mapping[str, Any] | None = None, run_id: str | None = None) -> list[str]:
    """Return the command that runs MLproject's entry point on an instance.

    Args:
        run: the run.
        parameters: override those of training.yaml.
        run_id: the MLflow run; None opens a new one.
    """
    arguments = {"model": run.model, "snapshot": SNAPSHOT, "parameters": json.dumps(parameters or {})}
    options = [option for name, value in arguments.items() for option in ("-P", f"{name}={value}")]
    run_options = ["--run-id", run_id] if run_id else []
    return ["mlflow", "run", ".", "--entry-point", "train", "--env-manager", "local", *run_options, *options]


def build_search_command(run: Run, run_id: str, share: Share) -> list[str]:
    """Return the command that does a share of the trials on an instance, and leaves the training's MLflow run open."""
    options = ["--model", run.model, "--snapshot", SNAPSHOT, "--share", str(share)]
    return ["env", f"MLFLOW_RUN_ID={run_id}", "python", "scripts/fit.py", *options]


def build_task(
    aws: Aws,
    context: LaunchContext,
    tracking_uri: str,
    inputs: dict[str, str],
    command: list[str],
    *,
    stay_running: bool = False,
) -> Task:
    """Return the task that runs a command in the folder of the code, beside the snapshot.

    Args:
        aws: the clients, whose addresses the instance uses too.
        context: account and settings.
        tracking_uri: of the MLflow server; empty for files on the instance.
        inputs: what `upload_inputs` returned.
        command: what it runs.
        stay_running: whether the instance goes on running when the command has succeeded.
    """
    return Task(
        bucket_url=f"{aws.s3.meta.endpoint_url}/{context.account.bucket}",
        ssm_url=aws.ssm.meta.endpoint_url,
        region=aws.region,
        tracking_uri=tracking_uri,
        mlflow_username=context.account.mlflow_username,
        secret_parameter=context.account.mlflow_secret_parameter if tracking_uri else None,
        package=(SOURCES / context.run.model).as_posix(),
        command=command,
        heartbeat_seconds=context.settings.heartbeat_seconds,
        stay_running=stay_running,
        **inputs,
    )
