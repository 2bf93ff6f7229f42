"""GPUs: an instance type with one proves it before it trains. No GPU is here: nvidia-smi prints recorded output."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from cloud.aws import DEEP_LEARNING
from conftest import TIMEOUT, wait_until
from continuous_training.compute.ec2 import watcher
from continuous_training.errors import UserError
from continuous_training.registry import connection
from ec2_project import Project
from toy import change

NVIDIA_SMI = """#!/bin/sh
case "$*" in
    *=index,name,*) echo "0, NVIDIA L4, 23034, 595.71.05" ;;
    *) echo "{percent}, 18231, 23034" ;;
esac
"""  # with --format=csv,noheader,nounits, by its manual page; the values are those of an L4


def install_nvidia_smi(script: str) -> Callable[[Path], None]:
    """Return a function that installs nvidia-smi on a machine before it boots."""

    def install(root: Path) -> None:
        program = root.parent / "stubs" / "nvidia-smi"
        program.write_text(script)
        program.chmod(0o755)

    return install


@pytest.fixture
def gpu_project(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Return a project that trains on a GPU, whose price is that of the Pricing API."""
    monkeypatch.delenv("CT_AMI")
    change("instance_types: [c7i.large, c6i.large]", "instance_types: [g6.xlarge]")
    change("prices: {c7i.large: 0.1, c6i.large: 0.09}", "prices: {}")
    change("heartbeat_seconds: 2", "heartbeat_seconds: 0.3")
    return project


@pytest.mark.integration(seconds=5)
@pytest.mark.parametrize("percent", [97, 0])
def test_a_gpu_starts_from_an_image_with_drivers_and_its_use_is_logged(
    gpu_project: Project, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, percent: int
) -> None:
    monkeypatch.setattr(watcher, "LOG_SECONDS", 0)  # each heartbeat is logged
    use = f"GPU {percent} %, 17.8 of 22.5 GB"
    with gpu_project.machines(prepare=install_nvidia_smi(NVIDIA_SMI.format(percent=percent))) as machines:

        def go_on() -> None:
            wait_until(lambda: len(re.findall(f"training, .*{use}", caplog.text)) > 2, "three heartbeats arrive")
            (machines.folder(gpu_project.launched_instances()[0]) / "opt" / "go").touch()

        threading.Thread(target=go_on, daemon=True).start()
        run_id = gpu_project.run_entry_point("until [ -e $CT_ROOT/go ]; do sleep 0.1; done; echo $CT_GPUS GPU")
    (launched,) = gpu_project.aws.faults.calls_of("ec2", "RunInstances")
    assert launched.parameters["InstanceType"] == "g6.xlarge"
    assert launched.parameters["ImageId"] == gpu_project.aws.stock_amis[DEEP_LEARNING]
    assert "0, NVIDIA L4, 23034, 595.71.05" in caplog.messages
    assert "1 GPU" in caplog.messages
    metrics = connection.open_client().get_run(run_id).data.metrics
    assert metrics["gpu_percent"] == percent
    assert metrics["gpu_memory_mb"] == metrics["peak_gpu_memory_mb"] == 18231
    assert metrics["ec2_cost_usd"] == pytest.approx(metrics["ec2_seconds"] / 3600 * 1.0059, abs=2e-5)
    assert ("The GPU of g6.xlarge was never in use: a type without one costs less" in caplog.messages) == (percent == 0)


@pytest.mark.integration(seconds=5)
def test_a_gpu_that_is_not_usable_ends_the_training_before_anything_is_installed(
    gpu_project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    failing = (
        '#!/bin/sh\necho "NVIDIA-SMI has failed because it couldn\'t communicate with the NVIDIA driver."\nexit 9\n'
    )
    message = (
        r"checking the GPU failed on i-\w+: g6.xlarge has no usable GPU: nvidia-smi: NVIDIA-SMI has failed because"
    )
    with gpu_project.machines(prepare=install_nvidia_smi(failing)), pytest.raises(UserError, match=message):
        gpu_project.run_entry_point("true")
    assert "instance: fetching" not in caplog.messages


@pytest.mark.integration(seconds=5)
def test_a_model_whose_libraries_cannot_use_the_gpu_ends_before_its_fit(gpu_project: Project) -> None:
    pytest.importorskip("xgboost", reason="xgboost is not installed: scripts/ct test installs it")
    change("def build", "import xgboost\n\n\ndef build", Path("src/toy/model.py"))
    usable = install_nvidia_smi(NVIDIA_SMI.format(percent=0))
    message = (
        r"training failed on i-\w+: the instance has 1 GPU, which xgboost [\d.]+ cannot use: install a build with CUDA"
    )
    with gpu_project.machines(prepare=usable), pytest.raises(UserError, match=message):
        gpu_project.train()


CHECK = "from pathlib import Path; from continuous_training.compute import gpus; gpus.check_libraries(Path('package'))"


@pytest.mark.parametrize("library", ["catboost", "keras", "torch", "xgboost"])
def test_a_library_that_cannot_use_the_gpu_is_refused(tmp_path: Path, library: str) -> None:
    if find_spec(library) is None:  # not by an import: that of Keras needs KERAS_BACKEND
        pytest.skip(f"{library} is not installed: scripts/ct test installs it")
    (tmp_path / "package").mkdir()
    (tmp_path / "package/model.py").write_text(f"import sklearn, {library}\n")
    process = subprocess.run(
        [sys.executable, "-c", CHECK],
        cwd=tmp_path,
        env={"CT_GPUS": "1", "KERAS_BACKEND": "torch"},
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
    )
    assert process.returncode == 1
    assert f"UserError: the instance has 1 GPU, which {library} " in process.stderr
    assert "cannot use: install a build with CUDA" in process.stderr
