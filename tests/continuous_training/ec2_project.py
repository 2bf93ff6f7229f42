"""A project that trains on EC2, with an AWS account of the test cloud."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from cloud.aws import Aws
from cloud.machine import Machines
from conftest import RECEIVES_SIGINT
from continuous_training.compute.ec2 import aws as api
from continuous_training.compute.ec2 import reap, training
from continuous_training.compute.ec2.tags import run_identifier
from continuous_training.registry import runs
from forked_python import ForkedPython
from pipeline import Pipeline
from toy import change

COMPUTE = """
compute:
  instance_types: [c7i.large, c6i.large]
  spot: false
  max_hours: 1
  max_cost_usd: 1
  prices: {c7i.large: 0.1, c6i.large: 0.09}
  boot_minutes: 5
  heartbeat_seconds: 2
"""


def write_entry_point(command: str) -> None:
    """Let MLproject's entry point run a command."""
    path = Path("MLproject")
    path.write_text(re.sub("command: .*", lambda _: f"command: {json.dumps(command)}", path.read_text()))


def share_grid(program: str = "") -> None:
    """Let two instances share the trials of a grid, by a Python program in place of the fit if one is given."""
    change("parameters: {C: 1.0}", "grid: {C: [0.1, 1.0, 2.0, 3.0]}")
    change("max_hours: 1\n", "max_hours: 1\n  at_once: 2\n")
    if program:
        Path("scripts/fit.py").write_text(f"import sys, time\nshare = sys.argv[-1]\n{program}\n")


class Project:
    """A project that trains on EC2."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, aws: Aws, python: ForkedPython, folder: Path) -> None:
        self.aws = aws
        self.python = python
        self.tracking_uri = os.environ["MLFLOW_TRACKING_URI"]
        self.monkeypatch = monkeypatch
        self.folder = folder

    def machines(self, **settings: Any) -> Machines:
        """Return the machines of the account, to be used as a context."""
        extra = {"OMP_NUM_THREADS": "1", **settings.pop("extra", {})}
        return Machines(self.aws, self.folder / "machines", self.python.venv, extra=extra, **settings)

    def set_up(self, tag: str = "ct-1", **parameters: str) -> Pipeline:
        """Commit the project, and set up a run of it."""
        for command in (["add", "--all"], ["commit", "--quiet", "--allow-empty", "--message", "a change"]):
            subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@example.org", *command], check=True)
        return Pipeline(self.monkeypatch, COMPUTE="ec2", BUILD_TAG=tag, FORCE="true", **parameters)

    def train(self) -> str:
        """Train in this process; return the candidate's MLflow run id."""
        return self.set_up().train().run_id

    def run_entry_point(self, command: str) -> str:
        """Train with a command in place of the fit, which takes seconds; return the id of the MLflow run."""
        write_entry_point(command)
        pipeline = self.set_up()
        pipeline.take_snapshot()
        run_id = str(pipeline.client.create_run(runs.experiment_id(pipeline.client, "toy")).info.run_id)
        training.train(pipeline.run, pipeline.snapshot, run_id)
        return run_id

    def start(self, tag: str = "ct-1", **parameters: str) -> subprocess.Popen[str]:
        """Train in a separate process and workspace, as an agent does."""
        pipeline = self.set_up(tag, **parameters)
        pipeline.make_plan()
        for document in (pipeline.run, pipeline.snapshot, pipeline.plan):
            document.write()
        workspace = self.folder / tag
        shutil.copytree(".", workspace, symlinks=True)
        environment = os.environ | {"PYTHONPATH": str(workspace / "src")}
        return subprocess.Popen(
            [*RECEIVES_SIGINT, self.python.python, "scripts/train.py"],
            cwd=workspace,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def kill(self, tag: str = "ct-1") -> None:
        """Kill -9 the training and its processes: all those in its workspace but this one, which `reap` enters."""
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):  # it has ended
                if process.pid != os.getpid() and Path(process.cwd()) == self.folder / tag:
                    process.kill()

    def launched_instances(self) -> list[str]:
        """Return the ids of all instances, including terminated ones."""
        reservations = self.aws.client("ec2").describe_instances()["Reservations"]
        return [instance["InstanceId"] for reservation in reservations for instance in reservation["Instances"]]

    def launch_unwatched(self, deadline: datetime) -> str:
        """Launch an instance of this project that no process watches."""
        tags = {"ct:project": "continuous-training", "ct:deadline": deadline.isoformat()}
        tag_list = [{"Key": key, "Value": value} for key, value in tags.items()]
        response = self.aws.client("ec2").run_instances(
            ImageId=self.aws.environment["CT_AMI"],
            InstanceType="c7i.large",
            MinCount=1,
            MaxCount=1,
            TagSpecifications=[{"ResourceType": "instance", "Tags": tag_list}],
        )
        return str(response["Instances"][0]["InstanceId"])

    def reap(self, tag: str = "ct-1") -> list[str]:
        """Reap as the Jenkinsfile's `post` does, in the workspace of a run."""
        self.monkeypatch.chdir(self.folder / tag)
        return reap.reap(api.Aws(), self.aws.bucket, run_identifier(tag, "")).instances
