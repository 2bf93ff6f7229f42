"""The processes that predict for a server's workers: they do not compete for its cores, and need no GPU."""

from __future__ import annotations

import importlib
import os
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
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

SOURCE, THREADS = Path("src/toy/model.py"), "OMP_NUM_THREADS"
FEATURES = ["shade", "x", "y"]
REPETITIONS = 50  # of all rows in a call, so that each library uses as many threads as it may


class Version(NamedTuple):
    """The files of a classifier, and the probabilities that it predicted for rows before it was stored."""

    folder: Path
    manifest: Manifest
    rows: pd.DataFrame
    probabilities: NDArray[np.float64]


@pytest.fixture(params=INSTALLED)
def version(request: pytest.FixtureRequest, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Version:
    use(request.param, monkeypatch)
    return fit_version(workspace)


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


@pytest.fixture(params=[1, 2], scope="module")
def starter(request: pytest.FixtureRequest) -> Iterator[tuple[int, HostStarter]]:
    """The starter of a server, with the number of threads of a call; 1 is the default."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(THREADS)
        if request.param > 1:
            patch.setenv(THREADS, str(request.param))
        starter = HostStarter()
    yield request.param, starter
    starter.close()


def test_a_call_has_one_thread_or_as_many_as_a_variable_says(
    version: Version, starter: tuple[int, HostStarter]
) -> None:
    """Two workers predict at the same time. None hangs, although their processes are forks of one that opened it."""
    threads, host_starter = starter
    columns = {name: np.tile(version.rows[name].to_numpy(), REPETITIONS) for name in FEATURES}
    host = host_starter.start(version.folder, version.manifest, Path("socket"))
    connections = [HostConnection(host.path) for _ in range(2)]
    with Peak() as peak, ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda connection: connection.predict(columns), connections))
    host.close()
    for answer in answers:
        assert describe_difference(answer, np.tile(version.probabilities, (REPETITIONS, 1))) is None
    assert threads > 1 or peak.threads == 1
    assert threads == 1 or peak.threads > 1 or os.cpu_count() == 1


def test_a_version_sees_no_gpu(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU that the process has used before the fork would be an error in each call."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    use(OWN_CLASS, monkeypatch)
    change("import json\n", "import json\nimport os\n", SOURCE)
    change('rows["x"] > self.limit', 'os.environ["CUDA_VISIBLE_DEVICES"] == rows["shade"]', SOURCE)
    version = fit_version(workspace)
    starter = HostStarter()
    try:
        host = starter.start(version.folder, version.manifest, Path("socket"))
        columns = {"shade": np.array(["", "0"], object), "x": np.zeros(2), "y": np.zeros(2)}
        assert HostConnection(host.path).predict(columns)[:, 1].tolist() == [0.75, 0.25]
        host.close()
    finally:
        starter.close()
