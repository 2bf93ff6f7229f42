"""Separate environments: created once from a lock, and complete or not at all."""

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
    """Create a wheel with one empty module, and return the line of a lock that requires it."""
    path, about = folder / f"{name}-1-py3-none-any.whl", f"{name}-1.dist-info"
    files = {
        f"{name}.py": "",
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(path, "w") as wheel:
        for where, text in files.items():
            wheel.writestr(where, text)
        wheel.writestr(f"{about}/RECORD", "".join(f"{where},{_checksum(text)},\n" for where, text in files.items()))
    return f"{name} @ {path.as_uri()} --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


def _checksum(text: str) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")


def can_import(python: Path, name: str) -> bool:
    return subprocess.run([python, "-c", f"import {name}"], check=False, capture_output=True).returncode == 0


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    path = tmp_path / "airport" / "requirements.lock"
    path.parent.mkdir()
    path.write_text(package(tmp_path, "runway"))
    return path


def test_an_environment_has_the_packages_of_its_lock_and_none_of_the_project(lock: Path, tmp_path: Path) -> None:
    python = environments.ensure_python(lock, tmp_path / "environments")
    assert python == tmp_path / "environments" / "airport" / "bin" / "python"
    assert can_import(python, "runway")
    assert not can_import(python, "mlflow")


def test_an_environment_is_created_once(lock: Path, tmp_path: Path) -> None:
    python = environments.ensure_python(lock, tmp_path / "environments")
    (python.parent / "witness").touch()
    environments.ensure_python(lock, tmp_path / "environments")
    assert (python.parent / "witness").exists()


def test_a_changed_lock_replaces_the_environment(lock: Path, tmp_path: Path) -> None:
    environments.ensure_python(lock, tmp_path / "environments")
    lock.write_text(package(tmp_path, "tower"))
    python = environments.ensure_python(lock, tmp_path / "environments")
    assert can_import(python, "tower")
    assert not can_import(python, "runway")


def test_an_incomplete_environment_is_replaced(lock: Path, tmp_path: Path) -> None:
    leftover = tmp_path / "environments" / "airport" / "lib" / "half"
    leftover.mkdir(parents=True)
    assert can_import(environments.ensure_python(lock, tmp_path / "environments"), "runway")
    assert not leftover.exists()


def test_missing_packages_are_an_error_each_time(lock: Path, tmp_path: Path) -> None:
    lock.write_text(lock.read_text().replace("runway-1", "runway-2"))
    for _ in range(2):
        with pytest.raises(UserError, match=r"cannot be created: see .*airport\.log"):
            environments.ensure_python(lock, tmp_path / "environments")
    assert "runway-2" in (tmp_path / "environments" / "airport.log").read_text()


def test_packages_with_another_hash_than_the_locks_are_rejected(lock: Path, tmp_path: Path) -> None:
    lock.write_text(lock.read_text()[:-5] + "0000\n")
    with pytest.raises(UserError, match="cannot be created"):
        environments.ensure_python(lock, tmp_path / "environments")


def test_a_missing_lock_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no .*nowhere"):
        environments.ensure_python(tmp_path / "nowhere" / "requirements.lock", tmp_path)
