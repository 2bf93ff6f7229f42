"""Serving and deploying: a real server on a free port, following a real registry."""

from __future__ import annotations

import http.server
import json
import shutil
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from cloud.tracking import Tracking
from continuous_training.errors import UserError
from continuous_training.registry import connection, model_versions
from continuous_training.serving import local_server as daemon
from continuous_training.serving.following.assignment import Copy
from continuous_training.serving.following.cache import Cache
from continuous_training.serving.rollout import rollout
from continuous_training.stages import deploy
from continuous_training.versions import golden_predictions, loading
from pipeline import Pipeline
from server import Server
from toy import change

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("tracked")

ROWS = {"columns": ["shade", "x", "y"], "data": [["red", 1.5, None], ["blue", -2.0, 0.25]]}


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        yield running


def offline(version: model_versions.Version, rows: dict[str, Any]) -> np.ndarray:
    import pandas as pd

    return loading.load(version.uri, ("numpy.dtype",)).predict_proba(
        pd.DataFrame(rows["data"], columns=rows["columns"])
    )


class TestServer:
    def test_without_a_champion_it_says_so_and_asks_to_come_back(self, server: Server) -> None:
        assert server.get("/health").json()["status"] == "no champion"
        assert server.get("/ready").status_code == 503
        assert server.get("/ping").status_code == 503
        refused = server.ask(dataframe_split=ROWS)
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")

    def test_it_follows_the_champion_without_a_restart(self, monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
        first = Pipeline(monkeypatch).promote()
        server.wait_for("1")
        answer = server.ask(dataframe_split=ROWS)
        assert answer.headers["X-Model-Version"] == "1"
        assert np.allclose(answer.json()["predictions"], offline(first, ROWS))
        Pipeline(monkeypatch, FORCE="true").promote(compare=False)
        server.wait_for("2")
        assert server.ask(dataframe_split=ROWS).headers["X-Model-Version"] == "2"

    def test_a_version_that_does_not_load_leaves_the_old_one_serving(
        self, monkeypatch: pytest.MonkeyPatch, server: Server, tracked: Path
    ) -> None:
        Pipeline(monkeypatch).promote()
        server.wait_for("1")
        run = Pipeline(monkeypatch, FORCE="true")
        run.register(compare=False)
        newest = max((tracked / ".ct/artifacts").rglob("model.skops"), key=lambda path: path.stat().st_mtime_ns)
        newest.write_bytes(b"rotten")
        run.promote_version()
        server.wait_for_failure()
        assert server.get("/health").json()["model_version"] == "1"
        assert server.ask(dataframe_split=ROWS).status_code == 200

    def test_a_version_that_answers_otherwise_than_offline_leaves_the_old_one_serving(
        self, monkeypatch: pytest.MonkeyPatch, server: Server, tracked: Path
    ) -> None:
        Pipeline(monkeypatch).promote()
        server.wait_for("1")
        run = Pipeline(monkeypatch, FORCE="true")
        run.register(compare=False)
        (kept,) = (tracked / ".ct/artifacts").rglob(f"{run.candidate.run_id}/artifacts/{golden_predictions.FILE}")
        told = json.loads(kept.read_text())
        told["predictions"][0][0] += 0.001
        kept.write_text(json.dumps(told))
        run.promote_version()
        assert "answers otherwise than offline" in server.wait_for_failure()
        assert server.ask(dataframe_split=ROWS).headers["X-Model-Version"] == "1"

    def test_servers_of_one_machine_download_a_version_at_once_and_each_has_the_whole_of_it(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        version = Pipeline(monkeypatch).promote()
        copy = Copy(identity="toy@1", name="toy", number=version.number, run_id=version.run_id)
        caches = [Cache("toy") for _ in range(6)]
        with ThreadPoolExecutor(len(caches)) as servers:
            list(servers.map(lambda cache: cache.fetch(copy), caches))
        assert all(cache.golden(copy)[1] for cache in caches)
        place = caches[0].place(copy)
        assert (place / "model" / "MLmodel").exists()
        assert [path.name for path in place.parent.iterdir()] == ["1"]

    def test_a_rollback_needs_nothing_to_be_loaded(
        self, monkeypatch: pytest.MonkeyPatch, server: Server, tracked: Path
    ) -> None:
        run = Pipeline(monkeypatch)
        run.promote()
        server.wait_for("1")
        Pipeline(monkeypatch, FORCE="true").promote(compare=False)
        server.wait_for("2")
        for folder in (".ct/artifacts", ".ct/serving"):
            (tracked / folder).rename(tracked / f"{folder}.gone")
        (tracked / ".ct/serving").mkdir()
        run.client.set_registered_model_alias("toy", model_versions.CHAMPION, "1")
        server.wait_for("1")
        assert server.ask(dataframe_split=ROWS).headers["X-Model-Version"] == "1"


@pytest.mark.integration(seconds=20)
def test_without_its_registry_it_goes_on_and_starts_again_with_what_it_served_last(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory, empty_mlflow: Path
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    folder = tmp_path_factory.mktemp("tracking")
    shutil.copy(empty_mlflow, folder)
    with ExitStack() as up:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", up.enter_context(Tracking(folder)).uri)
        Pipeline(monkeypatch).promote()
        with Server() as first:
            first.wait_for("1")
            offline = first.ask(dataframe_split=ROWS).json()
            up.close()
            first.wait_for_failure()
            assert first.ask(dataframe_split=ROWS).json() == offline
    with Server() as second:
        second.wait_for("1")
        assert second.ask(dataframe_split=ROWS).json() == offline
        assert "cannot be used" in second.wait_for_failure()


class TestDeploy:
    def test_the_candidate_becomes_champion_when_every_server_answers_with_it(
        self, monkeypatch: pytest.MonkeyPatch, server: Server
    ) -> None:
        with Server() as other:
            made = Pipeline(monkeypatch, SERVING_URLS=f"{server.url},{other.url}").deploy()
        assert (made.model_version, made.previous_version, len(made.servers)) == ("1", None, 2)
        assert Pipeline(monkeypatch).make_plan().decision == "nothing"

    def test_other_answers_than_offline_take_the_alias_back(
        self, monkeypatch: pytest.MonkeyPatch, server: Server
    ) -> None:
        first = Pipeline(monkeypatch).promote()
        change("C: 1.0", "C: 0.5")
        run = Pipeline(monkeypatch, SERVING_URLS=server.url)
        run.register(compare=False)
        rows, answers = golden_predictions.read_golden_predictions(run.candidate.run_id)
        other = SimpleNamespace(kept=lambda _: (rows, (np.asarray(answers) + 0.001).tolist()))
        monkeypatch.setattr(deploy, "golden", other)  # the server's own copy is as it was
        with pytest.raises(UserError, match="otherwise, by up to 0.001; version 1 is champion again"):
            run.deploy_version()
        champion = model_versions.by_alias(run.client, "toy", model_versions.CHAMPION)
        assert champion is not None
        assert champion.number == first.number

    def test_an_abort_while_servers_follow_takes_the_alias_back(
        self, monkeypatch: pytest.MonkeyPatch, server: Server
    ) -> None:
        run = Pipeline(monkeypatch, SERVING_URLS=server.url)
        monkeypatch.setattr(rollout, "check_golden", lambda *_: (_ for _ in ()).throw(SystemExit(143)))
        with pytest.raises(SystemExit):
            run.deploy()
        assert model_versions.by_alias(run.client, "toy", model_versions.CHAMPION) is None
        while server.get("/ready").status_code != 503:
            time.sleep(0.05)

    def test_a_proven_champion_stays_when_its_deployment_is_repeated_and_fails(
        self, monkeypatch: pytest.MonkeyPatch, server: Server
    ) -> None:
        run = Pipeline(monkeypatch, SERVING_URLS=server.url)
        run.deploy()
        monkeypatch.setattr(rollout, "wait", lambda *_: (_ for _ in ()).throw(UserError("it did not answer in time")))
        with pytest.raises(UserError, match="it did not answer in time"):
            run.deploy_version()
        assert model_versions.by_alias(run.client, "toy", model_versions.CHAMPION) is not None

    def test_a_port_taken_by_something_else_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler) as stranger:
            threading.Thread(target=stranger.serve_forever, daemon=True).start()
            url = f"http://127.0.0.1:{stranger.server_port}"
            with pytest.raises(UserError, match=f"{url} is taken by something that is not this project's server"):
                Pipeline(monkeypatch, SERVING_URLS=url).deploy()
            stranger.shutdown()
        assert model_versions.by_alias(connection.open_client(), "toy", model_versions.CHAMPION) is None

    def test_a_port_where_something_listens_but_speaks_no_http_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def hang_up(listening: socket.socket) -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                connection.sendall(b"220 mail\r\n")
                connection.close()

        with socket.create_server(("127.0.0.1", 0)) as listening:
            threading.Thread(target=hang_up, args=(listening,), daemon=True).start()
            url = f"http://127.0.0.1:{listening.getsockname()[1]}"
            with pytest.raises(UserError, match="is taken by something that is not this project's server"):
                Pipeline(monkeypatch, SERVING_URLS=url).deploy()
            listening.shutdown(socket.SHUT_RDWR)

    def test_a_server_of_another_registry_is_named(self, monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
        run = Pipeline(monkeypatch, SERVING_URLS=server.url)
        server.belong_to("toy@1")
        with pytest.raises(UserError, match="is taken by a server of another model or registry"):
            run.deploy()

    def test_a_server_elsewhere_that_does_not_answer_is_not_started_here(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(UserError, match="no server answers at http://ct.invalid:8000"):
            Pipeline(monkeypatch, SERVING_URLS="http://ct.invalid:8000").deploy()


def test_stop_says_when_no_server_runs() -> None:
    assert daemon.stop() is None
