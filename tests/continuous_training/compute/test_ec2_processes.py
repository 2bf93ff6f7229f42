"""Training on EC2 with all faults that could leave a machine running: each ends without one, and with a clear error.

AWS is moto's server. Each instance is a test machine that boots with its real user data, fetches the real bundle and
trains with the real entry point, with a real MLflow server.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from cloud.aws import Aws
from cloud.errors import ApiError
from conftest import TIMEOUT, wait_until
from continuous_training.compute.ec2 import aws as api
from continuous_training.compute.ec2 import reap, termination, watcher
from continuous_training.errors import UserError
from continuous_training.registry import connection, runs, trials
from ec2_project import Project, share_grid, write_entry_point
from pipeline import Pipeline
from toy import change
from tracked_trials import find_trials
from wheels import pin, write_wheel

if TYPE_CHECKING:
    from cloud.call import Call

pytestmark = pytest.mark.integration(seconds=30)

ENDLESS = "sleep 600"  # an entry point
RESUMING_MODEL = """
import os, pathlib, sys, time
from toy.estimator import build as build_estimator
def build(categories, numbers, **parameters):
    checkpoint = pathlib.Path(os.environ["CT_CHECKPOINTS"], "progress")
    if not checkpoint.exists():
        checkpoint.write_text("half of the epochs")
        time.sleep(600)
    print("resumes after", checkpoint.read_text(), file=sys.stderr)
    return build_estimator(categories, numbers, **parameters)
"""
MAX_MISSED_HEARTBEATS = watcher.MAX_MISSED_HEARTBEATS


@pytest.fixture
def record_outcome(record_property: Callable[[str, object], None]) -> Callable[[str, str], None]:
    """Return a function that adds a row to the table of faults, which is printed at the end of the tests."""

    def record_outcome(fault: str, outcome: str) -> None:
        record_property("fault", fault)
        record_property("outcome", outcome)

    return record_outcome


RecordOutcome = Callable[[str, str], None]


def has_sent_heartbeat(aws: Aws) -> bool:
    """Return whether an instance has sent a heartbeat."""
    return any(call.parameters["Key"].endswith("/heartbeat") for call in aws.faults.calls_of("s3", "PutObject"))


def run_in_thread(function: Callable[[], object]) -> threading.Thread:
    """Run a function during the training."""
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread


def has_saved_checkpoint(aws: Aws) -> bool:
    """Return whether an instance has saved a checkpoint."""
    return any(call.parameters["Key"].endswith("/checkpoint") for call in aws.faults.calls_of("s3", "PutObject"))


def write_model(code: str) -> None:
    """Replace the model."""
    Path("src/toy/model.py").write_text(code)


def metrics(run_id: str) -> dict[str, float]:
    return connection.open_client().get_run(run_id).data.metrics


def test_without_capacity_in_the_first_type_and_zone_the_next_are_used(
    project: Project, record_outcome: RecordOutcome
) -> None:
    first = project.aws.environment["CT_SUBNETS"].split(",")[0]

    def lacks_capacity(parameters: dict[str, Any]) -> bool:
        return parameters["InstanceType"] == "c7i.large" or parameters["NetworkInterface.1.SubnetId"] == first

    project.aws.faults.refuse("ec2", "RunInstances", "InsufficientInstanceCapacity", 500, condition=lacks_capacity)
    with project.machines():
        run_id = project.run_entry_point("true")
    (launched,) = [
        call for call in project.aws.faults.calls_of("ec2", "RunInstances") if not lacks_capacity(call.parameters)
    ]
    assert launched.parameters["InstanceType"] == "c6i.large"
    tags = connection.open_client().get_run(run_id).data.tags
    assert tags["ct.instances"].startswith(f"{project.launched_instances()[0]}, c6i.large on demand in subnet-")
    cost_usd = metrics(run_id)["ec2_seconds"] / 3600 * 0.09
    assert metrics(run_id)["ec2_cost_usd"] == pytest.approx(cost_usd, abs=2e-6)  # both are rounded
    record_outcome("no capacity in the first type and zone", "trained on the next type in the next zone")


def test_without_capacity_in_any_type_and_zone_the_training_fails(
    project: Project, record_outcome: RecordOutcome
) -> None:
    project.aws.faults.refuse("ec2", "RunInstances", "InsufficientInstanceCapacity", 500)
    with (
        project.machines(),
        pytest.raises(UserError, match="no instance is available: c7i.large on demand") as error,
    ):
        project.train()
    record_outcome("no capacity anywhere", str(error.value))


def test_throttled_calls_are_retried(project: Project, record_outcome: RecordOutcome) -> None:
    project.monkeypatch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=lambda _: None))  # between attempts
    project.aws.faults.throttle(times=2)
    with project.machines():
        run_id = project.run_entry_point("true")
    assert "ec2_seconds" in metrics(run_id)
    record_outcome("throttling of every kind of call", "trained after retries")


def test_an_outage_of_aws_during_the_training_is_tolerated(
    project: Project, record_outcome: RecordOutcome, caplog: pytest.LogCaptureFixture
) -> None:
    keys = {"InstanceId.1"}
    project.aws.faults.refuse("ec2", "DescribeInstances", "Unavailable", 400, times=2, condition=keys.issubset)
    with project.machines():
        project.run_entry_point("true")
    assert "Unavailable" in caplog.text
    record_outcome("AWS does not answer for a moment", "watched until the training ended")


@pytest.mark.parametrize("ended_by", ["reap", "deadline"])
def test_an_instance_whose_launching_process_was_killed_ends(
    project: Project, record_outcome: RecordOutcome, ended_by: str
) -> None:
    project.aws.faults.after("ec2", "RunInstances", lambda _: project.kill(), times=1)
    write_entry_point(ENDLESS)
    with project.machines(minute=60.0 if ended_by == "reap" else 0.03):
        assert project.start().wait(TIMEOUT) == -signal.SIGKILL
        if ended_by == "reap":
            assert project.reap() == project.launched_instances()
        wait_until(lambda: not project.aws.billable_instances(), "the instance ends")
    outcomes = {"reap": "ended by `ct reap --run` in post", "deadline": "ended by the instance's own deadline"}
    record_outcome(f"kill -9 right after RunInstances ({ended_by})", outcomes[ended_by])


def test_a_process_that_is_killed_before_run_instances_launches_nothing(
    project: Project, record_outcome: RecordOutcome
) -> None:
    def kill(_: Call) -> None:
        project.kill()
        raise ApiError("Unheard", "its caller was killed", 400)

    project.aws.faults.before("ec2", "RunInstances", kill, times=1)
    with project.machines():
        assert project.start().wait(TIMEOUT) == -signal.SIGKILL
        assert project.aws.billable_instances() == []
        assert project.reap() == []
    record_outcome("kill -9 right before RunInstances", "nothing was launched")


def test_an_instance_is_launched_encrypted_without_a_key_and_terminated_if_it_sends_no_heartbeat(
    project: Project, record_outcome: RecordOutcome
) -> None:
    change("boot_minutes: 5", "boot_minutes: 0.01")
    with project.machines(boots=False), pytest.raises(UserError, match="no heartbeat since the launch") as error:
        project.run_entry_point("true")
    (launched,) = project.aws.faults.calls_of("ec2", "RunInstances")
    parameters = launched.parameters
    assert parameters["MetadataOptions.HttpTokens"] == "required"
    assert parameters["BlockDeviceMapping.1.Ebs.Encrypted"] == "true"
    assert parameters["InstanceInitiatedShutdownBehavior"] == "terminate"
    assert parameters["IamInstanceProfile.Name"] == project.aws.environment["CT_INSTANCE_PROFILE"]
    assert parameters["ClientToken"]
    assert "KeyName" not in parameters
    record_outcome("no heartbeat at all", str(error.value))


def test_a_security_group_with_inbound_rules_is_refused(project: Project) -> None:
    group = project.aws.environment["CT_SECURITY_GROUP"]
    ssh = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
    project.aws.client("ec2").authorize_security_group_ingress(GroupId=group, IpPermissions=[ssh])
    with pytest.raises(UserError, match=f"the security group {group} has inbound rules"):
        project.train()
    assert project.launched_instances() == []


def test_an_instance_whose_heartbeats_stop_is_terminated(project: Project, record_outcome: RecordOutcome) -> None:
    project.monkeypatch.setattr(watcher, "MAX_MISSED_HEARTBEATS", MAX_MISSED_HEARTBEATS)
    change("heartbeat_seconds: 2", "heartbeat_seconds: 0.3")
    with project.machines() as machines:

        def freeze() -> None:
            wait_until(lambda: has_sent_heartbeat(project.aws), "it sends a heartbeat")
            for process in [pid for pids in machines.running().values() for pid in pids]:
                with contextlib.suppress(psutil.NoSuchProcess):  # a curl that has ended
                    psutil.Process(process).suspend()

        run_in_thread(freeze)
        with pytest.raises(UserError, match=r"no more heartbeats for \d s; at the last one .* GB of memory") as error:
            project.run_entry_point(ENDLESS)
    record_outcome("no more heartbeats", str(error.value))


def test_a_failed_training_is_reported_with_its_last_lines(
    project: Project, record_outcome: RecordOutcome, caplog: pytest.LogCaptureFixture
) -> None:
    with project.machines(), pytest.raises(UserError, match="training failed on i-.* with exit code 1") as error:
        project.run_entry_point("echo there is no such kernel && exit 3")
    last_lines = next(message for message in caplog.messages if message.startswith("The last lines"))
    assert "there is no such kernel" in last_lines
    assert len(last_lines.splitlines()) <= 51
    record_outcome("training exits non-zero", str(error.value))


def test_a_training_that_is_killed_on_the_instance_is_its_result(
    project: Project, record_outcome: RecordOutcome, caplog: pytest.LogCaptureFixture
) -> None:
    write_model("import os, signal\ndef build(*_, **__):\n    os.kill(os.getpid(), signal.SIGKILL)\n")
    message = r"training failed on i-\w+: the training was killed by signal 9, probably for lack of memory \(it used "
    with project.machines(), pytest.raises(UserError, match=message) as error:
        project.train()
    assert "the training was killed by signal 9" in caplog.text
    client = connection.open_client()
    (tracked_run,) = client.search_runs([runs.experiment_id(client, "toy")], max_results=1)
    assert tracked_run.info.status == "FAILED"
    assert tracked_run.data.metrics["peak_memory_mb"] > 50
    record_outcome("training killed for lack of memory", str(error.value))


def test_an_entry_point_that_is_killed_is_reported_with_advice(project: Project) -> None:
    message = r"training failed on i-\w+, killed by signal 9, probably for lack of memory: use a larger machine"
    with project.machines(), pytest.raises(UserError, match=message):
        project.run_entry_point("kill -9 $PPID")  # mlflow run


def test_an_instance_of_a_stock_image_installs_the_lock(project: Project, caplog: pytest.LogCaptureFixture) -> None:
    """The lock has one local package, so nothing is downloaded; it lacks MLflow, so the training fails."""
    wheel = write_wheel(project.folder / "wheels", "tiny", "1.0")
    Path("requirements.lock").write_text(pin(wheel))

    def python(root: Path) -> None:
        (root.parent / "stubs" / "python3").symlink_to(sys.executable)

    local = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheel.parent)}
    with (
        project.machines(baked=False, prepare=python, extra=local) as machines,
        pytest.raises(UserError, match=r"training failed on i-\w+ with exit code 127"),
    ):
        project.train()
    assert "instance: installing" in caplog.text
    installed = machines.folder(project.launched_instances()[0]) / "opt/venv/lib"
    assert list(installed.rglob("tiny.py"))


def test_a_full_disk_of_the_instance_is_reported(project: Project, record_outcome: RecordOutcome) -> None:
    def fill(root: Path) -> None:
        (root / "snapshot").mkdir()
        (root / "snapshot" / "train.parquet").symlink_to("/dev/full")

    with (
        project.machines(prepare=fill),
        pytest.raises(UserError, match="fetching failed on i-.* with exit code 23") as error,
    ):
        project.train()
    record_outcome("out of disk on the instance", str(error.value))


def test_after_a_refused_upload_of_the_result_the_next_run_uses_the_candidate(
    project: Project, record_outcome: RecordOutcome
) -> None:
    project.aws.faults.refuse(
        "s3", "PutObject", "AccessDenied", 403, condition=lambda parameters: parameters["Key"].endswith("/result")
    )
    pipeline = project.set_up()
    with (
        project.machines(),
        pytest.raises(UserError, match="shut itself down at the step 'training' without a result in S3") as error,
    ):
        pipeline.train()
    assert pipeline.make_plan().resumed_run_id is None  # FORCE trains anew
    project.monkeypatch.setenv("FORCE", "false")
    next_run = Pipeline(project.monkeypatch, COMPUTE="ec2", BUILD_TAG="ct-2", FORCE="false")
    assert next_run.make_plan().resumed_run_id is not None
    record_outcome("upload of the result refused", f"{error.value}; the next run uses the candidate in MLflow")


def test_an_instance_that_a_user_terminates_is_reported(project: Project, record_outcome: RecordOutcome) -> None:
    with project.machines():

        def end() -> None:
            wait_until(lambda: has_sent_heartbeat(project.aws), "it sends a heartbeat")
            project.aws.client("ec2").terminate_instances(InstanceIds=project.aws.billable_instances())

        run_in_thread(end)
        with pytest.raises(UserError, match="a user terminated i-") as error:
            project.run_entry_point(ENDLESS)
    record_outcome("instance terminated from outside", str(error.value))


def test_after_a_spot_interruption_the_training_resumes_on_demand(
    project: Project, record_outcome: RecordOutcome, caplog: pytest.LogCaptureFixture
) -> None:
    change("spot: false", "spot: true")
    change("heartbeat_seconds: 2", "heartbeat_seconds: 1")  # the instance looks for a notice as often
    shutil.copy("src/toy/model.py", "src/toy/estimator.py")
    write_model(RESUMING_MODEL)
    with project.machines() as machines:

        def interrupt() -> None:
            wait_until(lambda: has_saved_checkpoint(project.aws), "it saves a checkpoint")
            machines.interrupt(project.aws.billable_instances()[0])

        run_in_thread(interrupt)
        run_id = project.train()
    first, second = project.aws.faults.calls_of("ec2", "RunInstances")
    assert first.parameters["InstanceMarketOptions.MarketType"] == "spot"
    assert "InstanceMarketOptions.MarketType" not in second.parameters
    assert "resumes after half of the epochs" in caplog.text
    assert "roc_auc" in metrics(run_id)
    record_outcome("spot interruption", "trained on demand, from the checkpoint")


def test_a_missing_bucket_is_reported(project: Project, record_outcome: RecordOutcome) -> None:
    project.monkeypatch.setenv("CT_BUCKET", "no-such-bucket")
    with (
        project.machines(),
        pytest.raises(UserError, match="cannot access the bucket no-such-bucket") as error,
    ):
        project.train()
    project.aws.authorizer.denied.clear()
    assert project.launched_instances() == []
    record_outcome("S3 bucket missing", str(error.value))


def test_an_instance_that_cannot_reach_mlflow_is_reported(project: Project, record_outcome: RecordOutcome) -> None:
    project.monkeypatch.setenv("MLFLOW_TRACKING_URI", project.tracking_uri.replace("127.0.0.1", "localhost"))
    environment = {"http_proxy": "http://127.0.0.1:9", "no_proxy": "127.0.0.1"}  # only S3 is reachable

    def retry_shortly(root: Path) -> None:
        (root.parent / ".curlrc").write_text("retry-max-time = 1\n")

    with (
        project.machines(extra=environment, prepare=retry_shortly),
        pytest.raises(UserError, match="reaching MLflow failed on i-") as error,
    ):
        project.train()
    record_outcome("MLflow unreachable from the instance", str(error.value))


def test_an_instance_that_reaches_its_deadline_is_reported(project: Project, record_outcome: RecordOutcome) -> None:
    change("max_hours: 1", "max_hours: 0.12")
    environment = {"SECONDS": "240"}  # bash starts counting at the last minute
    with (
        project.machines(extra=environment),
        pytest.raises(UserError, match="reached its deadline of 5 minutes") as error,
    ):
        project.run_entry_point(ENDLESS)
    record_outcome("deadline reached", str(error.value))


def test_a_failed_termination_is_retried(project: Project, record_outcome: RecordOutcome) -> None:
    project.monkeypatch.setattr(termination, "RETRY_SECONDS", [0.01] * len(termination.RETRY_SECONDS))
    project.aws.faults.refuse("ec2", "TerminateInstances", "OperationNotPermitted", 400, times=3)
    with project.machines(minute=3600.0):
        project.run_entry_point("true")
    assert len(project.aws.faults.calls_of("ec2", "TerminateInstances")) > 3
    record_outcome("terminate fails three times", "ended by the fourth attempt")


def test_an_abort_during_the_launch_terminates_the_instance(project: Project, record_outcome: RecordOutcome) -> None:
    """The signal arrives after the launch and before its response, and EC2 does not know the instance yet."""
    running: list[subprocess.Popen[str]] = []
    project.aws.faults.after("ec2", "RunInstances", lambda _: running[0].terminate(), times=1)
    project.aws.faults.refuse("ec2", "TerminateInstances", "InvalidInstanceID.NotFound", 400, times=2)
    with project.machines():
        running.append(project.start())
        assert running[0].wait(TIMEOUT) == 128 + signal.SIGTERM
        assert project.aws.billable_instances() == []
    record_outcome(
        "Jenkins aborts the build while AWS launches", "ended by the launching process, at the third attempt"
    )


@pytest.mark.parametrize(
    ("number", "is_shared"), [(signal.SIGTERM, True), (signal.SIGINT, False)], ids=["SIGTERM, search", "SIGINT"]
)
def test_an_abort_of_the_build_terminates_all_instances(
    project: Project, record_outcome: RecordOutcome, number: signal.Signals, is_shared: bool
) -> None:
    if is_shared:
        share_grid("time.sleep(600)")
    write_entry_point(ENDLESS)
    with project.machines():
        running = project.start()
        wait_until(lambda: has_sent_heartbeat(project.aws), "it sends a heartbeat")
        assert len(project.aws.billable_instances()) == 1 + is_shared
        running.send_signal(number)
        assert running.wait(TIMEOUT) == 128 + number
        assert project.aws.billable_instances() == []
    record_outcome(f"Jenkins aborts the build ({number.name})", "ended by the launching process")


def test_two_concurrent_runs_have_separate_instances(project: Project, record_outcome: RecordOutcome) -> None:
    change("heartbeat_seconds: 2", "heartbeat_seconds: 6")  # two machines start at once
    write_entry_point("true")
    with project.machines():
        trainings = [project.start("ct-1", AS_OF="2020-03-01"), project.start("ct-2", AS_OF="2020-03-08")]
        for run in trainings:
            output, _ = run.communicate(timeout=TIMEOUT)
            assert "holds no model" in output  # what Train says when the instance is done: nothing was fitted
    assert len(project.launched_instances()) == 2
    record_outcome("two runs at once", "both trained, each ended its own instance")


def test_a_clock_skew_of_ten_minutes_is_tolerated(project: Project, record_outcome: RecordOutcome) -> None:
    project.aws.faults.skew(-10)
    with project.machines():
        project.run_entry_point("true")
    (launched,) = project.aws.faults.calls_of("ec2", "RunInstances")
    tags = {launched.parameters[f"TagSpecification.1.Tag.{n}.{part}"] for n in range(1, 7) for part in ("Key", "Value")}
    deadline = max(datetime.fromisoformat(tag) for tag in tags if tag.startswith("20"))
    assert deadline < datetime.now(UTC) + timedelta(minutes=50)  # of its 58 minutes, by AWS's clock
    record_outcome("clock skew of ten minutes", "trained as usual")


@pytest.mark.parametrize("minutes", [-10, 10])
def test_instances_are_reaped_by_the_clock_of_aws(
    project: Project, record_outcome: RecordOutcome, minutes: int
) -> None:
    project.aws.faults.skew(minutes)
    now = datetime.now(UTC) + timedelta(minutes=minutes)
    with project.machines(boots=False):
        running, expired = (project.launch_unwatched(now + timedelta(minutes=left)) for left in (5, -6))
        command = [project.python.python, "scripts/reap.py", "--json"]
        dry_run = subprocess.run([*command, "--dry-run"], capture_output=True, text=True, check=True)
        assert json.loads(dry_run.stdout)["instances"] == [expired]
        assert sorted(project.aws.billable_instances()) == sorted([running, expired])
        process = subprocess.run(command, capture_output=True, text=True, check=True)
        assert json.loads(process.stdout)["instances"] == [expired]
        assert project.aws.billable_instances() == [running]
        project.aws.client("ec2").terminate_instances(InstanceIds=[running])
    record_outcome(
        f"clock skew of {minutes} minutes while reaping",
        "only instances past their deadline by AWS's clock are terminated",
    )


def test_detached_volumes_and_incomplete_uploads_are_removed(project: Project, record_outcome: RecordOutcome) -> None:
    s3, ec2 = project.aws.client("s3"), project.aws.client("ec2")
    s3.create_multipart_upload(  # long ago by moto's time
        Bucket=project.aws.bucket, Key="objects/half"
    )
    tags = [{"ResourceType": "volume", "Tags": [{"Key": "ct:project", "Value": "continuous-training"}]}]
    zone = f"{project.aws.region}a"
    own = ec2.create_volume(AvailabilityZone=zone, Size=8, TagSpecifications=tags)["VolumeId"]
    foreign = ec2.create_volume(AvailabilityZone=zone, Size=8)["VolumeId"]
    reaped = reap.reap(api.Aws(), project.aws.bucket)
    assert reaped.uploads == ["objects/half"]
    assert reaped.volumes == []  # a new one may not be attached yet
    project.monkeypatch.setattr(termination, "MIN_VOLUME_AGE", timedelta(seconds=-60))
    assert reap.reap(api.Aws(), project.aws.bucket).volumes == [own]
    assert project.aws.billable_resources() == [foreign]
    ec2.delete_volume(VolumeId=foreign)
    record_outcome("a volume and an unfinished upload are left", "removed by `ct reap`")


def test_a_lost_instance_of_a_search_does_not_fail_the_training(
    project: Project, record_outcome: RecordOutcome, caplog: pytest.LogCaptureFixture
) -> None:
    share_grid("sys.exit('no such share') if share == '1/2' else time.sleep(600)")
    with project.machines():

        def end() -> None:
            wait_until(
                lambda: len(project.aws.billable_instances()) == 1 and "[1] no such share" in caplog.text, "it fails"
            )
            project.aws.client("ec2").terminate_instances(InstanceIds=project.aws.billable_instances())

        run_in_thread(end)
        run_id = project.run_entry_point("true")
    assert len(project.launched_instances()) == 3
    assert re.search(
        r"\[1\] training failed on i-\w+ with exit code 1; the trials that this instance has not done are left",
        caplog.text,
    )
    assert re.search(
        r"\[2\] a user terminated i-\w+ .*; the trials that this instance has not done are left", caplog.text
    )
    assert metrics(run_id)["ec2_cost_usd"] == pytest.approx(metrics(run_id)["ec2_seconds"] / 3600 * 0.1, abs=3e-6)
    tags = connection.open_client().get_run(run_id).data.tags
    assert all(instance in tags["ct.instances"] for instance in project.launched_instances())
    record_outcome("one of two searching instances fails, the other one is terminated", "trained on a third one")


def test_the_password_of_mlflow_comes_from_the_parameter_store(
    project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    name = "/continuous-training/mlflow-secret"
    project.aws.client("ssm").put_parameter(Name=name, Value="s3cr3t", Type="SecureString")
    project.monkeypatch.setenv("CT_MLFLOW_SECRET_PARAMETER", name)
    project.monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "training")
    with project.machines():
        project.run_entry_point('printf %s "$MLFLOW_TRACKING_USERNAME$MLFLOW_TRACKING_PASSWORD" | sha256sum')
    assert hashlib.sha256(b"trainings3cr3t").hexdigest() in caplog.text
    (launched,) = project.aws.faults.calls_of("ec2", "RunInstances")
    assert "s3cr3t" not in caplog.text + str(launched.parameters)


def test_two_instances_share_the_trials_of_a_search(project: Project, caplog: pytest.LogCaptureFixture) -> None:
    space = "{C: {type: float, low: 0.001, high: 10, log: true}}"
    change("parameters: {C: 1.0}", f"parameters: {{C: 1.0}}\n  search: {{space: {space}, trials: 3}}")
    change("max_hours: 1\n", "max_hours: 1\n  at_once: 2\n")
    with project.machines():
        run_id = project.train()
    assert len(project.launched_instances()) == 3
    assert "Continuing the search: 3 of 3 trials are known" in caplog.text
    client = connection.open_client()
    found = find_trials(client)
    assert sorted(trial.info.run_name for trial in found) == ["ct-1-1", "ct-1-2", "ct-1-3"]
    assert {trial.data.tags[trials.PARENT] for trial in found} == {run_id}
    tracked_run = client.get_run(run_id)
    assert tracked_run.info.status == "FINISHED"
    scores = {trial.data.metrics["validation_roc_auc"] for trial in found}
    assert tracked_run.data.metrics["validation_roc_auc"] == max(scores)
