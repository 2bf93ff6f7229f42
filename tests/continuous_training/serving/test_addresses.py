"""The last lines of a run: only servers of this workspace's registry and of the run's model are listed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from continuous_training.registry import connection, model_versions
from continuous_training.serving import SERVICE, addresses, local_server
from http_stub import http_stub
from toy import make_run

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def identity(mlflow_workspace: Path) -> str:  # noqa: ARG001
    """Register the model of this workspace's run; return its identity in the registry."""
    make_run().write()
    client = connection.open_client()
    client.create_registered_model("toy")
    identity = model_versions.registry_identity(client, "toy")
    assert identity
    return identity


def describe(monkeypatch: pytest.MonkeyPatch, **status: str | None) -> list[str]:
    """Return the lines for one server, by its status; its address is written as URL."""
    with http_stub(lambda _: (200, json.dumps(status))) as url:
        monkeypatch.setenv("SERVING_URLS", url)
        return [line.replace(url, "URL") for line in addresses.describe_addresses() if line.startswith("Server: ")]


def test_a_server_of_this_registry_and_model_is_listed(identity: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = describe(monkeypatch, service=SERVICE, model="toy", model_version="7", registry=identity)
    assert lines == ["Server: URL/invocations serves version 7 of toy"]


def test_a_server_of_another_registry_is_not_listed(identity: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not describe(monkeypatch, service=SERVICE, model="toy", model_version="7", registry=f"{identity}0")


def test_a_server_of_another_model_is_not_listed(identity: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not describe(monkeypatch, service=SERVICE, model="bikes", model_version="7", registry=identity)


def test_a_server_without_a_version_is_not_listed(identity: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not describe(monkeypatch, service=SERVICE, model="toy", model_version=None, registry=identity)


def test_another_program_is_not_listed(identity: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not describe(monkeypatch, model="toy", model_version="7", registry=identity)


def test_a_server_that_this_workspace_started_is_listed_without_a_call_of_the_registry(
    identity: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_server, "started_here", lambda _: True)
    monkeypatch.setattr(connection, "open_client", lambda: pytest.fail("the registry was called"))
    assert describe(monkeypatch, service=SERVICE, model="toy", model_version="7", registry=identity)
