"""The parts of training on EC2: budget, prices, user data, bundle, launch options, results and images."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import tarfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.stub import Stubber
from hypothesis import given, settings
from hypothesis import strategies as st
from moto import mock_aws
from moto.core import DEFAULT_ACCOUNT_ID
from moto.core.base_backend import BackendDict
from moto.ec2.models import ec2_backends

from conftest import TIMEOUT
from continuous_training.compute.ec2 import (
    bundle,
    image_lifecycle,
    images,
    instance_types,
    launch,
    prices,
    storage,
    termination,
    training,
    user_data,
)
from continuous_training.compute.ec2.account import REQUIRED_VARIABLES, Account, read_tracking_uri
from continuous_training.compute.ec2.aws import Aws
from continuous_training.compute.ec2.budget import BOOT_MINUTES, MIN_MINUTES, SEARCH_PART, Budget
from continuous_training.compute.ec2.fleet import Fleet
from continuous_training.compute.ec2.images import Image, Platform
from continuous_training.compute.ec2.instance_types import Hardware, InstanceType
from continuous_training.compute.ec2.launch import LaunchContext, LaunchOption
from continuous_training.compute.ec2.tags import PROJECT, read_tags
from continuous_training.compute.ec2.usage import Heartbeat, UsageLog
from continuous_training.compute.ec2.user_data import Task
from continuous_training.compute.supervision import read_outcome
from continuous_training.errors import UserError
from continuous_training.registry.trials import Share
from continuous_training.settings import Compute
from toy import make_run

REGION = "eu-central-1"
ACCOUNT = Account(
    bucket="a-bucket",
    subnets=("subnet-a", "subnet-b"),
    security_group="sg-1",
    instance_profile="a-profile",
    ami=None,
    mlflow_username=None,
    mlflow_secret_parameter=None,
)
TASK = Task(
    bucket_url="https://s3.eu-central-1.amazonaws.com/a-bucket",
    region=REGION,
    ssm_url="https://ssm.eu-central-1.amazonaws.com",
    tracking_uri="https://mlflow.example.org",
    mlflow_username=None,
    secret_parameter="/continuous-training/mlflow-token",
    code="1" * 64,
    train_rows="2" * 64,
    fresh_rows="3" * 64,
    package="src/toy",
    command=["mlflow", "run", "."],
    heartbeat_seconds=15,
)


X86, X86_GPU, ARM = Platform("x86_64"), Platform("x86_64", has_gpu=True), Platform("arm64")


def make_type(name: str = "c7i.xlarge", gpus: int = 0) -> InstanceType:
    return InstanceType(name, Hardware("x86_64", gpus), Image("ami-1", "x86_64", "/dev/sda1", 8, "stock"), 0.2)


def make_context(account: Account = ACCOUNT) -> LaunchContext:
    types = {name: make_type(name) for name in ("c7i.xlarge", "m7i.xlarge")}
    return LaunchContext(account, make_compute(), make_run(), types)


def make_task(**fields: Any) -> Task:
    return Task(**vars(TASK) | fields)


def make_compute(**fields: Any) -> Compute:
    return Compute(**{"instance_types": ("c7i.xlarge", "m7i.xlarge"), "max_hours": 1, "max_cost_usd": 1} | fields)


@pytest.fixture(scope="module")
def account() -> Iterator[Aws]:
    """Return an account of moto in this process; creating its clients takes a second."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
        monkeypatch.setenv("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")  # loading hundreds takes seconds
        with mock_aws():
            yield Aws()


@pytest.fixture
def aws(account: Aws) -> Aws:
    """Return an empty account."""
    BackendDict.reset()
    return account


def tag_list(tags: dict[str, str]) -> list[dict[str, str]]:
    return [{"Key": name, "Value": value} for name, value in tags.items()]


def launch_instance(aws: Aws, **tags: str) -> str:
    """Launch an instance with tags; return its id."""
    image = aws.ec2.register_image(Name=f"for {tags}", RootDeviceName="/dev/sda1")["ImageId"]
    tagging = [{"ResourceType": "instance", "Tags": tag_list({f"ct:{name}": tag for name, tag in tags.items()})}]
    response = aws.ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1, TagSpecifications=tagging)
    return str(response["Instances"][0]["InstanceId"])


class TestBudget:
    @given(
        usd=st.floats(0.01, 100),
        hours=st.floats(0.1, 168),
        searches=st.integers(0, 8),
        attempts=st.lists(st.tuples(st.integers(0, 7), st.floats(0.001, 50), st.floats(0, 1)), max_size=60),
    )
    @settings(deadline=None)
    def test_interruptions_never_exceed_the_cost_of_a_run_or_the_time_of_an_instance(
        self, usd: float, hours: float, searches: int, attempts: list[tuple[int, float, float]]
    ) -> None:
        names = [str(number) for number in range(searches)]
        budget = Budget(make_compute(max_cost_usd=usd, max_hours=hours), names)
        max_usd = dict.fromkeys([*names, "training"], 0.0)  # if all machines run until their deadlines
        searching = [(names[number % searches], *use) for number, *use in attempts[:40]] if searches else []
        for task, price, used in (*searching, *(("training", *use) for _, *use in attempts[40:])):
            try:
                minutes = budget.deadline_minutes(task, price)
            except UserError:
                continue
            assert minutes >= MIN_MINUTES
            assert budget.seconds[task] + minutes * 60 <= hours * 3600 * (1 + 1e-9)
            max_usd[task] = budget.usd[task] + minutes / 60 * price
            if task == "training":  # the others have ended
                max_usd |= {name: budget.usd[name] for name in names}
            else:
                assert sum(max_usd.values()) <= usd * SEARCH_PART * (1 + 1e-9)
            assert sum(max_usd.values()) <= usd * (1 + 1e-9)
            budget.charge(task, used * minutes * 60, price)

    def test_searches_share_half_of_the_budget_and_the_training_has_what_is_left(self) -> None:
        budget = Budget(make_compute(max_hours=2, max_cost_usd=1), ["a", "b"])
        assert budget.deadline_minutes("a", 0.25) == 60 - BOOT_MINUTES
        budget.charge("a", 30 * 60, 0.25)
        assert budget.deadline_minutes("a", 0.125) == 60 - BOOT_MINUTES
        assert budget.deadline_minutes("a", 0.01) == 90 - BOOT_MINUTES
        assert budget.deadline_minutes("b", 0.25) == 60 - BOOT_MINUTES
        assert budget.deadline_minutes("training", 0.5) == 105 - BOOT_MINUTES

    def test_a_budget_that_is_too_small_is_refused(self) -> None:
        with pytest.raises(UserError, match=r"leave 2 minutes at 12\.5 USD an hour: at least 5 are needed"):
            Budget(make_compute()).deadline_minutes("training", 12.5)


class TestShares:
    @given(numbers=st.sets(st.integers(0, 40)).map(sorted), instances=st.integers(1, 9))
    def test_each_open_trial_is_in_one_share_and_each_share_has_one(self, numbers: list[int], instances: int) -> None:
        shares = training.share_trials(numbers, instances)
        selected = [share.select(numbers) for share in shares]
        assert all(selected)
        assert len(shares) != 1
        assert len(shares) <= min(instances, len(numbers))
        if shares:
            assert sorted(number for share in selected for number in share) == numbers

    def test_one_instance_does_all_trials_by_default(self) -> None:
        assert training.share_trials(range(50), make_compute().at_once) == []

    def test_a_share_is_searched_for_the_training_without_closing_its_mlflow_run(self) -> None:
        command = training.build_search_command(make_run(), "abc", Share(1, 3))
        assert command[:4] == ["env", "MLFLOW_RUN_ID=abc", "python", "scripts/fit.py"]
        assert command[-2:] == ["--share", "2/3"]


def test_a_search_for_which_the_budget_is_too_small_is_left_to_the_training(
    aws: Aws, caplog: pytest.LogCaptureFixture
) -> None:
    context = dataclasses.replace(make_context(), settings=make_compute(max_cost_usd=0.03))
    fleet = Fleet(aws, context, "abc", [Share(0, 2), Share(1, 2)], lambda _: TASK)
    fleet.search()
    for number in (1, 2):
        assert re.search(
            rf"\[{number}\] no instance is available: .*max_cost_usd leave 0 minutes at 0.2 USD", caplog.text
        )
    with pytest.raises(UserError, match="cannot launch c7i.xlarge spot in subnet-a"):  # there is no such account
        fleet.train()


class TestPrice:
    @pytest.fixture(autouse=True)
    def _aws(self, aws: Aws) -> None:
        self.aws = aws

    @staticmethod
    def product(*usd: str, unit: str = "Hrs") -> str:
        """Return a product of the price list, reduced to its price."""
        dimensions = {f"S.O.{n}": {"unit": unit, "pricePerUnit": {"USD": price}} for n, price in enumerate(usd)}
        offer = {"offerTermCode": "O", "sku": "S", "priceDimensions": dimensions, "termAttributes": {}}
        return json.dumps({"product": {"sku": "S"}, "serviceCode": "AmazonEC2", "terms": {"OnDemand": {"S.O": offer}}})

    def find_price(self, *products: str) -> float:
        values = {
            "instanceType": "c7i.xlarge",
            "regionCode": REGION,
            "operatingSystem": "Linux",
            "tenancy": "Shared",
            "preInstalledSw": "NA",
            "capacitystatus": "Used",
        }
        filters = [{"Type": "TERM_MATCH", "Field": name, "Value": value} for name, value in values.items()]
        parameters = {"ServiceCode": "AmazonEC2", "Filters": filters, "MaxResults": 10}
        with Stubber(self.aws.pricing) as stubber:
            stubber.add_response("get_products", {"PriceList": list(products)}, parameters)
            return prices.find_hourly_price(self.aws, "c7i.xlarge", make_compute())

    def test_the_price_is_the_on_demand_price(self) -> None:
        assert self.find_price(self.product("0.2037000000")) == 0.2037

    def test_the_highest_of_several_prices_is_used(self) -> None:
        assert self.find_price(self.product("0.2"), self.product("0.3", "0.1")) == 0.3

    @pytest.mark.parametrize(
        "products",
        [(), (product("0.0000000000"),), (product("9", unit="Quantity"),), ('{"terms": {}}',), ('{"terms": null}',)],
        ids=["none", "free", "not by the hour", "no terms on demand", "no terms"],
    )
    def test_the_error_without_a_price_names_the_setting(self, products: tuple[str, ...]) -> None:
        with pytest.raises(UserError, match=f"no price for c7i.xlarge in {REGION}: set it in training.yaml"):
            self.find_price(*products)

    def test_a_price_in_training_yaml_needs_no_call(self) -> None:
        with Stubber(self.aws.pricing):
            assert prices.find_hourly_price(self.aws, "c7i.xlarge", make_compute(prices={"c7i.xlarge": 0.19})) == 0.19


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
HOSTILE = """it's "quoted" $HOME `id` \\ {{ minutes }} {% raw %} #\n; shutdown -c\r\n&& é"""


class TestUserData:
    @staticmethod
    def render(task: Task, gpus: int = 0) -> str:
        return user_data.render(task, make_type(gpus=gpus), "runs/1/1", "runs/1/checkpoint", 42)

    def arguments_of_mlflow(self, task: Task, *commands: str) -> list[str]:
        """Run commands in the scope of the user data, with stubs for all programs; return the arguments of `mlflow`."""
        script = self.render(task)
        assert script.count("\nmkdir -p ") == 1
        definitions = script.partition("\nmkdir -p ")[0]
        power_stubs = "shutdown() { :; }; poweroff() { :; }\n"
        programs = ("step", "curl", "fetch", "tar", "cd", "install")
        stubs = "; ".join(
            [*(f"{name}() {{ :; }}" for name in programs), "get() { return 1; }", "secret() { echo secret; }"]
        )
        script = f"{power_stubs}{definitions}\n{stubs}\nmlflow() {{ printf '%s\\0' \"$@\"; }}\n{'; '.join(commands)}\n"
        process = subprocess.run(["bash"], input=script.encode(), capture_output=True, check=True, timeout=TIMEOUT)
        assert process.stderr == b""
        return process.stdout.decode().split("\0")[:-1]

    @given(parameters=st.lists(TEXT, max_size=4))
    @settings(max_examples=40, deadline=None)
    def test_arguments_of_the_command_arrive_unchanged(self, parameters: list[str]) -> None:
        arguments = ["run", ".", *parameters, HOSTILE]
        assert self.arguments_of_mlflow(make_task(command=["mlflow", *arguments]), "work") == arguments

    def test_urls_arrive_unchanged(self) -> None:
        task = make_task(bucket_url=HOSTILE, tracking_uri=HOSTILE)
        assert self.arguments_of_mlflow(task, 'mlflow "$s3" "$MLFLOW_TRACKING_URI"') == [HOSTILE, HOSTILE]

    @pytest.mark.parametrize("stays", [False, True])
    @pytest.mark.parametrize("user", [None, HOSTILE])
    @pytest.mark.parametrize("secret", [None, "/continuous-training/a'b\"c"])
    @pytest.mark.parametrize("gpus", [0, 8])
    def test_the_user_data_is_valid_bash(self, stays: bool, secret: str | None, user: str | None, gpus: int) -> None:
        task = make_task(stay_running=stays, secret_parameter=secret, mlflow_username=user, command=["mlflow", HOSTILE])
        script = self.render(task, gpus)
        process = subprocess.run(
            ["bash", "-n"], input=script, text=True, capture_output=True, check=False, timeout=TIMEOUT
        )
        assert (process.returncode, process.stderr) == (0, "")

    def test_the_first_command_schedules_the_shutdown(self) -> None:
        script = self.render(TASK)
        assert script.startswith("#!/bin/bash\n")
        first = next(line for line in script.splitlines() if line and not line.startswith("#"))
        assert first.startswith("shutdown -P +42 ||")

    @pytest.mark.parametrize(
        ("user", "variable"), [(None, "MLFLOW_TRACKING_TOKEN"), ("training", "MLFLOW_TRACKING_PASSWORD")]
    )
    def test_the_secret_is_a_token_or_the_password_of_a_user(self, user: str | None, variable: str) -> None:
        script = self.render(make_task(secret_parameter="/continuous-training/mlflow-token", mlflow_username=user))
        assert re.findall(r"export (MLFLOW_TRACKING_(?:TOKEN|PASSWORD))$", script, re.MULTILINE) == [variable]

    def test_the_user_data_is_within_the_size_limit_of_ec2(self) -> None:
        assert len(self.render(TASK).encode()) < user_data.MAX_BYTES / 2

    def test_user_data_above_the_size_limit_is_refused(self) -> None:
        with pytest.raises(UserError, match="bytes, EC2 accepts 16,384: shorten addresses"):
            self.render(make_task(command=["mlflow", "ü" * 8000]))

    def test_the_user_data_has_no_secret_of_the_environment(self, monkeypatch: pytest.MonkeyPatch, aws: Aws) -> None:
        for name in ("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_PASSWORD", "AWS_SECRET_ACCESS_KEY", "SERVING_TOKEN"):
            monkeypatch.setenv(name, "secret-value")
        account = ACCOUNT.model_copy(update={"mlflow_secret_parameter": "/continuous-training/mlflow-token"})
        context = make_context(account)
        inputs = dict.fromkeys(("code", "train_rows", "fresh_rows"), "1" * 64)
        script = self.render(training.build_task(aws, context, "https://mlflow.example.org", inputs, ["mlflow", "run"]))
        assert "/continuous-training/mlflow-token" in script
        assert "secret-value" not in script


class TestHardware:
    """What moto says of instance types is what DescribeInstanceTypes answered when its list was made."""

    def test_architecture_and_gpus_are_those_that_ec2_describes(self, aws: Aws) -> None:
        hardware = instance_types.describe_hardware(aws, ["c7i.large", "g5g.xlarge", "g4dn.12xlarge"])
        assert hardware == {
            "c7i.large": Hardware("x86_64", 0),
            "g5g.xlarge": Hardware("arm64", 1),
            "g4dn.12xlarge": Hardware("x86_64", 4),
        }
        assert str(hardware["g5g.xlarge"].platform) == "arm64 with a GPU"

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("g9.colossal", f"compute.instance_types: {REGION} has no instance type g9.colossal"),
            ("mac1.metal", "compute.instance_types: mac1.metal is for x86_64_mac, not x86_64 or arm64"),
        ],
    )
    def test_a_type_that_cannot_be_used_is_refused_with_the_reason(self, aws: Aws, name: str, message: str) -> None:
        with pytest.raises(UserError, match=message):
            instance_types.describe_hardware(aws, ["c7i.large", name])

    def test_gpus_of_another_manufacturer_are_refused(self, aws: Aws) -> None:
        """Moto's list has no such type."""
        gpus = {"Gpus": [{"Name": "Radeon Pro V520", "Manufacturer": "AMD", "Count": 1}]}
        processor = {"SupportedArchitectures": ["x86_64"]}
        description = {"InstanceType": "g4ad.xlarge", "ProcessorInfo": processor, "GpuInfo": gpus}
        message = "compute.instance_types: g4ad.xlarge has GPUs of AMD, and the images drivers of NVIDIA"
        with Stubber(aws.ec2) as stubber:
            stubber.add_response("describe_instance_types", {"InstanceTypes": [description]})
            with pytest.raises(UserError, match=message):
                instance_types.describe_hardware(aws, ["g4ad.xlarge"])

    def test_an_image_for_another_architecture_is_refused(self, aws: Aws) -> None:
        image = make_type().image
        with pytest.raises(UserError, match=r"the image ami-1, stock, is for x86_64, and c7g.large for arm64: change"):
            instance_types.prepare_types(aws, make_compute(instance_types=("c7i.large", "c7g.large")), lambda _: image)


# What nvidia-smi prints with --format=csv,noheader,nounits, by its manual page; the values of an L4, and the messages,
# are from outputs that users of such machines have published
L4 = "{index}, NVIDIA L4, 23034, 595.71.05"
NO_DRIVER = (
    "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that the latest NVIDIA "
    "driver is installed and running."
)


class TestGpus:
    """The check of the GPUs in the user data, with an nvidia-smi that prints recorded output."""

    def check(self, folder: Path, nvidia_smi: str | None, gpus: int = 1) -> tuple[int, str]:
        """Run the check; return its exit code, and its error or output."""
        if nvidia_smi is not None:
            program = folder / "nvidia-smi"
            program.write_text(f"#!/bin/sh\n{nvidia_smi}\n")
            program.chmod(0o755)
        script = user_data.render(TASK, make_type("g6.xlarge", gpus), "runs/1/1", "runs/1/checkpoint", 42)
        functions = script.partition("\nmkdir -p ")[0]
        process = subprocess.run(
            ["bash"],
            input=f"shutdown() {{ :; }}\n{functions}\ncheck_gpus\n",
            env={"CT_ROOT": str(folder), "PATH": f"{folder}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT,
        )
        outcome = read_outcome(folder / "outcome")
        return process.returncode, outcome.error or process.stdout.splitlines()[-1]

    def test_the_gpus_of_the_type_are_listed(self, tmp_path: Path) -> None:
        assert self.check(tmp_path, f"echo '{L4.format(index=0)}'") == (0, L4.format(index=0))

    @pytest.mark.parametrize(
        ("nvidia_smi", "message"),
        [
            (None, "g6.xlarge has no usable GPU: its image has no nvidia-smi"),
            (f'echo "{NO_DRIVER}"; exit 9', f"g6.xlarge has no usable GPU: nvidia-smi: {NO_DRIVER}"),
            ("echo 'No devices were found'; exit 6", "g6.xlarge has no usable GPU: nvidia-smi: No devices were found"),
            ("echo 'No devices were found'", "g6.xlarge has 1 GPU, but nvidia-smi lists: No devices were found"),
        ],
        ids=["no drivers in the image", "driver not loaded", "no device", "no device without an exit code"],
    )
    def test_an_unusable_gpu_is_reported_with_the_reason(
        self, tmp_path: Path, nvidia_smi: str | None, message: str
    ) -> None:
        assert self.check(tmp_path, nvidia_smi) == (1, message)

    def test_a_gpu_that_is_missing_among_several_is_reported(self, tmp_path: Path) -> None:
        listed = [L4.format(index=index) for index in (0, 1, 3)]
        code, message = self.check(tmp_path, f"printf '%s\\n' {' '.join(map(repr, listed))}", gpus=4)
        assert code == 1
        assert message == "g6.xlarge has 4 GPUs, but nvidia-smi lists: " + "\n".join(listed)


class TestHeartbeat:
    def test_the_use_of_memory_and_gpus_is_read(self) -> None:
        heartbeat = Heartbeat.parse("training 12\nmemory 3174 7812\n97, 18231, 23034\n89, 4625, 23034\n")
        assert (heartbeat.step, heartbeat.number, heartbeat.gpus) == ("training", 12, 2)
        assert heartbeat.describe_use() == ", memory 3.1 of 7.6 GB, 2 GPUs 93 %, 22.3 of 45.0 GB"

    @pytest.mark.parametrize(
        "text", ["checking the GPU 3", "checking the GPU 3\nmemory\n[N/A], [N/A], 23034\nNo devices were found", ""]
    )
    def test_what_is_not_reported_is_left_out(self, text: str) -> None:
        heartbeat = Heartbeat.parse(text)
        assert (heartbeat.step, heartbeat.number) == (("checking the GPU", 3) if text else ("", 0))
        assert heartbeat.describe_use() == ""
        log = UsageLog()
        log.add(heartbeat)
        assert log.metrics() == []

    def test_the_use_over_time_fits_into_one_call_of_mlflow(self) -> None:
        log = UsageLog()
        for number in range(2000):
            log.add(Heartbeat.parse(f"training {number}\n{number % 100}, {20_000 if number == 77 else number}, 23034"))
        metrics = log.metrics()
        assert 500 < len(metrics) <= 1000
        assert {metric.key: metric.value for metric in metrics if metric.key == "peak_gpu_memory_mb"} == {
            "peak_gpu_memory_mb": 20_000
        }

    @pytest.mark.parametrize(("percents", "idle"), [([0, 0, 0], True), ([0, 5, 0], False), ([0, 0], False)])
    def test_a_gpu_is_idle_if_it_is_in_use_at_none_of_several_heartbeats(self, percents: list[int], idle: bool) -> None:
        log = UsageLog()
        for number, percent in enumerate(percents):
            log.add(Heartbeat.parse(f"training {number}\n{percent}, 400, 23034"))
        assert log.gpu_is_idle == idle


class TestAccount:
    @pytest.fixture(autouse=True)
    def _variables(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in (*REQUIRED_VARIABLES, "CT_AMI", "CT_MLFLOW_SECRET_PARAMETER"):
            monkeypatch.delenv(name, raising=False)
        for name in REQUIRED_VARIABLES:
            monkeypatch.setenv(name, f" {name.lower()} ")
        monkeypatch.setenv("CT_SUBNETS", "subnet-a, subnet-b,")

    def test_the_account_is_read_from_the_environment(self) -> None:
        account = Account.from_environment()
        assert (account.bucket, account.subnets, account.ami) == ("ct_bucket", ("subnet-a", "subnet-b"), None)

    def test_all_missing_variables_are_named_with_their_meaning(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("CT_BUCKET")
        monkeypatch.setenv("CT_INSTANCE_PROFILE", "  ")
        with pytest.raises(UserError) as error:
            Account.from_environment()
        named = [name for name in REQUIRED_VARIABLES if f"{name} ({REQUIRED_VARIABLES[name]})" in str(error.value)]
        assert named == ["CT_BUCKET", "CT_INSTANCE_PROFILE"]

    @pytest.mark.parametrize("uri", ["", "sqlite:///mlflow.db", "file:///srv/mlflow", "databricks"])
    def test_a_tracking_uri_that_instances_cannot_reach_is_refused(
        self, monkeypatch: pytest.MonkeyPatch, uri: str
    ) -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        with pytest.raises(UserError, match="needs a tracking server that an instance can reach"):
            read_tracking_uri()

    def test_a_password_in_the_tracking_uri_is_refused_and_not_printed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:sesame@mlflow.example.org")
        with pytest.raises(UserError, match="contains a password") as error:
            read_tracking_uri()
        assert "sesame" not in str(error.value)


class TestBundle:
    @pytest.fixture
    def commit(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
        """Enter a repository with one commit; return its hash."""
        monkeypatch.chdir(tmp_path)
        Path(".gitignore").write_text("build/\n")
        Path("src").mkdir()
        Path("src/model.py").write_text("first = True\n")
        author = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        for command in (["init", "--quiet"], ["add", "--all"], [*author, "commit", "--quiet", "--message", "first"]):
            subprocess.run(["git", *command], check=True)
        return subprocess.run(["git", "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()

    def test_the_bundle_has_the_files_of_the_commit_and_no_others(self, commit: str) -> None:
        Path("build").mkdir()
        Path("build/run.json").write_text("{}")
        with bundle.archive_commit(commit) as path, tarfile.open(path) as archive:
            files = {member.name: archive.extractfile(member) for member in archive if member.isfile()}
            assert {name: file.read() for name, file in files.items() if file} == {
                ".gitignore": b"build/\n",
                "src/model.py": b"first = True\n",
            }
        assert not path.exists()

    def test_bundles_of_the_same_commit_are_identical(self, commit: str) -> None:
        with bundle.archive_commit(commit) as one, bundle.archive_commit(commit) as other:
            assert one.read_bytes() == other.read_bytes()

    @pytest.mark.parametrize("path", ["src/model.py", "src/new.py"], ids=["changed", "untracked"])
    def test_uncommitted_changes_are_refused_with_the_name_of_the_file(self, commit: str, path: str) -> None:
        Path(path).write_text("first = False\n")
        with pytest.raises(UserError, match=f"{path} is not committed: commit it first"), bundle.archive_commit(commit):
            pass

    @pytest.mark.parametrize("other", ["0" * 40, ""])
    @pytest.mark.usefixtures("commit")
    def test_a_commit_other_than_head_is_refused(self, other: str) -> None:
        with pytest.raises(UserError, match="COMPUTE=ec2 trains the run's commit"), bundle.archive_commit(other):
            pass

    def test_a_folder_outside_a_repository_is_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        with (
            pytest.raises(UserError, match="git rev-parse failed, and COMPUTE=ec2 trains a commit"),
            bundle.archive_commit("a"),
        ):
            pass


class TestLaunchOptions:
    context = make_context()

    def test_options_are_ordered_by_market_type_and_zone(self) -> None:
        options = [
            (kind, market, subnet)
            for market in ("spot", "on demand")
            for kind in ("c7i.xlarge", "m7i.xlarge")
            for subnet in ("subnet-a", "subnet-b")
        ]
        expected = [LaunchOption(*option) for option in options]  # type: ignore[arg-type]
        assert list(launch.list_launch_options(self.context, spot=True)) == expected

    def test_without_spot_all_options_are_on_demand(self) -> None:
        assert {option.market for option in launch.list_launch_options(self.context, spot=False)} == {"on demand"}


class TestResult:
    @pytest.fixture
    def folder(self, aws: Aws) -> storage.AttemptFolder:
        aws.s3.create_bucket(Bucket="a-bucket", CreateBucketConfiguration={"LocationConstraint": REGION})
        return storage.AttemptFolder(aws, "a-bucket", "runs/1/1")

    @staticmethod
    def write_result(folder: storage.AttemptFolder, body: bytes) -> None:
        folder.aws.s3.put_object(Bucket=folder.bucket, Key=f"{folder.key}/result", Body=body)

    def test_the_result_of_the_instance_is_read(self, folder: storage.AttemptFolder) -> None:
        self.write_result(folder, b'{"outcome": "failed", "step": "fetching", "code": 23}')
        assert folder.read_result() == storage.Result(outcome="failed", step="fetching", code=23)

    def test_before_the_instance_writes_it_there_is_no_result(self, folder: storage.AttemptFolder) -> None:
        assert folder.read_result() is None

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"done",
            b"\xff\xfe\x00",
            b'["done", "training", 0]',
            b'{"outcome": "done"}',
            b'{"outcome": "promoted", "step": "training", "code": 0}',
            b'{"outcome": "done", "step": "training", "code": "0; rm"}',
            b'{"outcome": "done", "step": "training", "code": 0, "alias": "champion"}',
            b'{"outcome": "done", "step": "training", "code": 0' + b"[" * 10_000,
        ],
        ids=lambda body: body[:60].decode(errors="replace"),
    )
    def test_an_invalid_result_is_an_error(self, folder: storage.AttemptFolder, body: bytes) -> None:
        self.write_result(folder, body)
        with pytest.raises(UserError, match="s3://a-bucket/runs/1/1/result is not a valid result: "):
            folder.read_result()


class TestDeadline:
    @pytest.mark.parametrize(
        ("tag", "deadline"),
        [
            ("2020-01-01T12:00:00+00:00", datetime(2020, 1, 1, 12, tzinfo=UTC)),
            ("2020-01-01T12:00:00+02:00", datetime(2020, 1, 1, 10, tzinfo=UTC)),
            ("2020-01-01T12:00:00", datetime(2020, 1, 1, 12, tzinfo=UTC)),
            ("tomorrow, or so", None),
            ("", None),
            (None, None),
        ],
    )
    def test_deadlines_are_read_in_utc_and_invalid_ones_are_none(
        self, aws: Aws, tag: str | None, deadline: datetime | None
    ) -> None:
        launch_instance(aws, project=PROJECT, **({} if tag is None else {"deadline": tag}))
        launch_instance(aws, project="another")
        (instance,) = termination.list_instances(aws)
        assert instance.deadline == deadline


class TestImages:
    @pytest.fixture(autouse=True)
    def _account(self, aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
        self.aws = aws
        self.models = ec2_backends[DEFAULT_ACCOUNT_ID][REGION].amis
        self.instance = launch_instance(aws, project="another")
        parameters = {platform: f"/stock/{number}" for number, platform in enumerate(images.STOCK_PARAMETERS)}
        monkeypatch.setattr(images, "STOCK_PARAMETERS", parameters)  # only AWS can write below /aws
        self.stock = {}
        for platform, name in parameters.items():
            image_id = aws.ec2.register_image(Name=name, RootDeviceName="/dev/sda1")["ImageId"]
            self.models[image_id].architecture = platform.architecture  # which moto's RegisterImage does not set
            self.stock[platform] = image_id
            aws.ssm.put_parameter(Name=name, Value=image_id, Type="String")

    def bake(self, day: int, state: str = "available", architecture: str = "x86_64", **tags: str) -> str:
        """Create an image of a day in 2020; `lock` is the hash of its packages, `gpu` has a value if it has drivers."""
        image_tags = {"ct:project": PROJECT, "Name": f"of day {day}"} | {
            f"ct:{name}": tag for name, tag in tags.items()
        }
        tagging = [{"ResourceType": "image", "Tags": tag_list(image_tags)}]
        response = self.aws.ec2.create_image(InstanceId=self.instance, Name=f"of day {day}", TagSpecifications=tagging)
        model = self.models[response["ImageId"]]
        model.creation_date, model.state = datetime(2020, 1, 1) + timedelta(days=day), state
        model.architecture = architecture
        self.aws.ec2.create_tags(Resources=[model.ebs_snapshot.id], Tags=tag_list(image_tags))
        return str(response["ImageId"])

    def choose(self, lock: str = "new", ami: str | None = None, platform: Platform = X86) -> str:
        return images.choose_image(self.aws, ACCOUNT.model_copy(update={"ami": ami}), lock, platform).id

    def list_images(self) -> tuple[set[str], set[str]]:
        """Return the ids of all images with a project, and the names of this project's snapshots."""
        response = self.aws.ec2.describe_images(
            Owners=["self"], Filters=[{"Name": "tag-key", "Values": ["ct:project"]}]
        )
        filters = [{"Name": "tag:ct:project", "Values": [PROJECT]}]
        snapshots = self.aws.ec2.describe_snapshots(OwnerIds=["self"], Filters=filters)["Snapshots"]
        return {image["ImageId"] for image in response["Images"]}, {read_tags(item)["Name"] for item in snapshots}

    def test_the_image_in_ct_ami_is_preferred(self) -> None:
        image_id = self.bake(1, project="another")
        self.bake(2, lock="new")
        assert self.choose(ami=image_id) == image_id

    def test_a_missing_image_is_named(self) -> None:
        with pytest.raises(UserError, match=r"the image ami-0123456789abcdef0"):
            self.choose(ami="ami-0123456789abcdef0")

    def test_images_of_the_same_lock_are_preferred_to_newer_ones(self) -> None:
        self.bake(1, lock="new")
        best = self.bake(2, lock="new")
        self.bake(3, lock="old")
        assert self.choose() == best

    def test_images_of_another_lock_are_preferred_to_a_stock_image(self) -> None:
        self.bake(1, lock="old")
        best = self.bake(2, lock="older")
        assert self.choose() == best

    def test_unfinished_and_foreign_images_are_not_used(self) -> None:
        self.bake(1, lock="new", state="pending")
        self.bake(2, lock="new", state="failed")
        self.bake(3)
        self.bake(4, lock="new", project="another")
        assert self.choose() == self.stock[X86]

    def test_each_platform_has_its_own_baked_and_stock_images(self) -> None:
        baked = {
            X86: self.bake(1, lock="new"),
            X86_GPU: self.bake(2, lock="new", gpu="nvidia"),
            ARM: self.bake(3, lock="new", architecture="arm64"),
        }
        assert {platform: self.choose(platform=platform) for platform in baked} == baked
        arm_gpu = Platform("arm64", has_gpu=True)
        assert self.choose(platform=arm_gpu) == self.stock[arm_gpu]

    def test_old_images_are_removed_with_their_snapshots(self) -> None:
        created = [self.bake(day, lock=str(day)) for day in (3, 1, 4, 2)]
        foreign = self.bake(0, lock="0", project="another")
        removed = image_lifecycle.prune_images(self.aws, 2, None)
        assert {created[1], created[3]} < set(removed)
        assert len(removed) == 4
        assert self.list_images() == ({created[0], created[2], foreign}, {"of day 3", "of day 4"})

    def test_old_images_of_another_platform_are_counted_apart(self) -> None:
        created = {self.bake(1, lock="a"), self.bake(2, lock="a", gpu="nvidia"), self.bake(3, lock="a")}
        assert image_lifecycle.prune_images(self.aws, 2, None) == []
        assert self.list_images()[0] == created

    def test_the_image_in_ct_ami_and_pending_images_are_not_removed(self) -> None:
        named, old, new = (self.bake(day, lock="a") for day in (1, 2, 3))
        pending = self.bake(4, lock="a", state="pending")
        image_lifecycle.prune_images(self.aws, 1, named)
        assert self.list_images() == ({named, new, pending}, {"of day 1", "of day 3", "of day 4"})
        assert old not in self.list_images()[0]

    def test_failed_images_and_orphaned_snapshots_are_removed(self) -> None:
        newest = self.bake(1, lock="a")
        self.bake(2, lock="a", state="failed")
        self.aws.ec2.deregister_image(ImageId=self.bake(3, lock="a"))
        image_lifecycle.prune_images(self.aws, 3, None)
        assert self.list_images() == ({newest}, {"of day 1"})
        assert image_lifecycle.prune_images(self.aws, 3, None) == []
