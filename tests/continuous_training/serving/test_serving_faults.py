"""Faults of the prediction server under a steady load, with real processes.

Each prediction is compared with its version's offline prediction; the effect of each fault is printed at the end of the
tests. The benchmark of the same name does the same with many more requests.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

import server_faults
from forked_python import ForkedPython
from load_generator import Load
from server_faults import FaultResult, MonitoredServer, ToyVersions

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.integration(seconds=10)

REQUESTS = 300
SECONDS = 0.05  # of a call of a slow model
PAUSE = 0.1  # seconds, of each client between two requests, which leaves CPU time to processes that start


@pytest.fixture(scope="module")
def versions(mlflow_workspace_patch: pytest.MonkeyPatch) -> ToyVersions:
    return ToyVersions(mlflow_workspace_patch, pause=PAUSE)


@pytest.fixture(scope="module")
def servers(versions: ToyVersions) -> Iterator[list[MonitoredServer]]:
    """The servers of these tests, the newest last: a start takes seconds."""
    versions.promote(*versions.good_versions(1))
    servers: list[MonitoredServer] = []
    yield servers
    for server in servers:
        server.stop()


@pytest.fixture
def server(servers: list[MonitoredServer], versions: ToyVersions) -> MonitoredServer:
    """Return the server of the previous test, or a new one if that test has ended or damaged it."""
    (number,) = versions.good_versions(1)
    versions.promote(number)
    if not servers or not servers[-1].is_usable(number):
        servers.append(MonitoredServer().__enter__())
    return servers[-1]


@pytest.fixture
def check(record_property: Callable[[str, object], None]) -> Callable[[FaultResult], None]:
    """Add a line to the table of faults, and check that the fault had no other effect than the permitted one."""

    def check(result: FaultResult) -> None:
        for name, value in result.row.items():
            record_property(name, value)
        assert result.errors == []

    return check


Check = Callable[[FaultResult], None]


FAULTS = ["wrong", "unknown version", "error", "rejected for good", "rejected", "disconnected"]


class FaultyHandler(BaseHTTPRequestHandler):
    """Has one fault for each of the first rows, whose only value is its index; other predictions are correct."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        document = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        ((number,),) = document["dataframe_split"]["data"]
        fault = FAULTS[number] if number < len(FAULTS) else None
        if fault == "disconnected":
            self.close_connection = True
            return
        status, version, value, headers = 200, "1", float(number), {}
        if fault == "wrong":
            value += 2e-9
        elif fault == "unknown version":
            version = "2"
        elif fault == "error":
            status = 500
        elif fault == "rejected for good":
            status = 503
        elif fault == "rejected" and not self.server.has_rejected:
            status, headers, self.server.has_rejected = 503, {"Retry-After": "0.01"}, True
        body = json.dumps({"predictions": [[value]]}).encode()
        self.send_response(status)
        for name, value in {**headers, "X-Model-Version": version, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


def test_the_load_counts_each_wrong_and_missing_prediction() -> None:
    rows = {"columns": ["x"], "data": [[number] for number in range(1000)]}
    with ThreadingHTTPServer(("127.0.0.1", 0), FaultyHandler) as server:
        server.has_rejected = False
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        with Load(url, rows, {"1": [[float(number)] for number in range(1000)]}, connections=1) as load:
            load.wait_for_predictions(len(FAULTS))
        server.shutdown()
    counts = load.counts
    assert (counts.wrong, counts.rejected, counts.broke, len(counts.lost)) == (2, 1, 1, 1)
    assert counts.errors == {"500": 1, "503": 1}
    assert counts.failed == 3
    assert counts.versions == {"1": counts.predictions - 1, "2": 1}


def test_promotions_and_a_rollback_lose_no_request_and_every_champion_predicts(
    server: MonitoredServer, versions: ToyVersions, check: Check
) -> None:
    check(server_faults.promote_and_roll_back(server, versions, 4 * REQUESTS, promotions=2, rollbacks=1))


def test_a_version_that_cannot_be_loaded_is_never_served(
    server: MonitoredServer, versions: ToyVersions, check: Check
) -> None:
    number = versions.register_corrupt()
    check(
        server_faults.promote_bad_version(
            server, versions, REQUESTS, number=number, fault="a version that cannot be loaded"
        )
    )


def test_a_version_with_other_predictions_than_offline_is_never_served(
    server: MonitoredServer, versions: ToyVersions, check: Check
) -> None:
    number, fault = versions.register_deviating(), "a version with other predictions than offline"
    check(server_faults.promote_bad_version(server, versions, REQUESTS, number=number, fault=fault, kill=False))


def test_a_killed_worker_is_replaced_and_only_its_own_connections_break(
    server: MonitoredServer, versions: ToyVersions, check: Check
) -> None:
    check(server_faults.kill_workers(server, versions, REQUESTS, times=1))


def test_a_full_disk_loses_rows_of_the_log_and_no_request(
    server: MonitoredServer, versions: ToyVersions, check: Check
) -> None:
    check(server_faults.fill_log_disk(server, versions, REQUESTS))


def test_after_a_full_disk_the_server_follows_again(
    server: MonitoredServer, versions: ToyVersions, check: Check
) -> None:
    check(server_faults.fill_disk(server, versions, REQUESTS))


@pytest.mark.integration(seconds=30)
def test_without_its_registry_the_server_continues_and_follows_afterwards(
    versions: ToyVersions, check: Check, forked_python: ForkedPython
) -> None:
    mlflow = forked_python.mlflow
    check(server_faults.kill_registry(versions, REQUESTS, seconds=0, workers=1, mlflow=mlflow))


def test_the_workers_of_a_killed_supervisor_end_and_release_the_port(
    server: MonitoredServer, versions: ToyVersions, check: Check
) -> None:
    check(server_faults.kill_supervisor(server, versions, REQUESTS))


def test_requests_beyond_the_queue_are_rejected_at_once(versions: ToyVersions, check: Check) -> None:
    check(server_faults.overload(versions, REQUESTS, seconds=SECONDS))


def test_requests_before_a_sigterm_get_predictions(
    server: MonitoredServer, versions: ToyVersions, check: Check
) -> None:
    number = versions.slow_version(SECONDS)
    check(server_faults.terminate(server, versions, REQUESTS, number=number, fault=f"SIGTERM, {SECONDS:g} s a call"))
