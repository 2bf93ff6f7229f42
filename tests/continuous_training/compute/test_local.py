"""Training on this machine: MLproject's entry point supervises the fit, and what ends it is the stage's error."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from conftest import ROOT
from continuous_training.compute import local
from continuous_training.errors import UserError
from continuous_training.stages import train
from forked_python import ForkedPython
from pipeline import Pipeline
from toy import change

ENDLESS = "import time\ndef build(*_, **__):\n    time.sleep(600)\n"
KILLED = "import os\ndef build(*_, **__):\n    os.kill(os.getpid(), 9)\n"


@pytest.mark.integration(seconds=10)
@pytest.mark.parametrize(
    ("model", "hours", "message"),
    [
        (ENDLESS, 0.001, r"the training did not end within 0\.001 h: raise compute\.max_hours, or train less"),
        (
            KILLED,
            1,
            r"the training was killed by signal 9, probably for lack of memory \(it used [\d,]+ of this machine's",
        ),
    ],
    ids=["endless", "killed"],
)
def test_the_reason_for_the_end_of_a_fit_is_the_error(
    mlflow_workspace: Path,
    forked_python: ForkedPython,
    monkeypatch: pytest.MonkeyPatch,
    model: str,
    hours: float,
    message: str,
) -> None:
    change("compare:\n", f"compute: {{max_hours: {hours}}}\ncompare:\n")
    Path("src/toy/model.py").write_text(model)
    shutil.copy(ROOT / "MLproject", mlflow_workspace)
    shutil.copytree(ROOT / "scripts", mlflow_workspace / "scripts")
    pipeline = Pipeline(monkeypatch, PYTHONPATH=str(mlflow_workspace / "src"))
    monkeypatch.setenv("PATH", os.environ["PATH"])  # restored after the test, because training changes it
    monkeypatch.setattr(sys, "executable", str(forked_python.python))  # the entry point's Python is beside it
    monkeypatch.setitem(train.COMPUTE, "local", local.train)
    monkeypatch.setenv("CT_FIT_OUTCOME", "")
    with pytest.raises(UserError, match=rf"the training failed: {message}"):
        pipeline.train()
