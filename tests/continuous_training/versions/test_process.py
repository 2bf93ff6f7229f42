"""A version in a process of its own: its own code answers, and nothing that it does ends or changes this process."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import skops.io

from continuous_training.errors import UserError
from continuous_training.versions import process
from continuous_training.versions.file_names import CODE, ESTIMATOR
from continuous_training.versions.manifest import Manifest
from continuous_training.versions.process import VersionProcess

Open = Callable[[str], VersionProcess]

ROWS = pd.DataFrame({"shade": ["red", None], "x": [1.0, np.nan], "n": [1, 2], "on": [True, False]})
SOURCE = """
import os, signal, sys, time
from sklearn.base import BaseEstimator, RegressorMixin


class Own(RegressorMixin, BaseEstimator):
    def predict(self, X):
        {body}
        return X["n"] * 10.0
"""
MANIFEST = Manifest(
    model="toy", run_id="", task="regression", trusted_types=(), inputs=[], outputs=[], lineage={}, files={}
)


@pytest.fixture
def open_process(mlflow_workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    """Return a function that stores an estimator whose `predict` runs a statement first, and opens it in a process."""

    def open_process(body: str) -> VersionProcess:
        folder = mlflow_workspace / "version"
        package = folder / CODE / "toy"
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "model.py").write_text(SOURCE.format(body=body))
        monkeypatch.syspath_prepend(package.parent)
        for name in [name for name in sys.modules if name.partition(".")[0] == "toy"]:
            monkeypatch.delitem(sys.modules, name)
        from toy.model import Own

        skops.io.dump(Own(), folder / ESTIMATOR)
        return VersionProcess(folder, MANIFEST)

    return open_process


def test_the_code_of_the_version_answers_and_not_that_of_the_workspace(open_process: Open) -> None:
    Path("src/toy/model.py").write_text("raise ImportError('the code of the workspace')")
    with open_process("pass") as version:
        assert version.predict(ROWS).tolist() == [10.0, 20.0]
        assert version.classes is None


def test_rows_arrive_with_their_types(open_process: Open) -> None:
    with open_process("assert list(map(str, X.dtypes)) == ['object', 'float64', 'int64', 'bool'], X.dtypes") as version:
        assert len(version.predict(ROWS)) == 2


def test_what_it_prints_is_no_answer(open_process: Open) -> None:
    with open_process("print('{\"size\": 0}'); os.write(1, b'{}\\n')") as version:
        assert version.predict(ROWS).tolist() == [10.0, 20.0]


def test_it_answers_again_after_an_error(open_process: Open) -> None:
    with open_process("assert len(X) == 2, 'two rows, please'") as version:
        with pytest.raises(UserError, match="^two rows, please$"):
            version.predict(ROWS.head(1))
        assert version.predict(ROWS).tolist() == [10.0, 20.0]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", r"it died while it answered: killed by signal 11 \(SIGSEGV\)"),
        ("os._exit(3)", "it died while it answered: its process exited with 3"),
        ("time.sleep(600)", "it died while it answered: it took more than 1 s"),
        ("os.kill(os.getpid(), signal.SIGSTOP)", "it died while it answered: it took more than 1 s"),
        ("X = X.assign(n=bytearray(9 << 30))", "cannot|memory|Memory"),
        ("return X['n'].astype(str)", "it returns predictions of type .*, not numbers"),
        ("return [1.0]", "it returns 1 predictions for 2 rows"),
        ("raise ValueError('one\\ntwo')", "^one$"),
    ],
)
def test_whatever_it_does_is_one_line(
    body: str, message: str, open_process: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_process(body) as version:
        if "1 s" in message:
            monkeypatch.setattr(process, "SECONDS", 1)
        with pytest.raises(UserError, match=message) as caught:
            version.predict(ROWS)
    assert "\n" not in str(caught.value)


def test_it_sees_no_secret(open_process: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CT_SIGNING_KEY", "MLFLOW_TRACKING_TOKEN", "AWS_SECRET_ACCESS_KEY", "CT_WAREHOUSE_URL"):
        monkeypatch.setenv(name, "secret")
    with open_process(
        "assert not [name for name in os.environ if os.environ[name] == 'secret'], os.environ"
    ) as version:
        assert version.predict(ROWS).tolist() == [10.0, 20.0]


def test_it_ends_with_its_context(open_process: Open) -> None:
    with open_process("return [float(os.getpid())] * len(X)") as version:
        pid = int(version.predict(ROWS)[0])
        os.kill(pid, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
