"""A version is downloaded only from where the tracking server stores it."""

from __future__ import annotations

from pathlib import Path

import mlflow
import pytest

from continuous_training.errors import UserError
from continuous_training.registry import connection
from continuous_training.versions import download
from http_stub import Request, http_stub


@pytest.fixture
def client(mlflow_workspace: Path) -> mlflow.MlflowClient:  # noqa: ARG001 - it is the current folder
    client = connection.open_client()
    client.create_registered_model("toy")
    return client


def test_an_address_on_another_host_is_not_sent_the_token(
    client: mlflow.MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests: list[Request] = []

    def respond(request: Request) -> tuple[int, str]:
        requests.append(request)
        return 200, "{}"

    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "secret")
    with http_stub(respond) as url:
        client.create_model_version("toy", f"{url}/model")
        with pytest.raises(
            UserError, match=r"^its files are at http://.*, and not where the tracking server stores them"
        ):
            download.download("models:/toy/1", tmp_path / "version")
    assert requests == []


@pytest.mark.parametrize(
    "location",
    [
        "http://host/x",
        "https://host/x",
        "mlflow-artifacts://host/x",
        "ftp://user:secret@host/x",
        "dbfs:/x",
        "hdfs://host/x",
    ],
)
def test_other_addresses_are_refused_without_their_passwords(
    location: str, client: mlflow.MlflowClient, tmp_path: Path
) -> None:
    client.create_model_version("toy", location)
    with pytest.raises(UserError, match="and not where the tracking server stores them") as caught:
        download.download("models:/toy/1", tmp_path / "version")
    assert "secret" not in str(caught.value)


@pytest.mark.usefixtures("client")
def test_the_versions_of_a_server_are_not_read_from_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "_locate", lambda _: "/etc")
    monkeypatch.setattr(mlflow, "get_tracking_uri", lambda: "https://mlflow.example.com")
    with pytest.raises(UserError, match="its files are at /etc, and not where the tracking server stores them"):
        download.download("models:/toy/1", tmp_path / "version")


def test_a_version_of_very_many_or_large_files_is_not_downloaded(
    client: mlflow.MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for number in range(12):
        (source / f"{number}").write_text("x" * 100)
    client.create_model_version("toy", str(source))
    for limit, value in (("MAX_FILES", 10), ("MAX_BYTES", 1000)):
        with monkeypatch.context() as patch:
            patch.setattr(download, limit, value)
            with pytest.raises(UserError, match="it has more than"):
                download.download("models:/toy/1", tmp_path / "version")
    download.download("models:/toy/1", tmp_path / "version")
    assert len(list((tmp_path / "version").iterdir())) == 12


@pytest.mark.usefixtures("client")
def test_a_version_that_is_missing_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="models:/toy/7 cannot be downloaded: .*not found") as caught:
        download.download("models:/toy/7", tmp_path / "version")
    assert "\n" not in str(caught.value)
