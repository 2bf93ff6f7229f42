"""Serving and deploying: a real server on a free port, which follows a real registry."""

from __future__ import annotations

import http.server
import shutil
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from cloud.mlflow_server import MlflowServer
from continuous_training.errors import UserError
from continuous_training.registry import connection, model_versions
from continuous_training.serving.following.assignment import VersionReference
from continuous_training.serving.following.cache import VersionCache
from continuous_training.serving.rollout import rollout
from continuous_training.stages import deploy
from continuous_training.versions import golden_predictions
from forked_python import ForkedPython
from pipeline import Pipeline
from server import Server
from stored_versions import change_golden_prediction, load_estimator, read_golden_predictions
from toy import change

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("mlflow_workspace")

ROWS = {"columns": ["shade", "x", "y"], "data": [["red", 1.5, None], ["blue", -2.0, 0.25]]}


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


def predict_offline(version: model_versions.Version, rows: dict[str, Any]) -> np.ndarray:
    import pandas as pd

    return load_estimator(version.uri).predict_proba(pd.DataFrame(rows["data"], columns=rows["columns"]))


class TestServer:
    def test_without_a_champion_it_is_not_ready_and_predictions_get_503(self, server: Server) -> None:
        assert server.get("/health").json()["status"] == "no champion"
        assert server.get("/ready").status_code == 503
        assert server.get("/ping").status_code == 503
        response = server.invoke(dataframe_split=ROWS)
        assert (response.status_code, response.headers["Retry-After"]) == (503, "1")

    def test_it_follows_the_champion_without_a_restart(self, monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
        first = Pipeline(monkeypatch).promote()
        server.wait_for_version("1")
        response = server.invoke(dataframe_split=ROWS)
        assert response.headers["X-Model-Version"] == "1"
        assert np.allclose(response.json()["predictions"], predict_offline(first, ROWS))
        Pipeline(monkeypatch, FORCE="true").promote(compare=False)
        server.wait_for_version("2")
        assert server.invoke(dataframe_split=ROWS).headers["X-Model-Version"] == "2"

    def test_if_a_version_cannot_be_loaded_the_old_one_is_served(
        self, monkeypatch: pytest.MonkeyPatch, server: Server, mlflow_workspace: Path
    ) -> None:
        Pipeline(monkeypatch).promote()
        server.wait_for_version("1")
        run = Pipeline(monkeypatch, FORCE="true")
        run.register(compare=False)
        path = max((mlflow_workspace / ".ct/artifacts").rglob("model.skops"), key=lambda path: path.stat().st_mtime_ns)
        path.write_bytes(b"corrupt")
        run.promote_version()
        server.wait_for_failure()
        assert server.get("/health").json()["model_version"] == "1"
        assert server.invoke(dataframe_split=ROWS).status_code == 200

    def test_if_golden_predictions_differ_the_old_version_is_served(
        self, monkeypatch: pytest.MonkeyPatch, server: Server
    ) -> None:
        Pipeline(monkeypatch).promote()
        server.wait_for_version("1")
        run = Pipeline(monkeypatch, FORCE="true")
        run.register(compare=False)
        change_golden_prediction(run.candidate.model_uri)
        run.promote_version()
        server.wait_for_failure("differ from those made offline")
        assert server.invoke(dataframe_split=ROWS).headers["X-Model-Version"] == "1"

    def test_servers_of_one_machine_may_download_a_version_at_the_same_time(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        version = Pipeline(monkeypatch).promote()
        reference = VersionReference(identity="toy@1", name="toy", number=version.number, run_id=version.run_id)
        caches = [VersionCache("toy") for _ in range(6)]
        with ThreadPoolExecutor(len(caches)) as servers:
            list(servers.map(lambda cache: cache.download(reference), caches))
        folder = caches[0].locate(reference)
        assert len(golden_predictions.read_golden_predictions(folder)[1])
        assert (folder / "MLmodel").exists()
        assert [path.name for path in folder.parent.iterdir()] == ["1"]

    def test_a_rollback_loads_nothing(
        self, monkeypatch: pytest.MonkeyPatch, server: Server, mlflow_workspace: Path
    ) -> None:
        run = Pipeline(monkeypatch)
        run.promote()
        server.wait_for_version("1")
        Pipeline(monkeypatch, FORCE="true").promote(compare=False)
        server.wait_for_version("2")
        for folder in (".ct/artifacts", ".ct/serving"):
            (mlflow_workspace / folder).rename(mlflow_workspace / f"{folder}.moved")
        (mlflow_workspace / ".ct/serving").mkdir()
        run.client.set_registered_model_alias("toy", model_versions.CHAMPION, "1")
        server.wait_for_version("1")
        assert server.invoke(dataframe_split=ROWS).headers["X-Model-Version"] == "1"


@pytest.mark.integration(seconds=20)
def test_without_its_registry_a_server_continues_and_restarts_with_its_last_version(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
    empty_mlflow: Path,
    forked_python: ForkedPython,
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    folder = tmp_path_factory.mktemp("tracking")
    shutil.copy(empty_mlflow, folder)
    with ExitStack() as resources:
        tracking = resources.enter_context(MlflowServer(folder, forked_python.mlflow))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking.uri)
        Pipeline(monkeypatch).promote()
        with Server() as first:
            first.wait_for_version("1")
            expected = first.invoke(dataframe_split=ROWS).json()
            resources.close()
            first.wait_for_failure()
            assert first.invoke(dataframe_split=ROWS).json() == expected
    with Server() as second:
        second.wait_for_version("1")
        assert second.invoke(dataframe_split=ROWS).json() == expected
        second.wait_for_failure("cannot be used")


class TestDeploy:
    def test_the_candidate_becomes_champion_when_every_server_serves_it(
        self, monkeypatch: pytest.MonkeyPatch, server: Server
    ) -> None:
        with Server() as other:
            deployment = Pipeline(monkeypatch, SERVING_URLS=f"{server.url},{other.url}").deploy()
        assert (deployment.model_version, deployment.previous_version, len(deployment.servers)) == ("1", None, 2)
        assert Pipeline(monkeypatch).make_plan().decision == "nothing"

    def test_if_golden_predictions_differ_the_alias_is_moved_back(
        self, monkeypatch: pytest.MonkeyPatch, server: Server
    ) -> None:
        first = Pipeline(monkeypatch).promote()
        change("C: 1.0", "C: 0.5")
        run = Pipeline(monkeypatch, SERVING_URLS=server.url)
        run.register(compare=False)
        rows, predictions = read_golden_predictions(run.candidate.model_uri)
        other = (rows, predictions + 0.001)
        monkeypatch.setattr(deploy, "read_golden_predictions", lambda *_: other)  # not in the server's copy
        with pytest.raises(
            UserError, match=r"a difference of 0\.001, where float64 allows 1e-09; version 1 is champion again"
        ):
            run.deploy_version()
        champion = model_versions.by_alias(run.client, "toy", model_versions.CHAMPION)
        assert champion is not None
        assert champion.number == first.number

    def test_an_abort_while_servers_follow_moves_the_alias_back(
        self, monkeypatch: pytest.MonkeyPatch, server: Server
    ) -> None:
        run = Pipeline(monkeypatch, SERVING_URLS=server.url)
        monkeypatch.setattr(rollout, "check_golden_predictions", lambda *_: (_ for _ in ()).throw(SystemExit(143)))
        with pytest.raises(SystemExit):
            run.deploy()
        assert model_versions.by_alias(run.client, "toy", model_versions.CHAMPION) is None
        while server.get("/ready").status_code != 503:
            time.sleep(0.05)

    def test_a_champion_stays_if_its_repeated_deployment_fails(
        self, monkeypatch: pytest.MonkeyPatch, server: Server
    ) -> None:
        run = Pipeline(monkeypatch, SERVING_URLS=server.url)
        run.deploy()

        def fail(*_: object) -> None:
            raise UserError("it did not respond in time")

        monkeypatch.setattr(rollout, "wait_for_version", fail)
        with pytest.raises(UserError, match="it did not respond in time"):
            run.deploy_version()
        assert model_versions.by_alias(run.client, "toy", model_versions.CHAMPION) is not None

    def test_a_port_of_another_program_is_an_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler) as other:
            threading.Thread(target=other.serve_forever, daemon=True).start()
            url = f"http://127.0.0.1:{other.server_port}"
            with pytest.raises(UserError, match=f"the program at {url} is not a prediction server of this project"):
                Pipeline(monkeypatch, SERVING_URLS=url).deploy()
            other.shutdown()
        assert model_versions.by_alias(connection.open_client(), "toy", model_versions.CHAMPION) is None

    def test_a_port_of_a_program_without_http_is_an_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def disconnect(listener: socket.socket) -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                connection.sendall(b"220 mail\r\n")
                connection.close()

        with socket.create_server(("127.0.0.1", 0)) as listener:
            threading.Thread(target=disconnect, args=(listener,), daemon=True).start()
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            with pytest.raises(UserError, match="is not a prediction server of this project"):
                Pipeline(monkeypatch, SERVING_URLS=url).deploy()
            listener.shutdown(socket.SHUT_RDWR)

    def test_a_server_of_another_registry_is_an_error(self, monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
        run = Pipeline(monkeypatch, SERVING_URLS=server.url)
        server.set_registry("toy@1")
        with pytest.raises(UserError, match="is in use by a server of another model or registry"):
            run.deploy()

    def test_a_server_on_another_machine_is_not_started(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(UserError, match="no server answers at http://ct.invalid:8000"):
            Pipeline(monkeypatch, SERVING_URLS="http://ct.invalid:8000").deploy()
