"""Training on EC2, with every fault that could leave a machine running: each ends with none, and says what happened.

AWS is moto's server; each instance is a test machine that boots with its real user data, fetches the real bundle and
trains with the real entry point, logging to a real MLflow server.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from cloud.aws import Aws
from cloud.errors import Refusal
from cloud.machine import Machines
from cloud.mlflow_server import Tracking
from conftest import RECEIVES_SIGINT, ROOT, wait_until
from continuous_training.compute.ec2 import aws as api
from continuous_training.compute.ec2 import reap, termination
from continuous_training.compute.ec2.tags import run_identifier
from continuous_training.errors import UserError
from continuous_training.registry import connection
from forked_python import ForkedPython
from pipeline import Pipeline
from toy import change

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cloud.call import Call

pytestmark = pytest.mark.integration(seconds=30)

COMPUTE = """
compute:
  instance_types: [c7i.large, c6i.large]
  spot: false
  max_hours: 1
  max_cost_usd: 1
  prices: {c7i.large: 0.1, c6i.large: 0.09}
  boot_minutes: 0.5
  heartbeat_seconds: 1
"""
NEVER_ENDS = """
import time
def build(categories, numbers, **parameters):
    time.sleep(600)
"""
GOES_ON = """
import os, pathlib, sys, time
from toy.estimator import build as real
def build(categories, numbers, **parameters):
    kept = pathlib.Path(os.environ["CT_CHECKPOINTS"], "progress")
    if not kept.exists():
        kept.write_text("half of it")
        time.sleep(600)
    print("goes on from", kept.read_text(), file=sys.stderr)
    return real(categories, numbers, **parameters)
"""
LIMIT = 120  # seconds for one training


@pytest.fixture(scope="module")
def tracking(
    tmp_path_factory: pytest.TempPathFactory, empty_mlflow: Path, forked_python: ForkedPython
) -> Iterator[Tracking]:
    folder = tmp_path_factory.mktemp("tracking")
    shutil.copy(empty_mlflow, folder)
    with Tracking(folder, forked_python.mlflow) as server:
        yield server


class Project:
    """A project that trains on the cloud, and what came of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, aws: Aws, python: ForkedPython, folder: Path) -> None:
        self.aws = aws
        self.python = python
        self.tracking_uri = os.environ["MLFLOW_TRACKING_URI"]
        self.monkeypatch = monkeypatch
        self.folder = folder

    def machines(self, **settings: Any) -> Machines:
        """Let machines be such while the context lasts."""
        extra = {"OMP_NUM_THREADS": "1", **settings.pop("extra", {})}
        return Machines(self.aws, self.folder / "machines", self.python.venv, extra=extra, **settings)

    def ready(self, tag: str = "ct-1", **parameters: str) -> Pipeline:
        """Commit the project, and set up a run of it."""
        for command in (["add", "--all"], ["commit", "--quiet", "--allow-empty", "--message", "a change"]):
            subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@example.org", *command], check=True)
        return Pipeline(self.monkeypatch, COMPUTE="ec2", BUILD_TAG=tag, FORCE="true", **parameters)

    def train(self) -> str:
        """Train in this process; return the MLflow run of the candidate."""
        return self.ready().train().run_id

    def start(self, tag: str = "ct-1", python: Path | None = None, **parameters: str) -> subprocess.Popen[str]:
        """Train in a process of its own, in a workspace of its own, as an agent does.

        With a `python` that does not fork, for kill -9 ends a fork only after its client.
        """
        pipeline = self.ready(tag, **parameters)
        pipeline.make_plan()
        for document in (pipeline.run, pipeline.snapshot, pipeline.plan):
            document.write()
        workspace = self.folder / tag
        shutil.copytree(".", workspace, symlinks=True)
        environment = os.environ | {"PYTHONPATH": str(workspace / "src")}
        return subprocess.Popen(
            [*RECEIVES_SIGINT, python or self.python.python, "scripts/train.py"],
            cwd=workspace,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def launched(self) -> list[str]:
        """Return the ids of all instances that there ever were."""
        found = self.aws.client("ec2").describe_instances()["Reservations"]
        return [one["InstanceId"] for reserved in found for one in reserved["Instances"]]

    def forget(self, deadline: datetime) -> str:
        """Have an instance of this project that nobody watches."""
        tags = {"ct:project": "continuous-training", "ct:deadline": deadline.isoformat()}
        listed = [{"Key": key, "Value": value} for key, value in tags.items()]
        found = self.aws.client("ec2").run_instances(
            ImageId=self.aws.environment["CT_AMI"],
            InstanceType="c7i.large",
            MinCount=1,
            MaxCount=1,
            TagSpecifications=[{"ResourceType": "instance", "Tags": listed}],
        )
        return str(found["Instances"][0]["InstanceId"])

    def reap(self, tag: str = "ct-1") -> list[str]:
        """Do what the Jenkinsfile's `post` does, in the workspace of that run."""
        self.monkeypatch.chdir(self.folder / tag)
        return reap.reap(api.Aws(), self.aws.bucket, run_identifier(tag, "")).instances


@pytest.fixture
def project(
    workspace: Path,
    tracking: Tracking,
    forked_python: ForkedPython,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
    record_property: Callable[[str, object], None],
    caplog: pytest.LogCaptureFixture,
) -> Iterator[Project]:
    """Make the toy workspace a project in git, with all that stands beside a real model, and an account on AWS."""
    caplog.set_level("INFO", logger="continuous_training")
    change("compare:\n", f"{COMPUTE.lstrip()}compare:\n")
    for name in ("scripts", "src/continuous_training"):
        shutil.copytree(ROOT / name, workspace / name)  # with its bytecode, so that it starts sooner; git ignores that
    shutil.copy(ROOT / "MLproject", workspace)
    (workspace / ".gitignore").write_text(".ct/\nbuild/\n__pycache__/\n")
    subprocess.run(["git", "init", "--quiet"], check=True)
    with Aws() as aws:
        for name, value in {**aws.environment, "MLFLOW_TRACKING_URI": tracking.uri}.items():
            monkeypatch.setenv(name, value)
        yield Project(monkeypatch, aws, forked_python, tmp_path_factory.mktemp("cloud"))
        left = aws.leftovers()
        record_property("left", ", ".join(left) or "nothing")
        assert left == []
        assert aws.gate.denied == []


@pytest.fixture
def outcome(record_property: Callable[[str, object], None]) -> Callable[[str, str], None]:
    """Write a line of the table of faults, which is printed at the end of the tests."""

    def outcome(fault: str, became: str) -> None:
        record_property("fault", fault)
        record_property("outcome", became)

    return outcome


Outcome = Callable[[str, str], None]


def beats(aws: Aws) -> bool:
    """Tell whether an instance has sent a heartbeat."""
    return any(call.parameters["Key"].endswith("/heartbeat") for call in aws.faults.made("s3", "PutObject"))


def at_once(act: Callable[[], object]) -> threading.Thread:
    """Let something happen while the training goes on."""
    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    return thread


def saved(aws: Aws) -> bool:
    """Tell whether an instance has saved a checkpoint."""
    return any(call.parameters["Key"].endswith("/checkpoint") for call in aws.faults.made("s3", "PutObject"))


def model(code: str) -> None:
    """Replace the model that is to be trained."""
    Path("src/toy/model.py").write_text(code)


def metrics(run_id: str) -> dict[str, float]:
    return connection.open_client().get_run(run_id).data.metrics


def test_no_capacity_in_the_first_type_and_zone(project: Project, outcome: Outcome) -> None:
    first = project.aws.environment["CT_SUBNETS"].split(",")[0]

    def scarce(asked: dict[str, Any]) -> bool:
        return asked["InstanceType"] == "c7i.large" or asked["NetworkInterface.1.SubnetId"] == first

    project.aws.faults.refuse("ec2", "RunInstances", "InsufficientInstanceCapacity", 500, only=scarce)
    with project.machines():
        run_id = project.train()
    (launched,) = [call for call in project.aws.faults.made("ec2", "RunInstances") if not scarce(call.parameters)]
    assert launched.parameters["InstanceType"] == "c6i.large"
    tags = connection.open_client().get_run(run_id).data.tags
    assert tags["ct.instances"].startswith(f"{project.launched()[0]}, c6i.large on demand in subnet-")
    cost_usd = metrics(run_id)["ec2_seconds"] / 3600 * 0.09
    assert metrics(run_id)["ec2_cost_usd"] == pytest.approx(cost_usd, abs=2e-6)  # both are rounded
    outcome("no capacity in the first type and zone", "trained on the next type in the next zone")


def test_no_capacity_anywhere(project: Project, outcome: Outcome) -> None:
    project.aws.faults.refuse("ec2", "RunInstances", "InsufficientInstanceCapacity", 500)
    with (
        project.machines(),
        pytest.raises(UserError, match="no instance is available: c7i.large on demand") as message,
    ):
        project.train()
    outcome("no capacity anywhere", str(message.value))


def test_every_kind_of_call_is_throttled(project: Project, outcome: Outcome) -> None:
    project.aws.faults.throttle(times=2)
    with project.machines():
        assert "roc_auc" in metrics(project.train())
    outcome("throttling of every kind of call", "trained, with some patience")


def test_aws_does_not_answer_for_a_moment_while_it_trains(
    project: Project, outcome: Outcome, caplog: pytest.LogCaptureFixture
) -> None:
    Path("MLproject").write_text("name: a project without an entry point\n")
    asked = {"InstanceId.1"}
    project.aws.faults.refuse("ec2", "DescribeInstances", "Unavailable", 400, times=2, only=asked.issubset)
    with project.machines(), pytest.raises(UserError, match="training failed on i-"):
        project.train()
    assert "Unavailable" in caplog.text
    outcome("AWS does not answer for a moment", "watched on, to the training's own end")


@pytest.mark.parametrize("net", ["reap", "deadline"])
def test_the_launching_process_is_killed_right_after_run_instances(
    project: Project, outcome: Outcome, net: str
) -> None:
    running: list[subprocess.Popen[str]] = []
    project.aws.faults.after("ec2", "RunInstances", lambda _: running[0].kill(), times=1)
    model(NEVER_ENDS)
    with project.machines(minute=60.0 if net == "reap" else 0.1):
        running.append(project.start(python=Path(sys.executable)))
        assert running[0].wait(LIMIT) == -signal.SIGKILL
        if net == "reap":
            assert project.reap() == project.launched()
        wait_until(lambda: not project.aws.alive(), "the instance ends")
    became = {"reap": "ended by `ct reap --run` in post", "deadline": "ended by the instance's own deadline"}
    outcome(f"kill -9 right after RunInstances ({net})", became[net])


def test_the_launching_process_is_killed_right_before_run_instances(project: Project, outcome: Outcome) -> None:
    running: list[subprocess.Popen[str]] = []

    def kill(_: Call) -> None:
        running[0].kill()
        raise Refusal("Unheard", "its caller is dead", 400)

    project.aws.faults.before("ec2", "RunInstances", kill, times=1)
    with project.machines():
        running.append(project.start(python=Path(sys.executable)))
        assert running[0].wait(LIMIT) == -signal.SIGKILL
        assert project.aws.alive() == []
        assert project.reap() == []
    outcome("kill -9 right before RunInstances", "nothing was launched")


def test_nobody_can_reach_an_instance_and_it_holds_no_key(project: Project) -> None:
    change("boot_minutes: 0.5", "boot_minutes: 0.02")
    with project.machines(boots=False), pytest.raises(UserError, match="no heartbeat since the launch"):
        project.train()
    (launched,) = project.aws.faults.made("ec2", "RunInstances")
    asked = launched.parameters
    assert asked["MetadataOptions.HttpTokens"] == "required"
    assert asked["BlockDeviceMapping.1.Ebs.Encrypted"] == "true"
    assert asked["InstanceInitiatedShutdownBehavior"] == "terminate"
    assert asked["IamInstanceProfile.Name"] == project.aws.environment["CT_INSTANCE_PROFILE"]
    assert asked["ClientToken"]
    assert "KeyName" not in asked


def test_a_security_group_that_lets_somebody_in_is_refused(project: Project) -> None:
    group = project.aws.environment["CT_SECURITY_GROUP"]
    ssh = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
    project.aws.client("ec2").authorize_security_group_ingress(GroupId=group, IpPermissions=[ssh])
    with pytest.raises(UserError, match=f"the security group {group} has inbound rules"):
        project.train()
    assert project.launched() == []


def test_no_heartbeat_since_the_launch(project: Project, outcome: Outcome) -> None:
    change("boot_minutes: 0.5", "boot_minutes: 0.05")
    with project.machines(boots=False), pytest.raises(UserError, match="no heartbeat since the launch") as message:
        project.train()
    outcome("no heartbeat at all", str(message.value))


def test_no_heartbeat_any_more(project: Project, outcome: Outcome) -> None:
    change("heartbeat_seconds: 1", "heartbeat_seconds: 0.5")
    with project.machines() as machines:

        def freeze() -> None:
            wait_until(lambda: beats(project.aws), "it sends a heartbeat")
            for process in [pid for pids in machines.running().values() for pid in pids]:
                with contextlib.suppress(psutil.NoSuchProcess):  # a curl that has done its work
                    psutil.Process(process).suspend()

        at_once(freeze)
        with pytest.raises(UserError, match="no more heartbeats") as message:
            project.train()
    outcome("no more heartbeats", str(message.value))


def test_training_exits_non_zero(project: Project, outcome: Outcome, caplog: pytest.LogCaptureFixture) -> None:
    model("def build(categories, numbers, **parameters):\n    raise SystemExit('there is no such kernel')\n")
    with project.machines(), pytest.raises(UserError, match="training failed on i-.* with exit code 1") as message:
        project.train()
    last = next(message for message in caplog.messages if message.startswith("The last lines"))
    assert "there is no such kernel" in last
    assert len(last.splitlines()) <= 51
    outcome("training exits non-zero", str(message.value))


def test_a_stock_image_installs_the_lock_first(project: Project, caplog: pytest.LogCaptureFixture) -> None:
    """The lock is one package of this machine, so nothing is fetched; MLflow is not in it, so the training fails."""
    wheels = project.folder / "wheels"
    wheels.mkdir()
    wheel = wheels / "tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as packed:
        packed.writestr("tiny.py", "")
        packed.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        packed.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        packed.writestr("tiny-1.0.dist-info/RECORD", "")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    Path("requirements.lock").write_text(f"tiny==1.0 --hash=sha256:{digest}\n")

    def python(root: Path) -> None:
        (root.parent / "stubs" / "python3").symlink_to(sys.executable)

    local = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)}
    with (
        project.machines(baked=False, prepare=python, extra=local) as machines,
        pytest.raises(UserError, match=r"training failed on i-\w+ with exit code 127"),
    ):
        project.train()
    assert "instance: installing" in caplog.text
    installed = machines.folder(project.launched()[0]) / "opt/venv/lib"
    assert list(installed.rglob("tiny.py"))


def test_out_of_disk_on_the_instance(project: Project, outcome: Outcome) -> None:
    def fill(root: Path) -> None:
        (root / "snapshot").mkdir()
        (root / "snapshot" / "train.parquet").symlink_to("/dev/full")

    with (
        project.machines(prepare=fill),
        pytest.raises(UserError, match="fetching failed on i-.* with exit code 23") as message,
    ):
        project.train()
    outcome("out of disk on the instance", str(message.value))


def test_the_upload_of_the_result_is_refused(project: Project, outcome: Outcome) -> None:
    project.aws.faults.refuse(
        "s3", "PutObject", "AccessDenied", 403, only=lambda asked: asked["Key"].endswith("/result")
    )
    pipeline = project.ready()
    with (
        project.machines(),
        pytest.raises(UserError, match="shut itself down at the step 'training' without a result in S3") as message,
    ):
        pipeline.train()
    assert pipeline.make_plan().resumed_run_id is None  # FORCE trains anew
    project.monkeypatch.setenv("FORCE", "false")
    taken_up = Pipeline(project.monkeypatch, COMPUTE="ec2", BUILD_TAG="ct-2", FORCE="false")
    assert taken_up.make_plan().resumed_run_id is not None
    outcome("upload of the result refused", f"{message.value}; the next run takes up what MLflow has")


def test_somebody_ends_the_instance(project: Project, outcome: Outcome) -> None:
    model(NEVER_ENDS)
    with project.machines():

        def end() -> None:
            wait_until(lambda: beats(project.aws), "it sends a heartbeat")
            project.aws.client("ec2").terminate_instances(InstanceIds=project.aws.alive())

        at_once(end)
        with pytest.raises(UserError, match="a user terminated i-") as message:
            project.train()
    outcome("instance terminated from outside", str(message.value))


def test_a_spot_instance_is_taken_back(project: Project, outcome: Outcome, caplog: pytest.LogCaptureFixture) -> None:
    change("spot: false", "spot: true")
    shutil.copy("src/toy/model.py", "src/toy/estimator.py")
    model(GOES_ON)
    with project.machines() as machines:

        def interrupt() -> None:
            wait_until(lambda: saved(project.aws), "it saves a checkpoint")
            machines.interrupt(project.aws.alive()[0])

        at_once(interrupt)
        run_id = project.train()
    first, second = project.aws.faults.made("ec2", "RunInstances")
    assert first.parameters["InstanceMarketOptions.MarketType"] == "spot"
    assert "InstanceMarketOptions.MarketType" not in second.parameters
    assert "goes on from half of it" in caplog.text
    assert "roc_auc" in metrics(run_id)
    outcome("spot interruption", "trained on demand, from the checkpoint")


def test_the_bucket_is_missing(project: Project, outcome: Outcome) -> None:
    project.monkeypatch.setenv("CT_BUCKET", "nowhere-to-be-found")
    with (
        project.machines(),
        pytest.raises(UserError, match="cannot access the bucket nowhere-to-be-found") as message,
    ):
        project.train()
    project.aws.gate.denied.clear()
    assert project.launched() == []
    outcome("S3 bucket missing", str(message.value))


def test_the_instance_cannot_reach_mlflow(project: Project, outcome: Outcome) -> None:
    project.monkeypatch.setenv("MLFLOW_TRACKING_URI", project.tracking_uri.replace("127.0.0.1", "localhost"))
    nowhere = {"http_proxy": "http://127.0.0.1:9", "no_proxy": "127.0.0.1"}  # S3 is reached, the other name is not
    with project.machines(extra=nowhere), pytest.raises(UserError, match="reaching MLflow failed on i-") as message:
        project.train()
    outcome("MLflow unreachable from the instance", str(message.value))


def test_the_deadline_is_reached(project: Project, outcome: Outcome) -> None:
    change("max_hours: 1", "max_hours: 0.12")
    model(NEVER_ENDS)
    late = {"SECONDS": "236"}  # where bash begins to count: 4 seconds before the last minute
    with project.machines(extra=late), pytest.raises(UserError, match="reached its deadline of 5 minutes") as message:
        project.train()
    outcome("deadline reached", str(message.value))


def test_terminating_fails_three_times(project: Project, outcome: Outcome) -> None:
    project.aws.faults.refuse("ec2", "TerminateInstances", "OperationNotPermitted", 400, times=3)
    Path("MLproject").write_text("name: a project without an entry point\n")
    with project.machines(minute=3600.0), pytest.raises(UserError, match="training failed on i-"):
        project.train()
    assert len(project.aws.faults.made("ec2", "TerminateInstances")) > 3
    outcome("terminate fails three times", "ended by the fourth attempt")


def test_jenkins_aborts_the_build_while_aws_launches(project: Project, outcome: Outcome) -> None:
    """The signal comes when EC2 has launched, and before its answer; and EC2 does not know the instance yet."""
    running: list[subprocess.Popen[str]] = []
    project.aws.faults.after("ec2", "RunInstances", lambda _: running[0].terminate(), times=1)
    project.aws.faults.refuse("ec2", "TerminateInstances", "InvalidInstanceID.NotFound", 400, times=2)
    with project.machines():
        running.append(project.start())
        assert running[0].wait(LIMIT) == 128 + signal.SIGTERM
        assert project.aws.alive() == []
    outcome("Jenkins aborts the build while AWS launches", "ended by the launching process, at the third attempt")


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_jenkins_aborts_the_build(project: Project, outcome: Outcome, sent: signal.Signals) -> None:
    model(NEVER_ENDS)
    with project.machines():
        running = project.start()
        wait_until(lambda: beats(project.aws), "it sends a heartbeat")
        running.send_signal(sent)
        assert running.wait(LIMIT) == 128 + sent
        assert project.aws.alive() == []
    outcome(f"Jenkins aborts the build ({sent.name})", "ended by the launching process")


def test_two_runs_at_once(project: Project, outcome: Outcome) -> None:
    with project.machines():
        runs = [project.start("ct-1", AS_OF="2020-03-01"), project.start("ct-2", AS_OF="2020-03-08")]
        for run in runs:
            message, _ = run.communicate(timeout=LIMIT)
            assert run.returncode == 0, message
    assert len(project.launched()) == 2
    outcome("two runs at once", "both trained, each ended its own instance")


def test_the_clocks_differ_by_ten_minutes(project: Project, outcome: Outcome) -> None:
    project.aws.faults.skew(-10)
    with project.machines():
        assert "roc_auc" in metrics(project.train())
    (launched,) = project.aws.faults.made("ec2", "RunInstances")
    tags = {launched.parameters[f"TagSpecification.1.Tag.{n}.{part}"] for n in range(1, 7) for part in ("Key", "Value")}
    deadline = max(datetime.fromisoformat(tag) for tag in tags if tag.startswith("20"))
    assert deadline < datetime.now(UTC) + timedelta(minutes=50)  # of its 58 minutes, by AWS's clock
    outcome("clock skew of ten minutes", "trained as ever")


@pytest.mark.parametrize("minutes", [-10, 10])
def test_reaping_goes_by_the_clock_of_aws(project: Project, outcome: Outcome, minutes: int) -> None:
    project.aws.faults.skew(minutes)
    now = datetime.now(UTC) + timedelta(minutes=minutes)
    with project.machines(boots=False):
        alive, due = (project.forget(now + timedelta(minutes=left)) for left in (5, -6))
        script = [project.python.python, "scripts/reap.py", "--json"]
        dry = subprocess.run([*script, "--dry-run"], capture_output=True, text=True, check=True)
        assert json.loads(dry.stdout)["instances"] == [due]
        assert sorted(project.aws.alive()) == sorted([alive, due])
        done = subprocess.run(script, capture_output=True, text=True, check=True)
        assert json.loads(done.stdout)["instances"] == [due]
        assert project.aws.alive() == [alive]
        project.aws.client("ec2").terminate_instances(InstanceIds=[alive])
    outcome(f"clock skew of {minutes} minutes while reaping", "only what is past its deadline by AWS's clock is ended")


def test_what_instances_and_uploads_left_behind_is_removed(project: Project, outcome: Outcome) -> None:
    s3, ec2 = project.aws.client("s3"), project.aws.client("ec2")
    s3.create_multipart_upload(  # moto says that it was begun long ago
        Bucket=project.aws.bucket, Key="objects/half"
    )
    tags = [{"ResourceType": "volume", "Tags": [{"Key": "ct:project", "Value": "continuous-training"}]}]
    zone = f"{project.aws.region}a"
    ours = ec2.create_volume(AvailabilityZone=zone, Size=8, TagSpecifications=tags)["VolumeId"]
    theirs = ec2.create_volume(AvailabilityZone=zone, Size=8)["VolumeId"]
    found = reap.reap(api.Aws(), project.aws.bucket)
    assert found.uploads == ["objects/half"]
    assert found.volumes == []  # it is young and may be on its way to an instance
    project.monkeypatch.setattr(termination, "MIN_VOLUME_AGE", timedelta(seconds=-60))
    assert reap.reap(api.Aws(), project.aws.bucket).volumes == [ours]
    assert project.aws.leftovers() == [theirs]
    ec2.delete_volume(VolumeId=theirs)
    outcome("a volume and an unfinished upload are left", "removed by `ct reap`")


def test_the_grid_trains_on_an_instance_each(project: Project) -> None:
    change("  parameters: {C: 1.0}", "  parameters: {C: 1.0}\n  grid: {C: [0.0001, 1.0]}")
    with project.machines():
        run_id = project.train()
    assert len(project.launched()) == 2
    assert connection.open_client().get_run(run_id).data.params["C"] == "1.0"


def test_the_password_of_mlflow_comes_from_the_parameter_store(
    project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    name = "/continuous-training/mlflow-secret"
    project.aws.client("ssm").put_parameter(Name=name, Value="s3cr3t", Type="SecureString")
    project.monkeypatch.setenv("CT_MLFLOW_SECRET_PARAMETER", name)
    project.monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "training")
    model("""
import hashlib, os
def build(categories, numbers, **parameters):
    given = os.environ["MLFLOW_TRACKING_USERNAME"] + os.environ["MLFLOW_TRACKING_PASSWORD"]
    raise SystemExit(hashlib.sha256(given.encode()).hexdigest())
""")
    with project.machines(), pytest.raises(UserError, match="training failed"):
        project.train()
    assert hashlib.sha256(b"trainings3cr3t").hexdigest() in caplog.text
    (launched,) = project.aws.faults.made("ec2", "RunInstances")
    assert "s3cr3t" not in caplog.text + str(launched.parameters)
