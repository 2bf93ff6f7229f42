"""`ct run`: the Jenkinsfile tool, and where the results of the run are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT, TIMEOUT
from local_build import pipeline


def ct_run(workspace: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    (workspace / "Jenkinsfile").write_text(pipeline("sh 'echo progress=$CT_PROGRESS'"))
    return subprocess.run(
        [sys.executable, ROOT / "scripts/run.py", *arguments],
        cwd=workspace,
        env=os.environ | {"MLFLOW_TRACKING_URI": "https://mlflow.example.org"},
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
    )


def test_after_a_run_the_addresses_of_its_results_are_printed(tmp_path: Path) -> None:
    process = ct_run(tmp_path)
    assert process.returncode == 0
    lines = process.stdout.splitlines()
    assert lines[lines.index("Finished: SUCCESS") + 1 :] == ["MLflow: https://mlflow.example.org"]
    assert "progress=" in lines  # progress bars are for a terminal


@pytest.mark.parametrize(("arguments", "code"), [(["--list"], 0), (["--from", "Only"], 2), (["-P", "X=1"], 2)])
def test_without_a_run_no_addresses_are_printed(tmp_path: Path, arguments: list[str], code: int) -> None:
    process = ct_run(tmp_path, *arguments)
    assert process.returncode == code
    assert "MLflow" not in process.stdout
    assert process.stderr.count("\n") == (code == 2)
