"""Baking an AMI from a stock image, by an instance that really trains; failures leave no resources."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from cloud.aws import Aws
from cloud.call import Call
from cloud.errors import ApiError
from cloud.machine import Machines
from conftest import ROOT, TIMEOUT, wait_until
from continuous_training.compute.ec2 import aws as api
from continuous_training.compute.ec2 import bake_ami, image_lifecycle
from continuous_training.compute.ec2.images import Platform
from continuous_training.compute.ec2.tags import PROJECT, PROJECT_FILTER, read_tags
from continuous_training.documents import Run, Snapshot
from continuous_training.errors import UserError
from continuous_training.settings import load_settings
from forked_python import ForkedPython
from pipeline import Pipeline
from toy import change, events, store

COMPUTE = """
compute:
  instance_types: [c7i.large]
  max_hours: 1
  max_cost_usd: 1
  prices: {c7i.large: 0.1}
  heartbeat_seconds: 3
compare:
"""


PLATFORM = Platform("x86_64")


class Account:
    """An AWS account with the resources of this project."""

    def __init__(self, aws: Aws) -> None:
        self.aws = aws
        self.ec2 = aws.client("ec2")
        aws.faults.after("ec2", "CreateImage", self._tag_snapshots)

    def images(self) -> list[dict[str, Any]]:
        images: list[dict[str, Any]] = self.ec2.describe_images(Owners=["self"], Filters=[PROJECT_FILTER])["Images"]
        return images

    def snapshots(self) -> list[dict[str, Any]]:
        """Return the snapshots that CreateImage created."""
        snapshots = self.ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]
        return [snapshot for snapshot in snapshots if snapshot["Description"].startswith("Created by CreateImage")]

    def set_state(self, state: str) -> None:
        """Set the state of images from their creation on."""

        def set_states(_: Call) -> None:
            for image in self.images():
                self.aws.ec2.amis[image["ImageId"]].state = state

        self.aws.faults.after("ec2", "CreateImage", set_states)

    def launch(self) -> str:
        """Launch an instance of this project that does nothing."""
        image = self.aws.environment["CT_AMI"]
        tagging = [{"ResourceType": "instance", "Tags": [{"Key": "ct:project", "Value": PROJECT}]}]
        response = self.ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1, TagSpecifications=tagging)
        return str(response["Instances"][0]["InstanceId"])

    def _tag_snapshots(self, call: Call) -> None:
        """Tag the snapshots, as AWS does with TagSpecifications, and moto does not."""
        for image in self.images():
            snapshots = [device["Ebs"]["SnapshotId"] for device in image["BlockDeviceMappings"]]
            self.ec2.create_tags(Resources=snapshots, Tags=image["Tags"])
        assert "snapshot" in call.parameters.values()


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    with Aws() as aws:
        for name, value in aws.environment.items():
            monkeypatch.setenv(name, value)
        account = Account(aws)
        monkeypatch.delenv("CT_AMI")
        yield account
        assert aws.authorizer.denied == []


@pytest.fixture
def project(workspace: Path) -> Path:
    """Make the toy workspace a git repository with the files that an instance needs."""
    change("compare:\n", COMPUTE.lstrip())
    for name in ("scripts", "src/continuous_training"):
        shutil.copytree(ROOT / name, workspace / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "MLproject", workspace)
    (workspace / ".gitignore").write_text(".ct/\nbuild/\n__pycache__/\nmachines/\n")
    return workspace


def prepare(monkeypatch: pytest.MonkeyPatch) -> tuple[Run, Snapshot]:
    """Commit the project, and run Set up and Snapshot."""
    for command in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "all"]):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@example.org", *command], check=True)
    pipeline = Pipeline(monkeypatch, BUILD_TAG="ct-1")
    pipeline.run.write()
    pipeline.take_snapshot().write()
    return pipeline.run, pipeline.snapshot


def start(workspace: Path, python: ForkedPython) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [python.python, "scripts/bake_ami.py", "--json"],
        env=os.environ | {"PYTHONPATH": str(workspace / "src")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.integration(seconds=40)
class TestBaking:
    def test_an_image_is_created_from_an_instance_that_has_trained_without_a_search(
        self, project: Path, account: Account, forked_python: ForkedPython, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        change("parameters: {C: 1.0}", "search: {space: {C: {type: float, low: 0.1, high: 1}}, trials: 3}")
        run, _ = prepare(monkeypatch)
        with Machines(account.aws, project / "machines", forked_python.venv):
            baking = start(project, forked_python)
            output, errors = baking.communicate(timeout=TIMEOUT)
        assert baking.returncode == 0, errors
        assert "Fitting Pipeline on" in errors
        assert "Trial 1" not in errors
        (image,) = account.images()
        assert json.loads(output) == {"images": {"x86_64": image["ImageId"]}, "lock": run.lock, "removed": []}
        expected = {"ct:project": PROJECT, "ct:lock": run.lock, "ct:commit": run.commit, "Name": image["Name"]}
        assert read_tags(image) == expected
        assert [read_tags(snapshot) for snapshot in account.snapshots()] == [expected]
        (created,) = account.aws.faults.calls_of("ec2", "CreateImage")
        assert created.parameters["NoReboot"] == "true"
        (launched,) = account.aws.faults.calls_of("ec2", "RunInstances")
        assert "InstanceMarketOptions.MarketType" not in launched.parameters
        (root,) = project.glob("machines/*/opt")
        assert {path.name for path in root.iterdir()} - {"per-boot"} == {"venv", "venv.lock"}
        assert list((root / "per-boot").iterdir()) == []  # otherwise instances of the image would end at once
        assert account.aws.billable_resources() == []

    def test_a_failed_training_leaves_no_image_and_no_instance(
        self,
        project: Path,
        account: Account,
        forked_python: ForkedPython,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        Path("src/toy/model.py").write_text("import a_package_outside_the_lock\n")
        run, snapshot = prepare(monkeypatch)
        with Machines(account.aws, project / "machines", forked_python.venv):  # noqa: SIM117 - the machines run longer
            with pytest.raises(
                UserError,
                match=r"there is no new image for x86_64: training failed on i-\w+: .*a_package_outside_the_lock",
            ):
                bake_ami.bake(api.Aws(), run, load_settings("toy"), snapshot)
        assert "a_package_outside_the_lock" in caplog.text
        assert account.images() == account.snapshots() == account.aws.billable_resources() == []

    def test_sigterm_leaves_no_image_and_no_instance(
        self, project: Path, account: Account, forked_python: ForkedPython, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        prepare(monkeypatch)
        account.set_state("pending")
        with Machines(account.aws, project / "machines", forked_python.venv):
            baking = start(project, forked_python)
            wait_until(  # the account lists the image before its snapshot
                lambda: (account.images() and account.snapshots()) or baking.poll() is not None,
                "the image is being created",
            )
            baking.send_signal(signal.SIGTERM)
            _, errors = baking.communicate(timeout=TIMEOUT)
        assert baking.returncode == 143, errors
        assert account.images() == account.snapshots() == account.aws.billable_resources() == []


class TestImage:
    def test_an_image_that_failed_is_removed(self, account: Account) -> None:
        instance = account.launch()
        account.set_state("failed")
        with pytest.raises(UserError, match="AWS created no image, its state is failed"):
            image_lifecycle.create_image(api.Aws(), instance, PLATFORM, "lock", "commit")
        assert account.images() == account.snapshots() == []

    def test_after_a_lost_response_the_image_is_found_by_its_name(self, account: Account) -> None:
        def create_and_fail(call: Call) -> None:
            if account.images():
                raise ApiError("InvalidAMIName.Duplicate", "AMI name is already in use", 400)
            tagging = [{"ResourceType": "image", "Tags": [{"Key": "ct:project", "Value": PROJECT}]}]
            parameters = {name: call.parameters[name] for name in ("InstanceId", "Name")}
            account.ec2.create_image(**parameters, TagSpecifications=tagging)
            raise ApiError("InternalError", "An internal error has occurred", 500)

        account.aws.faults.before("ec2", "CreateImage", create_and_fail)
        image_id = image_lifecycle.create_image(api.Aws(), account.launch(), PLATFORM, "lock", "commit")
        assert [image["ImageId"] for image in account.images()] == [image_id]
        assert len(account.aws.faults.calls_of("ec2", "CreateImage")) == 2

    def test_an_image_that_takes_too_long_is_removed(self, account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
        account.set_state("pending")
        monkeypatch.setattr(image_lifecycle, "POLL_SECONDS", 0.01)
        monkeypatch.setattr(image_lifecycle, "CREATION_TIMEOUT_SECONDS", 0.05)
        with pytest.raises(UserError, match="AWS took more than"):
            image_lifecycle.create_image(api.Aws(), account.launch(), PLATFORM, "lock", "commit")
        assert account.images() == account.snapshots() == []

    def test_an_image_that_cannot_be_removed_is_named_beside_the_first_error(
        self, account: Account, caplog: pytest.LogCaptureFixture
    ) -> None:
        account.set_state("failed")
        account.aws.faults.refuse("ec2", "DeregisterImage", "OperationNotPermitted")
        with pytest.raises(UserError, match="AWS created no image"):
            image_lifecycle.create_image(api.Aws(), account.launch(), PLATFORM, "lock", "commit")
        assert re.search(
            r"may still exist, do not use it: cannot deregister the image ami-\w+: AWS answers OperationNotPermitted",
            caplog.text,
        )


class TestSample:
    def test_a_sample_has_rows_of_each_class_and_of_the_whole_period(
        self, workspace: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rows = events()
        rows["late"] = rows["id"] == 1234
        store(rows)
        snapshot = Pipeline(monkeypatch).take_snapshot()
        path = bake_ami._sample_rows(snapshot.train, 100, load_settings("toy"), workspace)
        sample = duckdb.read_parquet(str(path)).df()
        assert 90 <= len(sample) <= 101
        assert sample["late"].sum() == 1
        assert sample["seen"].dt.date.nunique() > 40
        assert duckdb.read_parquet(str(path)).types == duckdb.read_parquet(str(snapshot.train.path)).types
