"""A version predicts with the packages that it was made with, whatever is installed now."""

from __future__ import annotations

import json
import re
import sys
import zipfile
from importlib.metadata import distributions
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from conftest import ROOT
from continuous_training import environments
from continuous_training.errors import UserError
from continuous_training.registry import model_versions
from continuous_training.stages import register
from continuous_training.versions import packages
from continuous_training.versions.examination import Policy
from continuous_training.versions.manifest import parse_manifest
from continuous_training.versions.opening import examined_version
from own_package import Gauge
from pipeline import Pipeline
from server import Server
from stored_versions import read_golden_predictions
from toy import change
from wheels import write_wheel

if TYPE_CHECKING:
    from forked_python import ForkedPython

SOURCE = Path("src/toy/model.py")
LATER = "2020-03-20"
MODEL = """

import gauge


class Own(LogisticRegression):
    def predict_proba(self, X):
        scores = super().predict_proba(X)
        return scores if gauge.SIGN > 0 else scores[:, ::-1]
"""


@pytest.fixture
def gauge(mlflow_workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Gauge:  # noqa: ARG001 - the current folder
    """Install version 1.0 of the package, which the model uses."""
    SOURCE.write_text(SOURCE.read_text() + MODEL)
    change("LogisticRegression(**parameters))", "Own(**parameters))", SOURCE)
    gauge = Gauge(tmp_path, monkeypatch)
    gauge.install("1.0")
    return gauge


@pytest.mark.usefixtures("gauge")
def test_the_manifest_lists_what_the_version_uses_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Pipeline(monkeypatch)
    run.train()
    with examined_version(run.candidate.model_uri, Policy("toy", run.settings.model), None) as (folder, manifest):
        assert manifest == parse_manifest((folder / "manifest.json").read_bytes())
    assert manifest.python == f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert manifest.packages["gauge"] == "1.0"
    assert {"scikit-learn", "numpy", "skops", "joblib"} <= manifest.packages.keys()
    assert not {"mlflow", "fastapi", "pytest", "uv"} & manifest.packages.keys()


def test_the_champion_is_compared_and_served_with_its_own_packages(
    gauge: Gauge, monkeypatch: pytest.MonkeyPatch
) -> None:
    Pipeline(monkeypatch).promote(compare=False)
    before = Pipeline(monkeypatch, AS_OF=LATER, FORCE="true").compare().metrics[0].champion
    gauge.install("2.0")
    run = Pipeline(monkeypatch, AS_OF=LATER, FORCE="true")
    verdict = run.compare()
    assert (verdict.decision, verdict.metrics[0].champion) == ("reject", before)
    verdict = verdict.model_copy(update={"decision": "promote"})
    worse = register.register(run.client, run.run, run.candidate, verdict, run.keep_judged(), run.timer)
    with Server() as server:
        for number in ("1", worse.model_version):
            run.client.set_registered_model_alias("toy", model_versions.CHAMPION, number)
            server.wait_for_version(number)
            rows, predictions = read_golden_predictions(f"models:/toy/{number}")
            answer = server.invoke(dataframe_split=rows).json()["predictions"]
            np.testing.assert_allclose(answer, predictions, rtol=0, atol=1e-9)
    [folder] = environments.FOLDER.glob("packages-????????????????")
    assert [path.name for path in sorted(folder.glob("*.py"))] == ["gauge.py"]


def test_verify_installs_the_packages_of_a_version_beforehand(
    gauge: Gauge, monkeypatch: pytest.MonkeyPatch, forked_python: ForkedPython
) -> None:
    Pipeline(monkeypatch).promote(compare=False)
    gauge.install("2.0")
    process = forked_python.run(ROOT / "scripts/verify.py", "champion", "previous", "--model", "toy", "--json")
    assert process.returncode == 1
    assert "previous of toy: the registry has no such version" in process.stderr
    [report] = json.loads(process.stdout)
    assert (report["name"], report["version"], report["packages"]["gauge"]) == ("toy", "1", "1.0")
    [folder] = environments.FOLDER.glob("packages-????????????????")
    assert (folder / "gauge.py").read_text() == "SIGN = 1\n"


def test_all_installed_packages_are_listed_with_their_versions() -> None:
    expected = {re.sub(r"[-_.]+", "-", each.metadata["Name"]).lower(): each.version for each in distributions()}
    assert packages.installed_packages() == {name: expected[name] for name in expected if name != "continuous-training"}


@pytest.mark.usefixtures("gauge")
def test_packages_that_cannot_be_installed_are_one_clear_error() -> None:
    with pytest.raises(UserError, match=r"^gauge==3\.0 cannot be installed: see .*packages-[0-9a-f]{16}\.log$"):
        packages.search_path({"gauge": "3.0"}, packages.PYTHON)


def test_another_version_of_python_is_one_clear_error() -> None:
    with pytest.raises(UserError, match=r"^it was made with Python 2\.7, and this is"):
        packages.search_path({}, "2.7")


def test_the_build_of_a_package_is_no_part_of_its_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was trained on a GPU predicts on a machine without one, whose build needs other packages."""
    for name, version, requires in (("torchlike", "2.0+cu130", "nvidia-huge"), ("nvidia_huge", "1.0", "")):
        with zipfile.ZipFile(write_wheel(tmp_path / "wheels", name, version, requires=requires)) as archive:
            archive.extractall(tmp_path / "gpu")
    with zipfile.ZipFile(write_wheel(tmp_path / "wheels", "torchlike", "2.0+cpu")) as archive:
        archive.extractall(tmp_path / "processor")
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/model.py").write_text("import torchlike\n")
    with monkeypatch.context() as patch:
        patch.syspath_prepend(tmp_path / "gpu")
        made_with = packages.list_packages(tmp_path / "shop", ())
    assert made_with["torchlike"] == "2.0"
    assert "nvidia-huge" not in made_with
    monkeypatch.syspath_prepend(tmp_path / "processor")
    assert packages.search_path(made_with, packages.PYTHON) is None
