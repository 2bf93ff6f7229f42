"""The processes that predict for a server's workers: they do not compete for its cores, and need no GPU."""

from __future__ import annotations

import importlib
import os
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
import psutil
import pytest

from continuous_training.settings import load_settings
from continuous_training.training.fitting import fit_estimator
from continuous_training.versions.estimator import save_estimator
from continuous_training.versions.file_names import CODE
from continuous_training.versions.frameworks import OWN_CLASS
from continuous_training.versions.frameworks.fitting import LabelledRows
from continuous_training.versions.golden_predictions import describe_difference
from continuous_training.versions.host import PROGRAM, HostConnection, HostStarter
from continuous_training.versions.manifest import Manifest
from continuous_training.versions.skops_archive import Trust
from framework_models import INSTALLED, use
from toy import change, events

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd
    from numpy.typing import NDArray

pytestmark = pytest.mark.integration(seconds=30)

SOURCE, THREADS, GPUS = Path("src/toy/model.py"), "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES"
FEATURES = ["shade", "x", "y"]
REPETITIONS = 50  # of all rows in a call, so that each library uses as many threads as it may


class Version(NamedTuple):
    """The files of a classifier, and the probabilities that it predicted for rows before it was stored."""

    folder: Path
    manifest: Manifest
    rows: pd.DataFrame
    probabilities: NDArray[np.float64]


def fit_version(workspace: Path) -> Version:
    """Fit and store the workspace's model."""
    table = events()
    rows = table[FEATURES]
    build = importlib.import_module("toy.model").build
    estimator = build(categories=["shade"], numbers=["x", "y"], **load_settings("toy").model.parameters)
    fitted, _ = fit_estimator(estimator, "toy", LabelledRows(rows, table["late"]), None, lambda *_: None)
    folder = workspace / "version"
    folder.mkdir()
    framework = save_estimator(fitted, folder, Trust("toy"))
    shutil.copytree("src/toy", folder / CODE / "toy")
    manifest = Manifest(
        model="toy",
        run_id="",
        task="classification",
        framework=framework,
        trusted_types=(),
        inputs=[],
        outputs=[],
        lineage={},
        files={},
    )
    return Version(folder, manifest, rows, np.asarray(estimator.predict_proba(rows)))


class Peak:
    """The largest number of threads that the processes of connections have had, while this context was open."""

    def __enter__(self) -> Self:
        starters = [child for child in psutil.Process().children() if PROGRAM in child.cmdline()]
        hosts = [host for starter in starters for host in starter.children()]
        self._processes = [process for host in hosts for process in host.children()]
        self.threads = 0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._is_over.is_set():
            self.threads = max(self.threads, *(process.num_threads() for process in self._processes))
            time.sleep(0.001)


@contextmanager
def start_hosts(**environment: str) -> Iterator[HostStarter]:
    """Start what starts hosts, as a server with these variables does; without THREADS a call has one thread."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(THREADS)
        for name, value in environment.items():
            patch.setenv(name, value)
        starter = HostStarter()
    yield starter
    starter.close()


@pytest.fixture(scope="module")
def starter() -> Iterator[HostStarter]:
    with start_hosts() as starter:
        yield starter


@pytest.fixture(scope="module")
def configured_starter() -> Iterator[HostStarter]:
    with start_hosts(**{THREADS: "2", GPUS: "0"}) as starter:
        yield starter


def count_threads(version: Version, starter: HostStarter) -> int:
    """Let two workers predict at the same time, check their predictions, and return the threads that a call has had."""
    columns = {name: np.tile(version.rows[name].to_numpy(), REPETITIONS) for name in FEATURES}
    host = starter.start(version.folder, version.manifest, Path("socket"))
    connections = [HostConnection(host.path) for _ in range(2)]
    with Peak() as peak, ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda connection: connection.predict(columns), connections))
    host.close()
    for answer in answers:
        assert describe_difference(answer, np.tile(version.probabilities, (REPETITIONS, 1))) is None
    return peak.threads


@pytest.mark.parametrize("model", INSTALLED)
def test_a_call_has_one_thread(
    model: str, starter: HostStarter, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None hangs, although the processes that predict are forks of one that opened the version."""
    use(model, monkeypatch)
    assert count_threads(fit_version(workspace), starter) == 1


def test_a_call_has_as_many_threads_as_a_variable_says(
    configured_starter: HostStarter, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("lightgbm", reason="lightgbm is not installed: scripts/ct test installs it")
    use("lightgbm", monkeypatch)
    assert count_threads(fit_version(workspace), configured_starter) > 1 or os.cpu_count() == 1


def test_a_version_sees_no_gpu(
    configured_starter: HostStarter, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU that the process has used before the fork would be an error in each call."""
    monkeypatch.setenv(GPUS, "0")
    use(OWN_CLASS, monkeypatch)
    change("import json\n", "import json\nimport os\n", SOURCE)
    change('rows["x"] > self.limit', f'os.environ["{GPUS}"] == rows["shade"]', SOURCE)
    version = fit_version(workspace)
    host = configured_starter.start(version.folder, version.manifest, Path("socket"))
    columns = {"shade": np.array(["", "0"], object), "x": np.zeros(2), "y": np.zeros(2)}
    assert HostConnection(host.path).predict(columns)[:, 1].tolist() == [0.75, 0.25]
    host.close()
