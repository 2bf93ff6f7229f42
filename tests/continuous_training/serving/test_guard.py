"""The guard of the prediction server: whose token is right, how often one may ask, and what all others are told."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import re
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import requests
from fastapi import FastAPI, Request
from hypothesis import given
from hypothesis import strategies as st

from application import Application
from continuous_training.errors import UserError
from continuous_training.serving.http.authentication import EVERYBODY, Guard, RateLimit, Tokens

ALICE, BOB = "alices-token-0123456789", "bobs-token-0123456789"
BOTH = f"alice:{ALICE},bob:{BOB}"
SLOW = 1e-6  # requests a second: within a test nothing is made good

names = st.from_regex(r"[A-Za-z0-9._-]{1,15}", fullmatch=True)
tokens = st.from_regex(r"[A-Za-z0-9._~+/-]{16,60}={0,2}", fullmatch=True)
clients = st.lists(
    st.tuples(names, tokens), min_size=1, max_size=5, unique_by=(lambda pair: pair[0], lambda pair: pair[1])
)

MISTAKES: list[Callable[[list[tuple[str, str]]], list[tuple[str, str]]]] = [
    lambda pairs: [(token, name) for name, token in pairs],
    lambda pairs: [("", token) for _, token in pairs],
    lambda pairs: [(name, f"{token}:") for name, token in pairs],
    lambda pairs: [(name, f"{token}é") for name, token in pairs],
    lambda pairs: [*pairs, ("again", pairs[0][1])],
    lambda pairs: [*pairs, pairs[0]],
]


def written(pairs: list[tuple[str, str]]) -> str:
    return ",".join(f"{name}:{token}" for name, token in pairs)


def bearer(token: str) -> bytes:
    return f"Bearer {token}".encode()


class TestTokens:
    def test_without_any_everybody_may_ask(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("SERVING_TOKENS", raising=False)
        assert Tokens.from_environment() == Tokens()
        monkeypatch.setenv("SERVING_TOKENS", "")
        assert Tokens.from_environment() == Tokens()

    def test_they_come_from_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SERVING_TOKENS", f" alice:{ALICE},\n bob:{BOB}\n")
        assert Tokens.from_environment().names == ("alice", "bob")

    @given(pairs=clients, other=tokens)
    def test_each_token_is_its_clients_and_no_other_is_anybodys(self, pairs: list[tuple[str, str]], other: str) -> None:
        known = Tokens.parse(written(pairs))
        assert [known.name_of(bearer(token)) for _, token in pairs] == [name for name, _ in pairs]
        if other not in dict(pairs).values():
            assert known.name_of(bearer(other)) is None

    @pytest.mark.parametrize(
        ("header", "name"),
        [
            (None, None),
            (b"", None),
            (b"Bearer", None),
            (b"Bearer ", None),
            (ALICE.encode(), None),
            (b"Basic " + ALICE.encode(), None),
            (b"Bearer " + ALICE.encode() + b"x", None),
            (b"Bearer " + ALICE.encode()[:-1], None),
            (b"Bearer \xff\x00" + ALICE.encode(), None),
            (b"bearer " + ALICE.encode(), "alice"),
            (b"BEARER   " + BOB.encode() + b" ", "bob"),
        ],
    )
    def test_a_header_counts_if_it_is_a_bearer_token_of_ours(self, header: bytes | None, name: str | None) -> None:
        assert Tokens.parse(BOTH).name_of(header) == name

    @pytest.mark.parametrize("token", [ALICE, "carols-token-0123456789", BOB])
    def test_every_digest_is_compared_whoever_asks(self, monkeypatch: pytest.MonkeyPatch, token: str) -> None:
        known = Tokens.parse(f"{BOTH},dave:daves-token-0123456789")
        compare, compared = hmac.compare_digest, []
        monkeypatch.setattr(hmac, "compare_digest", lambda a, b: compared.append(a) or compare(a, b))
        known.name_of(bearer(token))
        assert compared == list(known.digests)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (ALICE, "entry 1 of SERVING_TOKENS has no name"),
            (f":{ALICE}", "entry 1 of SERVING_TOKENS has no name"),
            (f"alice:{ALICE},", "entry 2 of SERVING_TOKENS has no name"),
            (" ", "entry 1 of SERVING_TOKENS has no name"),
            (f"a lice:{ALICE}", "entry 1 of SERVING_TOKENS has no name of letters, digits"),
            (f"alice:{ALICE},bob:", "entry 2 of SERVING_TOKENS has a token shorter than 16 characters"),
            ("alice:only-15-letters", "entry 1 of SERVING_TOKENS has a token shorter than 16 characters"),
            (f"alice:{ALICE}:more", "entry 1 of SERVING_TOKENS has a token with more in it than"),
            (f"alice:{ALICE}é", "entry 1 of SERVING_TOKENS has a token with more in it than"),
            (f"alice:{ALICE} {BOB}", "entry 1 of SERVING_TOKENS has a token with more in it than"),
            (f"{BOTH},alice:carols-token-0123456789", "entry 3 of SERVING_TOKENS has the same name as entry 1"),
            (f"{BOTH},carol:{BOB}", "entry 3 of SERVING_TOKENS has the same token as entry 2"),
        ],
    )
    def test_what_is_wrong_with_an_entry_is_said_by_its_position(self, text: str, message: str) -> None:
        with pytest.raises(UserError, match=re.escape(message)):
            Tokens.parse(text)

    @given(text=st.text() | st.lists(st.text(":,aA1é\ud800 ")).map("token-".join))
    def test_whatever_is_written_there_is_read_or_refused(self, text: str) -> None:
        with suppress(UserError):
            Tokens.parse(text)

    @given(pairs=clients, mistake=st.sampled_from(MISTAKES))
    def test_no_error_has_a_token_in_it(
        self, pairs: list[tuple[str, str]], mistake: Callable[[list[tuple[str, str]]], list[tuple[str, str]]]
    ) -> None:
        with pytest.raises(UserError) as caught:
            Tokens.parse(written(mistake(pairs)))
        message = "".join(traceback.format_exception(caught.value))
        assert not [token for _, token in pairs if token in message]

    @given(pairs=clients)
    def test_no_token_is_kept(self, pairs: list[tuple[str, str]]) -> None:
        known = Tokens.parse(written(pairs))
        kept = f"{known!r} {vars(known)}"
        assert not [token for _, token in pairs if token in kept]


@pytest.fixture
def slots(tmp_path: Path) -> Path:
    return tmp_path / "rate"


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@contextmanager
def bucket(now: float, per_second: float, burst: float) -> Iterator[tuple[RateLimit, Clock]]:
    clock = Clock(now)
    with tempfile.TemporaryDirectory() as folder:
        yield RateLimit(Path(folder, "rate"), ["alice"], per_second, burst, clock=clock), clock


def check_every_window(moments: list[float], per_second: float, burst: float) -> None:
    """Assert that in none of the stretches between two of them there were more than a bucket holds and gains."""
    moments = sorted(moments)
    for first, start in enumerate(moments):
        for last, end in enumerate(moments[first:], start=1):
            assert last <= burst + per_second * (end - start + 2e-6)


rates = st.floats(0.01, 1000)
bursts = st.floats(1, 20)
uptimes = st.floats(0, 1e6)

TAKE = """
import json, sys, time
from pathlib import Path
from continuous_training.serving.http.authentication import RateLimit

seen = []
limit = RateLimit(Path(sys.argv[1]), ["alice", "bob"], 100, 20, clock=lambda: seen.append(time.monotonic()) or seen[-1])
print("ready", flush=True)
sys.stdin.readline()
taken, until = [], time.monotonic() + 0.5
while time.monotonic() < until:
    if limit.take("alice") == 0:
        taken.append(seen[-1])
print(json.dumps(taken))
"""

HANG = """
import sys, time
from pathlib import Path
from continuous_training.serving.http.authentication import RateLimit

def hang():
    print("in the middle", flush=True)
    time.sleep(600)

RateLimit(Path(sys.argv[1]), ["alice"], float(sys.argv[2]), 2, clock=hang).take("alice")
"""


def worker(script: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


class TestRateLimit:
    @given(
        now=uptimes,
        per_second=rates,
        burst=bursts,
        asked=st.lists(st.tuples(st.floats(0, 5), st.integers(1, 8)), max_size=20),
    )
    def test_in_no_stretch_of_time_more_than_the_burst_and_what_was_gained_meanwhile(
        self, now: float, per_second: float, burst: float, asked: list[tuple[float, int]]
    ) -> None:
        allowed = []
        with bucket(now, per_second, burst) as (limit, clock):
            for pause, times in asked:
                clock.now += pause / per_second
                allowed += [clock.now for _ in range(times) if limit.take("alice") == 0]
        check_every_window(allowed, per_second, burst)

    @given(now=uptimes, per_second=rates, burst=bursts, pauses=st.lists(st.floats(1.001, 5), max_size=30))
    def test_who_keeps_to_the_rate_is_never_refused(
        self, now: float, per_second: float, burst: float, pauses: list[float]
    ) -> None:
        with bucket(now, per_second, burst) as (limit, clock):
            for pause in pauses:
                assert limit.take("alice") == 0
                clock.now += pause / per_second

    @given(now=uptimes, per_second=rates, burst=st.integers(1, 20))
    def test_who_waits_as_long_as_told_is_let_in(self, now: float, per_second: float, burst: int) -> None:
        with bucket(now, per_second, burst) as (limit, clock):
            at_once = sum(limit.take("alice") == 0 for _ in range(burst + 2))
            wait = limit.take("alice")
            clock.now += wait * 0.99
            still = limit.take("alice")
            clock.now += wait * 0.01 + 1e-6
            assert (at_once, still > 0, limit.take("alice")) == (burst, True, 0)

    def test_each_client_has_a_bucket_of_its_own(self, slots: Path) -> None:
        limit = RateLimit(slots, ["alice", "bob"], SLOW, 2)
        assert [limit.take("alice") == 0 for _ in range(3)] == [True, True, False]
        assert [limit.take("bob") == 0 for _ in range(3)] == [True, True, False]

    def test_without_names_there_is_one_bucket_for_everybody(self, slots: Path) -> None:
        limit = RateLimit(slots, (), SLOW, 1)
        assert [limit.take(EVERYBODY) == 0 for _ in range(2)] == [True, False]

    def test_four_workers_together_allow_no_more_than_one_would(self, slots: Path) -> None:
        workers = [worker(TAKE, slots) for _ in range(4)]
        for each in workers:
            assert each.stdout is not None
            assert each.stdout.readline() == "ready\n"
        with ThreadPoolExecutor(len(workers)) as together:
            message = list(together.map(lambda each: each.communicate("go\n", timeout=60)[0], workers))
        taken = [moment for one in message for moment in json.loads(one)]
        assert len(taken) >= 20
        check_every_window(taken, 100, 20)
        assert RateLimit(slots, ["alice", "bob"], 100, 20).take("bob") == 0

    def test_workers_that_start_together_share_one_file(self, slots: Path) -> None:
        with ThreadPoolExecutor(8) as workers:
            for start in range(20):  # the moment in which two could begin it is short
                path = slots / str(start)
                limits = list(workers.map(lambda _, path=path: RateLimit(path, ["alice"], SLOW, 3), range(8)))
                assert sum(limit.take("alice") == 0 for limit in limits) == 3
        assert len(list(slots.iterdir())) == 20

    def test_threads_of_one_worker_do_not_get_into_each_others_way(self, slots: Path) -> None:
        limit = RateLimit(slots, ["alice"], SLOW, 500, clock=lambda: time.sleep(0) or 100.0)  # another thread's turn
        with ThreadPoolExecutor(8) as threads:
            assert sum(wait == 0 for wait in threads.map(lambda _: limit.take("alice"), range(2000))) == 500

    def test_a_worker_that_dies_in_the_middle_holds_nobody_up_and_takes_no_bucket_with_it(self, slots: Path) -> None:
        limit = RateLimit(slots, ["alice"], SLOW, 2)
        assert limit.take("alice") == 0
        with worker(HANG, slots, SLOW) as dying:
            assert dying.stdout is not None
            assert dying.stdout.readline() == "in the middle\n"
            dying.kill()
        assert [limit.take("alice") == 0 for _ in range(2)] == [True, False]

    def test_a_new_worker_finds_the_buckets_as_they_are(self, slots: Path) -> None:
        RateLimit(slots, ["alice"], SLOW, 1).take("alice")
        assert RateLimit(slots, ["alice"], SLOW, 1).take("alice") > 0

    @pytest.mark.parametrize("others", [["bob"], ["bob", "alice"]])
    def test_a_file_of_other_clients_is_begun_anew_and_goes_on_for_the_server_that_has_it(
        self, slots: Path, others: list[str]
    ) -> None:
        before = RateLimit(slots, ["alice"], SLOW, 1)
        before.take("alice")
        assert RateLimit(slots, others, SLOW, 1).take(others[-1]) == 0
        assert before.take("alice") > 0

    @pytest.mark.parametrize("rubbish", [b"", b"rubbish", bytes(72), b"\xff" * 200])
    def test_rubbish_in_its_place_is_begun_anew(self, slots: Path, rubbish: bytes) -> None:
        slots.write_bytes(rubbish)
        limit = RateLimit(slots, ["alice"], SLOW, 1)
        assert [limit.take("alice") == 0 for _ in range(2)] == [True, False]

    def test_after_the_machines_restart_nobody_waits_for_the_clock_to_catch_up(self, slots: Path) -> None:
        RateLimit(slots, ["alice"], 1, 1, clock=Clock(1e6)).take("alice")
        assert RateLimit(slots, ["alice"], 1, 1, clock=Clock(5)).take("alice") == 0

    def test_a_higher_rate_counts_from_the_next_start(self, slots: Path) -> None:
        clock = Clock(100)
        RateLimit(slots, ["alice"], SLOW, 1, clock=clock).take("alice")
        assert RateLimit(slots, ["alice"], 10, 1, clock=clock).take("alice") == 0

    @pytest.mark.parametrize(
        ("per_second", "burst"),
        [(0, 1), (-1, 1), (1, 0.5), (1, 0), (float("nan"), 1), (float("inf"), 1), (1, float("nan"))],
    )
    def test_a_limit_that_nobody_could_keep_is_refused(self, slots: Path, per_second: float, burst: float) -> None:
        with pytest.raises(UserError, match="give a rate above 0 and a burst of at least 1"):
            RateLimit(slots, ["alice"], per_second, burst)

    def test_a_place_that_cannot_be_written_is_named(self, slots: Path) -> None:
        slots.mkdir()
        with pytest.raises(UserError, match=f"the rate limit cannot be kept in {slots}: Is a directory"):
            RateLimit(slots, ["alice"], 1, 1)


class Running(Application):
    """A small application behind the guard, on a real server in a thread."""

    def __init__(self, known: Tokens, rate: RateLimit | None = None) -> None:
        self.refused: list[int] = []
        self.lived: list[str] = []
        guard = Guard(self._application(), known, rate, self.refused.append)
        super().__init__(guard, log_level="debug")

    def _application(self) -> FastAPI:
        @asynccontextmanager
        async def live(_: FastAPI) -> Any:
            self.lived.append("started")
            yield
            self.lived.append("stopped")

        app = FastAPI(lifespan=live)

        @app.api_route("/{path:path}", methods=["GET", "POST"])
        async def answer(path: str, request: Request) -> dict[str, Any]:
            return {"path": path, "client": getattr(request.state, "client", None), "bytes": len(await request.body())}

        return app

    def ask(self, path: str, token: str | None = None, method: str = "GET", body: bytes = b"") -> requests.Response:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return requests.request(method, f"{self.url}{path}", headers=headers, data=body, timeout=30)

    def predict(self, token: str | None = None) -> int:
        return self.ask("/predict", token, "POST").status_code


class TestGuard:
    def test_probes_need_no_token_and_all_else_does(self) -> None:
        with Running(Tokens.parse(BOTH)) as server:
            assert {server.ask(path).status_code for path in ("/health", "/ready", "/ping")} == {200}
            for path in ("/version", "/metrics", "/openapi.json", "/docs", "/", "/health/", "//health", "/health%2F.."):
                assert server.ask(path).status_code == 401, path
            for path in ("/predict", "/invocations"):
                assert server.ask(path, method="POST").status_code == 401, path

    def test_a_missing_and_a_wrong_token_get_the_same_answer(self) -> None:
        with Running(Tokens.parse(BOTH)) as server:
            missing, wrong = server.ask("/version"), server.ask("/version", "carols-token-0123456789")
        assert missing.json()["error_code"] == "UNAUTHENTICATED"
        assert "Authorization: Bearer" in missing.json()["message"]
        assert missing.headers["WWW-Authenticate"] == "Bearer"
        for answer in (missing, wrong):
            answer.headers.pop("Date")
        assert (missing.status_code, missing.headers, missing.content) == (
            wrong.status_code,
            wrong.headers,
            wrong.content,
        )

    def test_the_application_knows_whose_token_it_was(self) -> None:
        with Running(Tokens.parse(BOTH)) as server:
            assert server.ask("/version", BOB).json()["client"] == "bob"
            assert server.ask("/predict", ALICE, "POST", b"abc").json() == {
                "path": "predict",
                "client": "alice",
                "bytes": 3,
            }

    def test_a_server_that_has_no_state_gets_one(self) -> None:
        async def application(scope: Any, *_: object) -> None:
            seen.append(scope["state"])

        seen: list[Any] = []
        scope = {"type": "http", "path": "/version", "method": "GET", "headers": [(b"authorization", bearer(ALICE))]}
        asyncio.run(Guard(application, Tokens.parse(BOTH), None)(scope, None, None))  # type: ignore[arg-type]
        assert seen == [{"client": "alice"}]

    def test_without_tokens_everybody_may_ask(self) -> None:
        with Running(Tokens()) as server:
            assert server.ask("/version").json()["client"] is None
            assert server.ask("/version", ALICE).status_code == 200

    def test_who_sends_much_without_a_token_is_told_so_and_the_connection_goes_on(self) -> None:
        with Running(Tokens.parse(BOTH)) as server, requests.Session() as session:
            for _ in range(3):
                refused = session.post(f"{server.url}/predict", data=bytes(3_000_000), timeout=30)
                assert refused.json()["error_code"] == "UNAUTHENTICATED"

    def test_who_asks_too_often_is_told_when_to_come_back_and_others_are_answered(self, slots: Path) -> None:
        known = Tokens.parse(BOTH)
        with Running(known, RateLimit(slots, known.names, 0.01, 2, clock=Clock(100))) as server:
            assert [server.predict(ALICE) for _ in range(2)] == [200, 200]
            refused = server.ask("/invocations", ALICE, "POST")
            assert server.predict(BOB) == 200
        assert (refused.status_code, refused.json()["error_code"]) == (429, "RESOURCE_EXHAUSTED")
        assert refused.headers["Retry-After"] == "100"
        assert "ask again in 100 s" in refused.json()["message"]

    def test_whoever_must_wait_is_sent_away_for_a_whole_second_at_least(self, slots: Path) -> None:
        with Running(Tokens(), RateLimit(slots, (), 2, 1, clock=Clock(100))) as server:
            server.predict()
            assert server.ask("/predict", method="POST").headers["Retry-After"] == "1"

    def test_only_predictions_are_counted(self, slots: Path) -> None:
        known = Tokens.parse(BOTH)
        with Running(known, RateLimit(slots, known.names, SLOW, 1)) as server:
            for path in ("/version", "/metrics", "/predict"):
                assert [server.ask(path, ALICE).status_code for _ in range(2)] == [200, 200]
            assert [server.predict(ALICE) for _ in range(2)] == [200, 429]

    def test_wrong_tokens_use_nothing_up(self, slots: Path) -> None:
        known = Tokens.parse(BOTH)
        with Running(known, RateLimit(slots, known.names, SLOW, 1)) as server:
            assert [server.predict("carols-token-0123456789") for _ in range(3)] == [401] * 3
            assert server.predict(ALICE) == 200

    def test_without_tokens_all_take_from_one_bucket(self, slots: Path) -> None:
        with Running(Tokens(), RateLimit(slots, (), SLOW, 2)) as server:
            assert [server.predict(token) for token in (None, ALICE, BOB)] == [200, 200, 429]

    def test_every_refusal_is_counted(self, slots: Path) -> None:
        known = Tokens.parse(BOTH)
        with Running(known, RateLimit(slots, known.names, SLOW, 1)) as server:
            for token in (None, ALICE, ALICE, "carols-token-0123456789"):
                server.predict(token)
            assert server.refused == [401, 429, 401]

    def test_the_application_starts_and_stops_with_the_server(self) -> None:
        with Running(Tokens.parse(BOTH)) as server:
            assert server.lived == ["started"]
        assert server.lived == ["started", "stopped"]

    def test_a_websocket_is_closed_before_the_application_hears_of_it(self) -> None:
        async def application(*_: object) -> None:
            pytest.fail("it was asked")

        async def send(message: Any) -> None:
            sent.append(message)

        sent: list[Any] = []
        guard = Guard(application, Tokens(), None)
        asyncio.run(guard({"type": "websocket", "path": "/health", "headers": []}, None, send))  # type: ignore[arg-type]
        assert sent == [{"type": "websocket.close", "code": 1008}]

    def test_no_token_is_in_any_log(self, caplog: pytest.LogCaptureFixture, slots: Path) -> None:
        known = Tokens.parse(BOTH)
        with caplog.at_level(logging.DEBUG), Running(known, RateLimit(slots, known.names, SLOW, 1)) as server:
            for token in (ALICE, ALICE, "carols-token-0123456789"):
                server.predict(token)
        assert "/predict" in caplog.text
        assert "-token-0123456789" not in caplog.text
