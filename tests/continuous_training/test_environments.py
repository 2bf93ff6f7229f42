"""Environments of their own: made once from a lock, and never half."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import zipfile
from pathlib import Path

import pytest

from continuous_training import environments
from continuous_training.errors import UserError


def package(folder: Path, name: str) -> str:
    """Make a wheel with one empty module, and return the line of a lock that wants it."""
    path, about = folder / f"{name}-1-py3-none-any.whl", f"{name}-1.dist-info"
    written = {
        f"{name}.py": "",
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(path, "w") as wheel:
        for where, text in written.items():
            wheel.writestr(where, text)
        wheel.writestr(f"{about}/RECORD", "".join(f"{where},{_sum(text)},\n" for where, text in written.items()))
    return f"{name} @ {path.as_uri()} --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


def _sum(text: str) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")


def has(python: Path, name: str) -> bool:
    return subprocess.run([python, "-c", f"import {name}"], check=False, capture_output=True).returncode == 0


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    path = tmp_path / "airport" / "requirements.lock"
    path.parent.mkdir()
    path.write_text(package(tmp_path, "runway"))
    return path


def test_it_has_what_the_lock_says_and_nothing_of_ours(lock: Path, tmp_path: Path) -> None:
    python = environments.python(lock, tmp_path / "made")
    assert python == tmp_path / "made" / "airport" / "bin" / "python"
    assert has(python, "runway")
    assert not has(python, "mlflow")


def test_it_is_made_once(lock: Path, tmp_path: Path) -> None:
    python = environments.python(lock, tmp_path / "made")
    (python.parent / "witness").touch()
    environments.python(lock, tmp_path / "made")
    assert (python.parent / "witness").exists()


def test_another_lock_makes_it_anew(lock: Path, tmp_path: Path) -> None:
    environments.python(lock, tmp_path / "made")
    lock.write_text(package(tmp_path, "tower"))
    python = environments.python(lock, tmp_path / "made")
    assert has(python, "tower")
    assert not has(python, "runway")


def test_what_was_cut_off_is_made_anew(lock: Path, tmp_path: Path) -> None:
    cut_off = tmp_path / "made" / "airport" / "lib" / "half"
    cut_off.mkdir(parents=True)
    assert has(environments.python(lock, tmp_path / "made"), "runway")
    assert not cut_off.exists()


def test_packages_that_cannot_be_had_are_an_error_each_time(lock: Path, tmp_path: Path) -> None:
    lock.write_text(lock.read_text().replace("runway-1", "runway-2"))
    for _ in range(2):
        with pytest.raises(UserError, match=r"cannot be made: see .*airport\.log"):
            environments.python(lock, tmp_path / "made")
    assert "runway-2" in (tmp_path / "made" / "airport.log").read_text()


def test_packages_that_are_not_those_of_the_lock_are_refused(lock: Path, tmp_path: Path) -> None:
    lock.write_text(lock.read_text()[:-5] + "0000\n")
    with pytest.raises(UserError, match="cannot be made"):
        environments.python(lock, tmp_path / "made")


def test_a_lock_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no .*nowhere"):
        environments.python(tmp_path / "nowhere" / "requirements.lock", tmp_path)
