"""Baking an image: from a stock one, by an instance that really trains; and nothing is left of what fails."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from cloud.aws import Aws
from cloud.call import Call
from cloud.errors import Refusal
from cloud.machine import Machines
from conftest import ROOT, wait_until
from continuous_training.compute.ec2 import aws as api
from continuous_training.compute.ec2 import bake_ami, image_lifecycle
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
  heartbeat_seconds: 1
compare:
"""
LIMIT = 120  # seconds for one image


class Account:
    """An account on AWS, and what this project has in it."""

    def __init__(self, aws: Aws) -> None:
        self.aws = aws
        self.ec2 = aws.client("ec2")
        aws.faults.after("ec2", "CreateImage", self._tag_snapshots)

    def images(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.ec2.describe_images(Owners=["self"], Filters=[PROJECT_FILTER])["Images"]
        return found

    def snapshots(self) -> list[dict[str, Any]]:
        """Return the snapshots that were made by CreateImage."""
        found = self.ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]
        return [snapshot for snapshot in found if snapshot["Description"].startswith("Created by CreateImage")]

    def set_state(self, state: str) -> None:
        """Let images be in such a state from their first moment."""

        def follow(_: Call) -> None:
            for image in self.images():
                self.aws.ec2.amis[image["ImageId"]].state = state

        self.aws.faults.after("ec2", "CreateImage", follow)

    def launch(self) -> str:
        """Have an instance of this project that does nothing."""
        image = self.aws.environment["CT_AMI"]
        tagging = [{"ResourceType": "instance", "Tags": [{"Key": "ct:project", "Value": PROJECT}]}]
        found = self.ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1, TagSpecifications=tagging)
        return str(found["Instances"][0]["InstanceId"])

    def _tag_snapshots(self, call: Call) -> None:
        """Do what AWS does with TagSpecifications, and moto does not."""
        for image in self.images():
            mapped = [device["Ebs"]["SnapshotId"] for device in image["BlockDeviceMappings"]]
            self.ec2.create_tags(Resources=mapped, Tags=image["Tags"])
        assert "snapshot" in call.parameters.values()


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    with Aws() as aws:
        for name, value in aws.environment.items():
            monkeypatch.setenv(name, value)
        account = Account(aws)
        monkeypatch.delenv("CT_AMI")
        yield account
        assert aws.gate.denied == []


@pytest.fixture
def project(workspace: Path) -> Path:
    """Make the toy workspace a project in git, with all that an instance needs."""
    change("compare:\n", COMPUTE.lstrip())
    for name in ("scripts", "src/continuous_training"):
        shutil.copytree(ROOT / name, workspace / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "MLproject", workspace)
    (workspace / ".gitignore").write_text(".ct/\nbuild/\n__pycache__/\nmachines/\n")
    return workspace


def prepare(monkeypatch: pytest.MonkeyPatch) -> tuple[Run, Snapshot]:
    """Commit the project, and do what Set up and Snapshot do."""
    for command in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "all"]):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@example.org", *command], check=True)
    pipeline = Pipeline(monkeypatch, BUILD_TAG="ct-1")
    pipeline.run.write()
    pipeline.take_snapshot().write()
    return pipeline.run, pipeline.snapshot


def start(workspace: Path, python: Path = Path(sys.executable)) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [python, "scripts/bake_ami.py", "--json"],
        env=os.environ | {"PYTHONPATH": str(workspace / "src")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.integration(seconds=40)
class TestBaking:
    def test_an_instance_that_has_trained_becomes_the_image(
        self, project: Path, account: Account, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run, _ = prepare(monkeypatch)
        with Machines(account.aws, project / "machines", ROOT / ".venv"):
            baking = start(project)
            message, told = baking.communicate(timeout=LIMIT)
        assert baking.returncode == 0, told
        assert "Fitting Pipeline on" in told
        (image,) = account.images()
        assert json.loads(message) == {"id": image["ImageId"], "lock": run.lock, "removed": []}
        expected = {"ct:project": PROJECT, "ct:lock": run.lock, "ct:commit": run.commit, "Name": image["Name"]}
        assert read_tags(image) == expected
        assert [read_tags(snapshot) for snapshot in account.snapshots()] == [expected]
        (made,) = account.aws.faults.made("ec2", "CreateImage")
        assert made.parameters["NoReboot"] == "true"
        (launched,) = account.aws.faults.made("ec2", "RunInstances")
        assert "InstanceMarketOptions.MarketType" not in launched.parameters
        (root,) = project.glob("machines/*/opt")
        assert {path.name for path in root.iterdir()} - {"per-boot"} == {"venv", "venv.lock"}
        assert list((root / "per-boot").iterdir()) == []  # or what starts from the image would end at once
        assert account.aws.leftovers() == []

    def test_one_that_cannot_train_leaves_neither_image_nor_instance(
        self,
        project: Path,
        account: Account,
        forked_python: ForkedPython,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        Path("src/toy/model.py").write_text("import a_package_that_the_lock_forgot\n")
        run, taken = prepare(monkeypatch)
        with Machines(account.aws, project / "machines", forked_python.venv):  # noqa: SIM117 - the machines outlive it
            with pytest.raises(UserError, match=r"there is no new image: training failed on i-\w+ with exit code 1"):
                bake_ami.bake(api.Aws(), run, load_settings("toy"), taken)
        assert "a_package_that_the_lock_forgot" in caplog.text
        assert account.images() == account.snapshots() == account.aws.leftovers() == []

    def test_sigterm_leaves_neither_image_nor_instance(
        self, project: Path, account: Account, forked_python: ForkedPython, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        prepare(monkeypatch)
        account.set_state("pending")
        with Machines(account.aws, project / "machines", forked_python.venv):
            baking = start(project, forked_python.python)
            wait_until(lambda: account.images() or baking.poll() is not None, "the image is in the making")
            baking.send_signal(signal.SIGTERM)
            _, told = baking.communicate(timeout=LIMIT)
        assert baking.returncode == 143, told
        assert account.images() == account.snapshots() == account.aws.leftovers() == []


class TestImage:
    def test_one_that_aws_fails_to_make_is_removed(self, account: Account) -> None:
        instance = account.launch()
        account.set_state("failed")
        with pytest.raises(UserError, match="AWS created no image, its state is failed"):
            image_lifecycle.create_image(api.Aws(), instance, "lock", "commit")
        assert account.images() == account.snapshots() == []

    def test_one_whose_answer_was_lost_is_found_by_its_name(self, account: Account) -> None:
        def make_it_and_fail(call: Call) -> None:
            if account.images():
                raise Refusal("InvalidAMIName.Duplicate", "AMI name is already in use", 400)
            tagging = [{"ResourceType": "image", "Tags": [{"Key": "ct:project", "Value": PROJECT}]}]
            asked = {name: call.parameters[name] for name in ("InstanceId", "Name")}
            account.ec2.create_image(**asked, TagSpecifications=tagging)
            raise Refusal("InternalError", "An internal error has occurred", 500)

        account.aws.faults.before("ec2", "CreateImage", make_it_and_fail)
        made = image_lifecycle.create_image(api.Aws(), account.launch(), "lock", "commit")
        assert [image["ImageId"] for image in account.images()] == [made]
        assert len(account.aws.faults.made("ec2", "CreateImage")) == 2

    def test_one_that_takes_too_long_is_removed(self, account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
        account.set_state("pending")
        monkeypatch.setattr(image_lifecycle, "POLL_SECONDS", 0.01)
        monkeypatch.setattr(image_lifecycle, "CREATION_TIMEOUT_SECONDS", 0.05)
        with pytest.raises(UserError, match="AWS took more than"):
            image_lifecycle.create_image(api.Aws(), account.launch(), "lock", "commit")
        assert account.images() == account.snapshots() == []

    def test_one_that_cannot_be_removed_is_named_and_the_first_error_stays(
        self, account: Account, caplog: pytest.LogCaptureFixture
    ) -> None:
        account.set_state("failed")
        account.aws.faults.refuse("ec2", "DeregisterImage", "OperationNotPermitted")
        with pytest.raises(UserError, match="AWS created no image"):
            image_lifecycle.create_image(api.Aws(), account.launch(), "lock", "commit")
        assert re.search(
            r"may still exist, do not use it: cannot deregister the image ami-\w+: AWS answers OperationNotPermitted",
            caplog.text,
        )


class TestRows:
    def test_few_are_trained_on_but_of_each_class_and_of_the_whole_time(
        self, workspace: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rows = events()
        rows["late"] = rows["id"] == 1234
        store(rows)
        taken = Pipeline(monkeypatch).take_snapshot()
        few = bake_ami._sample_rows(taken.train, 100, load_settings("toy"), workspace)
        found = duckdb.read_parquet(str(few)).df()
        assert 90 <= len(found) <= 101
        assert found["late"].sum() == 1
        assert found["seen"].dt.date.nunique() > 40
        assert duckdb.read_parquet(str(few)).types == duckdb.read_parquet(str(taken.train.path)).types
