"""The prediction server under a steady load, with every fault that could cost an answer: real processes, all of them.

Each answer is held against what its version says offline; what each fault has cost is printed at the end of the tests.
The benchmark of the same name does the same with many more requests.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

import faults
from faults import Found, Versions, Watched
from load import Load

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.integration(seconds=10)

REQUESTS = 300
SECONDS = 0.05  # of a call of a slow model
PAUSE = 0.05  # of each client between two requests: what starts meanwhile needs the machine too


@pytest.fixture(scope="module")
def versions(tracked_module: pytest.MonkeyPatch) -> Versions:
    return Versions(tracked_module, pause=PAUSE)


@pytest.fixture(scope="module")
def running(versions: Versions) -> Iterator[list[Watched]]:
    """Keep the servers of these tests, the newest last: to start one takes seconds."""
    versions.promote(*versions.good(1))
    servers: list[Watched] = []
    yield servers
    for server in servers:
        server.stop()


@pytest.fixture
def server(running: list[Watched], versions: Versions) -> Watched:
    """Have a server that follows: the one of the test before, unless that has ended or broken it."""
    (number,) = versions.good(1)
    versions.promote(number)
    if not running or not running[-1].is_well(number):
        running.append(Watched().__enter__())
    return running[-1]


@pytest.fixture
def judge(record_property: Callable[[str, object], None]) -> Callable[[Found], None]:
    """Write a line of the table of faults, and see that the fault has cost nothing but what it must."""

    def judge(found: Found) -> None:
        for name, value in found.row.items():
            record_property(name, value)
        assert found.wrongs == []

    return judge


Judge = Callable[[Found], None]


FAULTS = ["wrong", "unknown version", "error", "sent away for good", "sent away", "cut off"]


class Faulty(BaseHTTPRequestHandler):
    """Has one of these faults at each of the first rows, whose only cell is its number; the others it answers well."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        told = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        ((number,),) = told["dataframe_split"]["data"]
        fault = FAULTS[number] if number < len(FAULTS) else None
        if fault == "cut off":
            self.close_connection = True
            return
        status, version, answer, headers = 200, "1", float(number), {}
        if fault == "wrong":
            answer += 2e-9
        elif fault == "unknown version":
            version = "2"
        elif fault == "error":
            status = 500
        elif fault == "sent away for good":
            status = 503
        elif fault == "sent away" and not self.server.sent_away:
            status, headers, self.server.sent_away = 503, {"Retry-After": "0.01"}, True
        body = json.dumps({"predictions": [[answer]]}).encode()
        self.send_response(status)
        for name, value in {**headers, "X-Model-Version": version, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_the_load_itself_sees_each_answer_that_is_wrong_or_missing() -> None:
    rows = {"columns": ["x"], "data": [[number] for number in range(1000)]}
    with ThreadingHTTPServer(("127.0.0.1", 0), Faulty) as server:
        server.sent_away = False
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        with Load(url, rows, {"1": [[float(number)] for number in range(1000)]}, connections=1) as load:
            load.until(len(FAULTS))
        server.shutdown()
    counts = load.counts
    assert (counts.wrong, counts.refused, counts.broke, len(counts.lost)) == (2, 1, 1, 1)
    assert counts.others == {"500": 1, "503": 1}
    assert counts.failed == 3
    assert counts.versions == {"1": counts.answers - 1, "2": 1}


def test_promotions_and_a_rollback_cost_no_answer_and_every_champion_answers(
    server: Watched, versions: Versions, judge: Judge
) -> None:
    judge(faults.promotions(server, versions, 4 * REQUESTS, promoted=2, rolled_back=1))


def test_a_version_that_cannot_be_loaded_never_answers_and_the_old_one_does(
    server: Watched, versions: Versions, judge: Judge
) -> None:
    number = versions.rotten()
    judge(faults.bad_version(server, versions, REQUESTS, number=number, fault="a version that cannot be loaded"))


def test_a_version_that_answers_otherwise_than_offline_never_answers_and_the_old_one_does(
    server: Watched, versions: Versions, judge: Judge
) -> None:
    number, fault = versions.different(), "a version that answers otherwise than offline"
    judge(faults.bad_version(server, versions, REQUESTS, number=number, fault=fault, kills=False))


def test_a_worker_that_is_killed_costs_only_its_own_connections_and_is_replaced(
    server: Watched, versions: Versions, judge: Judge
) -> None:
    judge(faults.worker_killed(server, versions, REQUESTS, times=1))


def test_a_full_disk_of_the_predictions_log_costs_rows_of_the_log_and_no_answer(
    server: Watched, versions: Versions, judge: Judge
) -> None:
    judge(faults.log_disk_full(server, versions, REQUESTS))


def test_a_full_disk_keeps_nobody_from_following_when_there_is_room_again(
    server: Watched, versions: Versions, judge: Judge
) -> None:
    judge(faults.disk_full(server, versions, REQUESTS))


@pytest.mark.integration(seconds=30)
def test_without_its_registry_it_serves_on_and_says_so_and_follows_when_it_is_back(
    versions: Versions, judge: Judge
) -> None:
    judge(faults.registry_gone(versions, REQUESTS, seconds=0, workers=1))


def test_the_workers_of_a_supervisor_that_is_killed_end_and_leave_the_port(
    server: Watched, versions: Versions, judge: Judge
) -> None:
    judge(faults.supervisor_killed(server, versions, REQUESTS))


def test_more_requests_than_it_can_answer_are_sent_away_at_once_and_the_others_answered(
    versions: Versions, judge: Judge
) -> None:
    judge(faults.too_many(versions, REQUESTS, seconds=SECONDS))


def test_what_was_sent_before_a_sigterm_is_answered_before_it_ends(
    server: Watched, versions: Versions, judge: Judge
) -> None:
    number = versions.slow(SECONDS)
    judge(faults.ended(server, versions, REQUESTS, number=number, fault=f"SIGTERM, {SECONDS:g} s a call"))
