"""Libraries that only some models need are installed where a model imports them, by their own locks."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from uv import find_uv_bin

from conftest import ROOT, TIMEOUT
from continuous_training import extras
from continuous_training.errors import UserError
from continuous_training.extras import locking
from continuous_training.settings import lock_hash
from continuous_training.stages import test
from requirements_lock import pins
from wheels import install_only_from, pin, write_wheel

SCRIPT = extras.FOLDER / "install.sh"
IMPORTS = [
    ("import tiny", True),
    ("import tiny as t", True),
    ("import tiny.parts", True),
    ("from tiny import part", True),
    ("from tiny.parts import part", True),
    ("import os, tiny", True),
    ("def build():\n    import tiny", True),
    ("try:\n    from tiny import part\nexcept ImportError:\n    pass", True),
    ("import tinyish", False),
    ("import shop.tiny", False),
    ("from shop.tiny import part", False),
    ("from .tiny import part", False),
    ("from . import parts", False),
    ("import os  # and no tiny", False),
    ("tiny = 1", False),
    ("name = 'import tiny'", False),
]


class Installation:
    """An environment, the installer with locks of its own, and models that import what these lock."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wheels, self.locks, self.venv, self.source = (folder / name for name in ("wheels", "locks", "venv", "src"))
        for path in (self.locks, self.source / "shop"):
            path.mkdir(parents=True)
        shutil.copy(SCRIPT, self.locks)
        uv = find_uv_bin()
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, self.venv], check=True)
        (self.venv / "bin/uv").symlink_to(uv)
        install_only_from(self.wheels, monkeypatch)

    def lock(self, name: str, *lines: str) -> None:
        (self.locks / f"{name}.lock").write_text("".join(lines))

    def use(self, *sources: str) -> None:
        (self.source / "shop/model.py").write_text("\n".join(sources))

    def install(self, *what: str) -> subprocess.CompletedProcess[str]:
        arguments = what or (f"{self.source}/",)
        command = ["sh", self.locks / "install.sh", self.venv, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)

    def installed(self) -> set[str]:
        """Return the packages, as `name-version`."""
        return {path.stem for path in self.venv.glob("lib/*/site-packages/*.dist-info")}


@pytest.fixture
def installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Installation:
    installation = Installation(tmp_path, monkeypatch)
    for name in ("tiny", "huge"):
        installation.lock(name, "# A comment\n", pin(write_wheel(installation.wheels, name, "1.0")))
    return installation


class TestInstaller:
    def test_only_what_a_model_imports_is_installed_once(self, installation: Installation) -> None:
        installation.use("import tiny")
        first = installation.install()
        assert first.stderr == f"ct: installing tiny in {installation.venv}, once\n"
        assert installation.installed() == {"tiny-1.0"}
        shutil.rmtree(installation.wheels)
        again = installation.install()
        assert (again.returncode, again.stderr) == (0, "")

    def test_a_library_that_a_model_begins_to_import_is_added(self, installation: Installation) -> None:
        installation.use("import tiny")
        installation.install()
        installation.use("import tiny", "import huge")
        assert installation.install().stderr == f"ct: installing huge in {installation.venv}, once\n"
        assert installation.installed() == {"tiny-1.0", "huge-1.0"}

    def test_a_new_version_in_the_lock_replaces_the_old_one(self, installation: Installation) -> None:
        installation.install("tiny")
        installation.lock("tiny", pin(write_wheel(installation.wheels, "tiny", "2.0")))
        installation.install("tiny")
        assert installation.installed() == {"tiny-2.0"}

    def test_imports_of_the_framework_count_for_no_model(self, installation: Installation) -> None:
        for name in ("continuous_training", "jenkinsfile"):
            (installation.source / name / "parts").mkdir(parents=True)
            (installation.source / name / "parts/module.py").write_text("import tiny\n")
        assert installation.install().returncode == 0
        assert installation.installed() == set()

    def test_a_package_other_than_the_locked_one_is_refused(self, installation: Installation) -> None:
        write_wheel(installation.wheels, "tiny", "1.0", "SIGN = -1\n")
        process = installation.install("tiny")
        assert process.returncode == 1
        assert process.stderr.splitlines()[-1] == (
            f"ct: error: tiny cannot be installed (log: {installation.venv}/extras/log)"
        )
        assert installation.installed() == set()
        write_wheel(installation.wheels, "tiny", "1.0")
        assert installation.install("tiny").returncode == 0  # a failure is not remembered as an installation

    def test_a_command_that_needs_an_extra_at_once_installs_it(
        self, installation: Installation, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(extras, "FOLDER", installation.locks)
        monkeypatch.setattr(sys, "prefix", str(installation.venv))
        caplog.set_level("INFO")
        extras.install("tiny")
        assert installation.installed() == {"tiny-1.0"}
        assert caplog.messages == [f"installing tiny in {installation.venv}, once"]
        write_wheel(installation.wheels, "huge", "1.0", "SIGN = -1\n")
        with pytest.raises(UserError, match=r"^huge cannot be installed \(log: .*log\)$"):
            extras.install("huge")

    def test_the_tests_of_an_extra_that_cannot_be_installed_are_skipped_with_the_reason(
        self, installation: Installation, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(extras, "FOLDER", installation.locks)
        monkeypatch.setattr(extras, "list_extras", lambda: ["huge", "tiny"])
        monkeypatch.setattr(sys, "prefix", str(installation.venv))
        write_wheel(installation.wheels, "huge", "1.0", "SIGN = -1\n")
        test.install_extras()
        assert installation.installed() == {"tiny-1.0"}
        assert "The tests of huge are skipped: huge cannot be installed (log: " in caplog.text

    @pytest.mark.parametrize(("source", "does_import"), IMPORTS)
    def test_shell_and_python_agree_about_what_is_an_import(
        self, source: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, does_import: bool
    ) -> None:
        (tmp_path / "shop").mkdir()
        (tmp_path / "shop/model.py").write_text(f"{source}\n")
        (tmp_path / "tiny.lock").touch()
        (tmp_path / "venv").mkdir()
        shutil.copy(SCRIPT, tmp_path)
        command = ["sh", tmp_path / "install.sh", tmp_path / "venv", tmp_path / "shop"]
        process = subprocess.run(command, capture_output=True, text=True, check=False)
        assert ("installing tiny" in process.stderr) == does_import
        monkeypatch.setattr(extras, "list_extras", lambda: ["tiny"])
        assert extras.extras_of(tmp_path / "shop") == (["tiny"] if does_import else [])


class TestBuilds:
    """A package such as PyTorch, which has one build for processors and others for GPUs."""

    @pytest.fixture(autouse=True)
    def _builds(self, installation: Installation) -> None:
        if Path("/proc/driver/nvidia/version").exists():
            pytest.skip("this machine has a GPU")
        # Its build for GPUs, whose version is the same, needs a package that the lock does not have
        write_wheel(installation.wheels, "torchlike", "1.0", requires="nvidia-huge==1.0")
        write_wheel(installation.wheels, "nvidia_huge", "1.0")
        installation.lock("torchlike", pin(installation.wheels / "tiny-1.0-py3-none-any.whl"), "torchlike==1.0\n")
        programs = installation.venv / "bin"
        (programs / "python").rename(programs / "real")
        # Its pip is this environment's, as a copy takes seconds to install
        pip = f'#!/bin/sh\nshift 2\nexec {sys.executable} -m pip --python {programs}/real "$@"\n'
        (programs / "python").write_text(pip)
        (programs / "python").chmod(0o755)

    def test_without_a_gpu_the_build_for_processors_is_installed(self, installation: Installation) -> None:
        write_wheel(installation.wheels, "torchlike", "1.0+cpu", requires="tiny")
        process = installation.install("torchlike")
        assert process.returncode == 0, process.stderr
        assert installation.installed() == {"tiny-1.0", "torchlike-1.0+cpu"}

    def test_where_there_is_none_the_error_says_where_pip_looks(self, installation: Installation) -> None:
        process = installation.install("torchlike")
        assert process.returncode == 1
        assert "ct: error: no build of torchlike==1.0 was found: set PIP_EXTRA_INDEX_URL or" in process.stderr
        assert "nvidia_huge-1.0" not in installation.installed()


class TestLocks:
    def test_each_extra_with_a_lock_can_be_installed_by_name(self) -> None:
        project = extras.locking.tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        assert {*extras.list_extras()} <= project["optional-dependencies"].keys()

    @pytest.mark.parametrize("name", extras.list_extras())
    def test_a_lock_has_the_versions_of_requirements_lock_and_hashes(self, name: str) -> None:
        own, base = pins(extras.FOLDER / f"{name}.lock"), dict(pins(ROOT / "requirements.lock").keys())
        assert own
        assert {package: base.get(package, version) for package, version in own} == dict(own.keys())
        assert {package for (package, _), hashes in own.items() if not hashes} <= {*extras.BUILDS}
        assert not [package for package, _ in own if extras.is_for_gpu(package)]

    def test_nobody_installs_the_library_of_a_model_that_does_not_import_it(self) -> None:
        base = dict(pins(ROOT / "requirements.lock").keys())
        assert not base.keys() & {"catboost", "keras", "lightgbm", "torch", "xgboost", "xgboost-cpu"}

    def test_a_model_depends_on_the_locks_of_what_it_imports_and_on_no_others(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """So a new version of a library trains the models again that use it."""
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(extras, "FOLDER", tmp_path)
        monkeypatch.setattr(extras.list_extras, "__defaults__", (tmp_path,))
        for model, source in (("plain", "import numpy"), ("shop", "import tiny")):
            Path("src", model).mkdir(parents=True)
            Path("src", model, "model.py").write_text(source)
        Path("requirements.lock").write_text("numpy==2.0\n")
        Path("tiny.lock").write_text("tiny==1.0\n")
        plain, shop = lock_hash("plain"), lock_hash("shop")
        assert plain == hashlib.sha256(b"numpy==2.0\n").hexdigest() != shop
        Path("tiny.lock").write_text("tiny==2.0\n")
        assert lock_hash("plain") == plain
        assert lock_hash("shop") != shop


class TestLocking:
    @pytest.fixture(autouse=True)
    def _project(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        install_only_from(tmp_path / "wheels", monkeypatch)
        for folder in ("locks", "jenkins"):
            Path(folder).mkdir()
        for name, version in (("base", "1.0"), ("driver", "1.0"), ("shared", "1.0"), ("nvidia_huge", "1.0")):
            write_wheel(tmp_path / "wheels", name, version)
        write_wheel(tmp_path / "wheels", "tiny", "1.0", requires="shared")
        write_wheel(tmp_path / "wheels", "torch", "1.0", requires="nvidia-huge")
        self.write_project("shared<2")

    def write_project(self, *dependencies: str) -> None:
        extra = {"warehouse": ["driver"], "tiny": ["tiny"], "torch": ["tiny", "torch"]}
        lines = ["[project]", 'name = "shop"', 'version = "1"', f"dependencies = {['base', *dependencies]}"]
        lines += ["[project.optional-dependencies]", *(f"{name} = {values}" for name, values in extra.items())]
        Path("pyproject.toml").write_text("\n".join(lines))

    def test_extras_with_a_lock_are_in_it_and_all_others_in_requirements_lock(self) -> None:
        Path("locks/tiny.lock").touch()
        Path("locks/torch.lock").touch()
        assert [path.name for path in locking.lock(Path("locks"))] == [
            *("requirements.lock", "serving.lock", "tiny.lock", "torch.lock")
        ]
        names = {path: {name for name, _ in pins(Path(path))} for path in ("requirements.lock", "jenkins/serving.lock")}
        assert names == {
            "requirements.lock": {"base", "driver", "shared"},
            "jenkins/serving.lock": {"base", "shared"},
        }
        assert {name for name, _ in pins(Path("locks/tiny.lock"))} == {"tiny", "shared"}
        torch = pins(Path("locks/torch.lock"))
        assert {name for name, _ in torch} == {"tiny", "shared", "torch"}
        assert {name for (name, _), hashes in torch.items() if not hashes} == {"torch"}

    def test_versions_stay_until_an_upgrade_and_are_the_same_in_all_locks(self, tmp_path: Path) -> None:
        Path("locks/tiny.lock").touch()
        locking.lock(Path("locks"))
        write_wheel(tmp_path / "wheels", "shared", "1.5")
        locking.lock(Path("locks"))
        assert ("shared", "==1.0") in pins(Path("locks/tiny.lock"))
        locking.lock(Path("locks"), upgrade=True)
        for path in ("requirements.lock", "jenkins/serving.lock", "locks/tiny.lock"):
            assert ("shared", "==1.5") in pins(Path(path))

    def test_a_lock_without_an_extra_is_an_error(self) -> None:
        Path("locks/prophet.lock").touch()
        with pytest.raises(UserError, match=r"prophet\.lock has no extra prophet in pyproject\.toml: add it there"):
            locking.lock(Path("locks"))

    def test_versions_that_do_not_fit_together_are_one_line(self) -> None:
        self.write_project("shared>=2")
        with pytest.raises(UserError, match=r"^requirements\.lock cannot be made: .*shared.*$") as error:
            locking.lock(Path("locks"))
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("module", "extra", "message"),
    [
        ("lightgbm", "", "lightgbm is not installed: pip install '.[lightgbm]'"),
        ("psycopg", "postgres", "psycopg is not installed: pip install '.[postgres]'"),
        ("keras_of_tomorrow", "", "No module named 'keras_of_tomorrow'"),
    ],
)
def test_a_missing_library_is_reported_with_the_command_that_installs_it(module: str, extra: str, message: str) -> None:
    error = ModuleNotFoundError(f"No module named {module!r}", name=module)
    assert extras.describe_missing(error, extra) == message
