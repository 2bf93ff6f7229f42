"""Whoever can write to the registry cannot run code, read files or exhaust memory where a version is opened."""

from __future__ import annotations

import io
import itertools
import re
import resource
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from continuous_training.errors import UserError
from continuous_training.versions import examination, host, signing, skops_archive
from continuous_training.versions.download import download
from continuous_training.versions.examination import Policy
from continuous_training.versions.file_names import ESTIMATOR, MANIFEST, SIGNATURE
from continuous_training.versions.host import HostStarter
from continuous_training.versions.manifest import parse_manifest
from continuous_training.versions.skops_archive import Trust
from hostile import MARKER, SIGNED, TAMPERED, HostileVersion, append, make, open_as_judge, open_as_server, sign_again
from pipeline import Pipeline

MEMORY = 2**30  # bytes that examining or opening a version may take at most


@pytest.fixture(scope="module")
def good(mlflow_workspace_patch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Pipeline]:
    """Return the folder of a good version, and its run."""
    run = Pipeline(mlflow_workspace_patch)
    run.train()
    folder = tmp_path_factory.mktemp("good")
    download(run.candidate.model_uri, folder)
    return folder, run


@pytest.fixture
def policy(good: tuple[Path, Pipeline]) -> Policy:
    return Policy("toy", good[1].settings.model)


@pytest.fixture(scope="module")
def starter(mlflow_workspace_patch: pytest.MonkeyPatch) -> Iterator[HostStarter]:
    mlflow_workspace_patch.setattr(host, "MEMORY", MEMORY)
    with closing(HostStarter()) as process:
        yield process


@contextmanager
def bounded_memory() -> Iterator[None]:
    """Let this process allocate no more than `MEMORY` in addition."""
    limits = resource.getrlimit(resource.RLIMIT_DATA)
    (used,) = re.findall(r"VmData:\s*(\d+) kB", Path("/proc/self/status").read_text())
    resource.setrlimit(resource.RLIMIT_DATA, (int(used) * 1024 + MEMORY, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, limits)


@pytest.mark.parametrize("version", [*TAMPERED, *SIGNED], ids=lambda version: version.name)
def test_a_hostile_version_is_refused_or_harmless(
    version: HostileVersion, good: tuple[Path, Pipeline], policy: Policy, starter: HostStarter, tmp_path: Path
) -> None:
    make(version, good[0], tmp_path / "version")
    run_id = good[1].candidate.run_id
    with bounded_memory():
        messages = {
            "server": open_as_server(tmp_path / "version", policy, run_id, starter),
            "Compare": open_as_judge(tmp_path / "version", policy, run_id),
        }
    for place, message in messages.items():
        print(f"{version.name:45} {place:8} {message or 'predicts as the good version'}")
    assert not Path(MARKER).exists()
    for message in messages.values():
        if version.message is None:
            assert message is None
        else:
            assert message is not None
            assert version.message in message
            assert "\n" not in message


def test_the_good_version_predicts(good: tuple[Path, Pipeline], policy: Policy, starter: HostStarter) -> None:
    assert open_as_server(good[0], policy, good[1].candidate.run_id, starter) is None


def test_the_pipeline_may_replace_its_key(
    good: tuple[Path, Pipeline], policy: Policy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = "B" * 42 + "A"
    folder = tmp_path / "version"
    shutil.copytree(good[0], folder)
    monkeypatch.setenv("CT_SIGNING_KEY", new)
    sign_again(folder)
    with pytest.raises(UserError, match="of none of the accepted keys"):
        examination.examine(folder, policy)
    monkeypatch.setenv("CT_SIGNING_PUBLIC_KEYS", f"{signing.public_key('A' * 43)}, {signing.public_key(new)}")
    examination.examine(folder, policy)
    examination.examine(good[0], policy)  # signed with the old key, whose public key is in this workspace


def test_a_version_of_before_signatures_needs_a_setting(
    good: tuple[Path, Pipeline], policy: Policy, starter: HostStarter, tmp_path: Path
) -> None:
    folder, run_id = tmp_path / "version", good[1].candidate.run_id
    shutil.copytree(good[0], folder)
    for name in (MANIFEST, SIGNATURE):
        (folder / name).unlink()
    message = open_as_server(folder, policy, run_id, starter)
    assert message is not None
    assert "train a new one with scripts/ct run -P FORCE=true" in message
    allowed = Policy("toy", policy.settings.model_copy(update={"allow_unsigned": True}))
    assert open_as_server(folder, allowed, run_id, starter) is None


def test_metadata_that_would_expand_is_not_read(good: tuple[Path, Pipeline], policy: Policy, tmp_path: Path) -> None:
    names = itertools.pairwise("abcdefghij")
    aliases = "\na: &a [1]\n" + "".join(f"{new}: &{new} [{', '.join(9 * [f'*{old}'])}]\n" for old, new in names)
    folder = tmp_path / "version"
    shutil.copytree(good[0], folder)
    (folder / "manifest.json").unlink()
    append("MLmodel", aliases)(folder)
    allowed = Policy("toy", policy.settings.model_copy(update={"allow_unsigned": True}))
    with pytest.raises(UserError, match="its MLmodel cannot be read: it has aliases"):
        examination.examine(folder, allowed)


@given(st.binary(max_size=300))
def test_any_bytes_as_a_manifest_are_one_line(content: bytes) -> None:
    with pytest.raises(UserError) as caught:
        parse_manifest(content)
    assert "\n" not in str(caught.value)


@given(st.data())
def test_any_damage_to_an_archive_is_a_clear_error_or_harmless(
    good: tuple[Path, Pipeline], data: st.DataObject
) -> None:
    content = bytearray((good[0] / ESTIMATOR).read_bytes())
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with suppress(UserError):
        skops_archive.examine(io.BytesIO(content), Trust("toy"))
