"""Training on EC2: each trial on its own instance. No instance outlives this process."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from continuous_training.compute.ec2 import bundle, images, instance_types, launch, storage
from continuous_training.compute.ec2.account import Account, read_tracking_uri
from continuous_training.compute.ec2.aws import Aws
from continuous_training.compute.ec2.fleet import Fleet
from continuous_training.compute.ec2.launch import LaunchContext
from continuous_training.compute.ec2.signals import defer_signals
from continuous_training.compute.ec2.user_data import Task
from continuous_training.errors import UserError
from continuous_training.model_packages import SOURCES
from continuous_training.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from continuous_training.compute import Trial
    from continuous_training.documents import Run, Snapshot

log = logging.getLogger(__name__)


def train(run: Run, snapshot: Snapshot, trials: Sequence[Trial]) -> None:
    """Run MLproject's entry point `train` for each trial on an instance. It logs to the trial's MLflow run.

    Raises:
        UserError: a trial failed; the message says how. All instances are terminated in that case too.
    """
    settings = load_settings(run.model).ec2
    aws, account, uri = Aws(), Account.from_environment(), read_tracking_uri()
    launch.check_security_group(aws, account.security_group)
    types = instance_types.prepare_types(
        aws, settings, lambda platform: images.choose_image(aws, account, run.lock, platform)
    )
    context = LaunchContext(account, settings, run, types)
    inputs = upload_inputs(aws, account.bucket, run, snapshot)
    fleet = Fleet(
        aws,
        context,
        lambda trial: build_task(aws, context, uri, inputs, build_command(run, trial.parameters, trial.run_id)),
        trials,
    )
    try:
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


def upload_inputs(aws: Aws, bucket: str, run: Run, snapshot: Snapshot) -> dict[str, str]:
    """Upload code and rows to S3; return the SHA-256 of each, by the names of Task's fields."""
    storage.check_bucket(aws, bucket)
    with bundle.archive_commit(run.commit) as code:
        files = {"code": code, "train_rows": snapshot.train.path, "fresh_rows": snapshot.fresh.path}
        return {name: storage.upload_file(aws, bucket, path) for name, path in files.items()}


def build_command(run: Run, parameters: Mapping[str, Any], run_id: str | None = None) -> list[str]:
    """Return the command that runs MLproject's entry point on an instance. None for `run_id` opens a new MLflow run."""
    arguments = {"model": run.model, "snapshot": "../snapshot", "parameters": json.dumps(parameters)}
    options = [option for name, value in arguments.items() for option in ("-P", f"{name}={value}")]
    run_options = ["--run-id", run_id] if run_id else []
    return ["mlflow", "run", ".", "--entry-point", "train", "--env-manager", "local", *run_options, *options]


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
        command: what `build_command` returned.
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
