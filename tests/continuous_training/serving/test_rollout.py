"""A version's way to the servers: as shadow and canary beside the champion, then watched in its place; all real."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from collections import Counter
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import requests
import yaml

from conftest import wait_until
from continuous_training.documents import Deployment, Stopwatch
from continuous_training.errors import UserError
from continuous_training.registry import model_versions
from continuous_training.serving import exposure
from continuous_training.serving import local_server as daemon
from continuous_training.serving.exposure import Exposure
from continuous_training.serving.http.authentication import Tokens
from continuous_training.serving.rollout import client as questions
from continuous_training.serving.rollout import rollout
from continuous_training.settings import RolloutPhase, Serving, load_settings
from continuous_training.stages import roll_back
from continuous_training.versions import golden_predictions
from listening import Heard, listening
from pipeline import Pipeline
from server import Processes, Server
from toy import MODEL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Candidate = Callable[..., Pipeline]

pytestmark = pytest.mark.usefixtures("tracked")

DATABASE, TRAINING, SOURCE = Path(".ct/mlflow.db"), Path("src/toy/training.yaml"), Path("src/toy/model.py")
TOKEN = "a-token-of-the-pipeline"
ROW, STRANGE = {"shade": "red", "x": 1.5, "y": None}, {"shade": "violet", "x": 1.5, "y": None}
FOR_LONG = {"share": 1.0, "seconds": 600}  # so long that a test which waits for its end is one that fails

GOOD = MODEL.replace("**parameters))", "**parameters | {'C': 0.9}))")
PICKY = MODEL.replace('handle_unknown="ignore"', 'handle_unknown="error"')  # it raises for a category that is new
CONSTANT = """
from sklearn.dummy import DummyClassifier


def build(categories, numbers, **parameters):
    return DummyClassifier(strategy="most_frequent")
"""
CANDIDATES = {"good": GOOD, "picky": PICKY, "constant": CONSTANT, "rotten": GOOD}


@pytest.fixture(scope="module")
def registered(tracked_module: pytest.MonkeyPatch) -> tuple[dict[str, Pipeline], bytes]:
    """Make a champion, version 1, and candidates; nobody has deployed them."""
    champion = Pipeline(tracked_module)
    champion.promote(compare=False)
    made = {"champion": champion}
    for name, source in CANDIDATES.items():
        SOURCE.write_text(source)
        for module in [module for module in sys.modules if module.partition(".")[0] == "toy"]:
            tracked_module.delitem(sys.modules, module)
        made[name] = Pipeline(tracked_module, FORCE="true")
        made[name].register(compare=False)
    (stored,) = Path(".ct/artifacts").rglob(f"{model_id(made['rotten'])}/artifacts/model.skops")
    stored.write_bytes(b"rotten")
    return made, DATABASE.read_bytes()


def model_id(run: Pipeline) -> str:
    return run.candidate.model_uri.removeprefix("models:/")


@pytest.fixture
def runs(registered: tuple[dict[str, Pipeline], bytes], tracked: Path) -> dict[str, Pipeline]:
    """Begin where they are registered, in a workspace of this test's own, before any server opens the database."""
    made, database = registered
    (tracked / DATABASE).write_bytes(database)
    return made


@pytest.fixture
def candidate(runs: dict[str, Pipeline], monkeypatch: pytest.MonkeyPatch) -> Candidate:
    """Begin where a candidate is registered, with a section `serving`."""

    def candidate(name: str, **serving: Any) -> Pipeline:
        told = yaml.safe_load(TRAINING.read_text()) | {"serving": {"watch_seconds": 0, "min_requests": 10} | serving}
        TRAINING.write_text(yaml.safe_dump(told))
        run = Pipeline(monkeypatch)
        run.candidate, run.verdict, run.registration = runs[name].candidate, runs[name].verdict, runs[name].registration
        return run

    return candidate


@pytest.fixture
def server(runs: dict[str, Pipeline], monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:  # noqa: ARG001
    with Server() as running:
        monkeypatch.setenv("SERVING_URLS", running.url)
        yield running


def number_of(run: Pipeline) -> str:
    return run.registration.model_version


@contextmanager
def asked(url: str, *rows: dict[str, Any], **headers: str) -> Iterator[list[requests.Response]]:
    """Have a client ask for each of these rows, again and again; yields its answers so far."""
    answers: list[requests.Response] = []
    gone = threading.Event()

    def ask() -> None:
        while not gone.is_set():
            for row in rows:
                body = {"dataframe_records": [row]}
                answers.append(requests.post(f"{url}/invocations", json=body, headers=headers, timeout=10))

    wait_until(lambda: requests.get(f"{url}/ready", timeout=10).ok, "there is a champion to ask")
    client = threading.Thread(target=ask)
    client.start()
    try:
        yield answers
    finally:
        gone.set()
        client.join()


def versions(answers: list[requests.Response]) -> Counter[tuple[int, str | None]]:
    return Counter((answer.status_code, answer.headers.get("X-Model-Version")) for answer in answers)


@pytest.mark.usefixtures("server")
class TestRehearse:
    def test_a_good_version_becomes_champion_and_what_was_seen_of_it_is_kept(
        self, candidate: Candidate, server: Server, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        beside = {"share": 0.5, "seconds": 2}
        run = candidate("good", shadow=beside, canary=beside, watch_seconds=2, max_milliseconds=10_000)
        with asked(server.url, ROW) as answers:
            made = run.deploy_version()
        assert made.shadow is not None
        assert made.canary is not None
        assert made.watch is not None
        for seen in (made.shadow, made.canary, made.watch):
            assert seen.requests >= 10
            assert seen.error_share == 0
            assert seen.milliseconds is not None
        assert (made.shadow.agreement, made.canary.agreement, made.watch.agreement) == (1, 1, None)
        assert run.aliases["champion"] == number_of(run)
        assert set(versions(answers)) == {(200, "1"), (200, number_of(run))}
        assert f"Version {number_of(run)} is canary for 50% of the requests, for 2 s" in caplog.messages
        assert any(line.startswith(f"Version {number_of(run)} as canary: ") for line in caplog.messages)

    def test_a_canary_that_fails_for_some_rows_is_refused_and_no_client_hears_of_it(
        self, candidate: Candidate, server: Server
    ) -> None:
        run = candidate("picky", canary={"share": 0.5, "seconds": 600})
        refused = (
            rf"^version {number_of(run)} is refused as canary: .*% of \d+ requests failed, and .*max_error_share is"
        )
        with asked(server.url, ROW, STRANGE) as answers, pytest.raises(UserError, match=refused):
            run.deploy_version()
        found = versions(answers)
        assert set(found) == {(200, "1"), (200, number_of(run))}
        assert run.aliases["champion"] == "1"
        wait_until(lambda: server.get("/version").json()["beside"] is None, "the canary is gone")
        assert exposure.TAG not in model_versions.registered_model(run.client, "toy").tags

    def test_a_shadow_that_disagrees_is_refused_and_no_client_was_answered_by_it(
        self, candidate: Candidate, server: Server
    ) -> None:
        run = candidate("constant", shadow={"share": 1.0, "seconds": 2})
        refused = r"is refused as shadow: it agrees with the champion on [45]\d(\.\d)?% of \d+ rows"
        late, early = {"shade": "red", "x": 5.0, "y": 0.0}, {"shade": "red", "x": -5.0, "y": 0.0}
        with asked(server.url, late, early) as answers, pytest.raises(UserError, match=refused):
            run.deploy_version()
        assert set(versions(answers)) == {(200, "1")}

    def test_one_that_is_slower_than_its_limit_is_refused(self, candidate: Candidate, server: Server) -> None:
        run = candidate("good", canary=FOR_LONG, max_milliseconds=0.001)
        refused = "1% of .* requests took .* ms or longer, and serving.max_milliseconds is 0.001"
        with asked(server.url, ROW), pytest.raises(UserError, match=refused):
            run.deploy_version()

    def test_what_nobody_asked_is_not_judged_and_said_so(
        self, candidate: Candidate, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        run = candidate("picky", shadow={"share": 1.0, "seconds": 0.1}, watch_seconds=0.1)
        made = run.deploy_version()
        nothing = Deployment.Observation(requests=0, error_share=None, milliseconds=None)
        assert (made.shadow, made.canary, made.watch) == (nothing, None, nothing)
        assert f"Version {number_of(run)} as champion: 0 requests, too few to judge by" in caplog.messages

    def test_without_a_champion_there_is_nothing_to_stand_beside(
        self, candidate: Candidate, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        run = candidate("good", shadow=FOR_LONG, canary=FOR_LONG)
        run.client.delete_registered_model_alias("toy", model_versions.CHAMPION)
        run.verdict = run.verdict.model_copy(update={"champion": None})
        made = run.deploy_version()
        assert (made.model_version, made.shadow, made.canary) == (number_of(run), None, None)
        assert "is no canary first: there is no champion to stand beside" in caplog.text

    def test_a_champion_that_is_deployed_again_stands_there_already(self, candidate: Candidate) -> None:
        run = candidate("champion", canary=FOR_LONG)
        run.verdict = run.verdict.model_copy(update={"champion": "1"})
        assert run.deploy_version().canary is None

    def test_one_that_was_rolled_back_is_shown_to_nobody(
        self, candidate: Candidate, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = candidate("good", canary=FOR_LONG)
        run.client.set_model_version_tag("toy", number_of(run), model_versions.ROLLED_BACK_BECAUSE, "nonsense")
        monkeypatch.setattr(Exposure, "begin", lambda *_: pytest.fail("it was shown"))
        with pytest.raises(UserError, match="was rolled back .nonsense.: it is promoted again only with FORCE=true"):
            run.deploy_version()

    def test_one_that_a_server_cannot_take_up_is_refused_with_the_reason(
        self, candidate: Candidate, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(rollout, "FAILING_SECONDS", 0)
        run = candidate("rotten", canary=FOR_LONG)
        refused = f"{server.url} did not take up version {number_of(run)} as canary in .* s: .+"
        with pytest.raises(UserError, match=refused):
            run.deploy_version()
        assert run.aliases["champion"] == "1"

    def test_an_abort_leaves_the_champion_alone(self, candidate: Candidate, monkeypatch: pytest.MonkeyPatch) -> None:
        run = candidate("good", canary=FOR_LONG)
        monkeypatch.setattr(rollout.observation, "read", lambda _: (_ for _ in ()).throw(SystemExit(143)))
        with pytest.raises(SystemExit):
            run.deploy_version()
        assert exposure.TAG not in model_versions.registered_model(run.client, "toy").tags

    def test_a_turn_lasts_as_long_as_all_that_is_to_be_seen_in_it(self) -> None:
        hour = RolloutPhase(share=0.1, seconds=3600)
        short, long = Serving(watch_seconds=0), Serving(watch_seconds=7200, shadow=hour, canary=hour)
        assert rollout.longest(2, long) >= rollout.longest(2, short) + 7200 + 3600 + 3600
        assert rollout.longest(3, long) > rollout.longest(2, long)


class TestKilled:
    """A deployment that is killed cannot end what it has begun: it ends by itself."""

    def test_an_exposure_whose_time_has_passed_is_none(self, candidate: Candidate, server: Server) -> None:
        run = candidate("good")
        server.wait_for("1")
        soon = datetime.now(UTC) + timedelta(seconds=4)
        Exposure(version=number_of(run), role="canary", share=1, until=soon).begin(run.client, "toy")
        with asked(server.url, ROW) as answers:
            wait_until(lambda: (200, number_of(run)) in versions(answers), "the canary answers")
            wait_until(lambda: answers[-1].headers["X-Model-Version"] == "1", "the champion answers again")
            wait_until(lambda: server.get("/version").json()["beside"] is None, "the canary is gone")
        assert datetime.now(UTC) > soon
        assert set(versions(answers)) == {(200, "1"), (200, number_of(run))}

    def test_what_a_rehearsal_begins_has_an_end_from_the_first_moment(
        self, candidate: Candidate, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = candidate("good")
        monkeypatch.setattr(rollout, "FOLLOW_SECONDS", 5)
        monkeypatch.setattr(rollout, "SLACK_SECONDS", 0)
        monkeypatch.setattr(exposure, "end", lambda *_: None)  # as in a process that is not there any more
        exposed, given = RolloutPhase(share=1, seconds=0.1), load_settings("toy").serving
        rollout.rehearse(run.client, "toy", number_of(run), "canary", exposed, [server.url], given)
        assert exposure.TAG in model_versions.registered_model(run.client, "toy").tags
        wait_until(lambda: server.get("/version").json()["beside"] is None, "the canary is gone")

    @pytest.fixture
    def left(self, candidate: Candidate, server: Server) -> Pipeline:
        """Leave a canary for an hour, of another candidate."""
        run = candidate("good")
        another, later = candidate("constant"), datetime.now(UTC) + timedelta(hours=1)
        Exposure(version=number_of(another), role="canary", share=1, until=later).begin(run.client, "toy")
        wait_until(lambda: server.get("/version").json()["beside"], "the canary is there")
        return run

    def test_the_next_deployment_is_not_answered_by_a_canary_of_the_one_before(self, left: Pipeline) -> None:
        assert left.deploy_version().model_version == number_of(left)

    def test_a_rollback_takes_a_canary_away_too(self, left: Pipeline) -> None:
        left.promote_version()
        made, silent = roll_back.roll_back(left.client, "toy", "it predicts nonsense", Stopwatch("ct-9"))
        assert (made.model_version, silent) == ("1", [])


class TestWatch:
    def test_a_champion_that_fails_for_some_rows_gives_its_place_back(
        self, candidate: Candidate, server: Server
    ) -> None:
        run = candidate("picky", watch_seconds=600)
        refused = r"is refused as champion: .*% of \d+ requests failed, and .*; version 1 is champion again$"
        with asked(server.url, ROW, STRANGE), pytest.raises(UserError, match=refused):
            run.deploy_version()
        assert run.aliases["champion"] == "1"

    def test_it_is_asked_its_golden_rows_meanwhile_and_one_wrong_answer_is_enough(
        self, candidate: Candidate, server: Server
    ) -> None:
        run = candidate("champion")
        server.wait_for("1")
        rows, answers = golden_predictions.read_golden_predictions(run.candidate.run_id)
        given = Serving(watch_seconds=600)
        with pytest.raises(UserError, match="otherwise, by up to 0.001"):
            rollout.watch([server.url], "1", given, rows, (np.asarray(answers) + 0.001).tolist())
        with pytest.raises(UserError, match="answers the golden rows of version 2 with version 1"):
            rollout.watch([server.url], "2", given, rows, answers)
        with pytest.raises(UserError, match=f"{server.url} refuses the golden rows of version 1: .*«shade» is missing"):
            rollout.watch([server.url], "1", given, {"columns": ["y"], "data": [[0.5]]}, answers)

    def test_a_server_that_goes_away_meanwhile_is_told(self, candidate: Candidate, server: Server) -> None:
        run = candidate("champion")
        server.wait_for("1")
        rows, answers = golden_predictions.read_golden_predictions(run.candidate.run_id)
        with ExitStack() as up:
            other = up.enter_context(Server())
            other.wait_for("1")
            ended = threading.Timer(0.5, up.close)
            ended.start()
            with pytest.raises(UserError, match=f"{other.url} does not answer the golden rows of version 1"):
                rollout.watch([server.url, other.url], "1", Serving(watch_seconds=600), rows, answers)
            ended.join()

    def test_its_own_questions_are_no_clients(self, candidate: Candidate, server: Server) -> None:
        run = candidate("champion", watch_seconds=2)
        with Server() as other:
            server.wait_for("1")
            other.wait_for("1")
            seen = rollout.watch(
                [server.url, other.url],
                "1",
                load_settings("toy").serving,
                *golden_predictions.read_golden_predictions(run.candidate.run_id),
            )
        assert seen.requests == 0


def test_its_own_questions_are_told_from_those_of_clients_by_their_ids() -> None:
    ids = []

    def answer(heard: Heard) -> tuple[int, str]:
        ids.append(heard.headers["X-Request-ID"])
        return 200, ""

    with listening(answer) as address:
        questions.ask(address, "/invocations", {})
    assert [found.startswith(questions.OWN) for found in ids] == [True]


class TestToken:
    @pytest.fixture
    def guarded(self, runs: dict[str, Pipeline], monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:  # noqa: ARG002
        with Server(tokens=Tokens.parse(f"pipeline:{TOKEN}")) as running:
            monkeypatch.setenv("SERVING_URLS", running.url)
            yield running

    def test_a_server_that_wants_one_gets_it_with_every_question(
        self, candidate: Candidate, guarded: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SERVING_TOKEN", TOKEN)
        beside = {"share": 1.0, "seconds": 0.1}
        made = candidate("good", shadow=beside, canary=beside, watch_seconds=0.1).deploy_version()
        assert made.servers == [guarded.url]

    @pytest.mark.parametrize(("token", "which"), [(None, "a"), ("", "a"), ("not-the-token-of-anybody", "another")])
    def test_without_the_right_one_it_is_asked_for(
        self, guarded: Server, monkeypatch: pytest.MonkeyPatch, token: str | None, which: str
    ) -> None:
        if token is not None:
            monkeypatch.setenv("SERVING_TOKEN", token)
        with pytest.raises(UserError, match=f"^{guarded.url} wants {which} token: set SERVING_TOKEN$"):
            questions.told(guarded.url)

    def test_a_line_end_around_it_is_no_part_of_it(self, guarded: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SERVING_TOKEN", f"{TOKEN}\n")
        assert questions.told(guarded.url)["model"] == "toy"

    @pytest.mark.parametrize("token", ["two words of a secret", "a\nsecret", "ein-schlüssel", "a\x00secret"])
    def test_what_can_be_none_is_refused_and_not_shown(
        self, guarded: Server, monkeypatch: pytest.MonkeyPatch, token: str
    ) -> None:
        monkeypatch.setattr(os, "environ", {**os.environ, "SERVING_TOKEN": token})  # \x00 can only be meant
        with pytest.raises(UserError, match="^SERVING_TOKEN is no token") as refused:
            questions.told(guarded.url)
        assert token not in str(refused.value)

    def test_a_netrc_of_the_machine_does_not_replace_it(
        self, guarded: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        (tmp_path / "netrc").write_text("machine 127.0.0.1 login somebody password else\n")
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        monkeypatch.setenv("SERVING_TOKEN", TOKEN)
        assert questions.told(guarded.url)["model"] == "toy"


class TestLastWords:
    @pytest.mark.parametrize(
        ("lines", "message"),
        [
            ([{"level": "INFO", "message": "one"}, {"message": "two", "pid": 7}], "one / two"),
            ([{"message": "it failed", "exception": "Traceback\n  at a\nValueError: no"}], "it failed: ValueError: no"),
            ([{"message": "Traceback\n  at a\nValueError: no"}], "ValueError: no"),
            (["ct: plain words", "3", '["a"]'], 'ct: plain words / 3 / ["a"]'),
            ([{"time": "now"}, '{"message": "cut o'], '{"time": "now"} / {"message": "cut o'),
            (["one", "two", "three", "four"], "two / three / four"),
            ([], ""),
        ],
        ids=["records", "exception", "traceback", "plain", "neither", "many", "nothing"],
    )
    def test_they_are_what_the_server_said_last(self, lines: list[Any], message: str) -> None:
        daemon.LOG.write_text("".join(f"{one if isinstance(one, str) else json.dumps(one)}\n" for one in lines))
        assert daemon.last_words() == message

    def test_a_server_that_has_not_said_anything_has_none(self) -> None:
        assert daemon.last_words() == ""


@pytest.mark.integration(seconds=30)
def test_two_workers_take_a_version_from_shadow_to_champion_while_clients_ask(
    candidate: Candidate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With tokens, as `ct serve` does it: every question of the deployment may reach another worker."""
    monkeypatch.setenv("SERVING_TOKEN", TOKEN)
    beside = {"share": 0.5, "seconds": 2}
    run = candidate("good", shadow=beside, canary=beside, watch_seconds=2, max_milliseconds=10_000)
    with Processes("--workers", "2", SERVING_TOKENS=f"pipeline:{TOKEN}") as server:
        monkeypatch.setenv("SERVING_URLS", server.url)
        wait_until(lambda: len(questions.told(server.url)["workers"]) == 2, "both workers answer")
        rollout.wait(server.url, "1")
        with asked(server.url, ROW, Authorization=f"Bearer {TOKEN}") as answers:
            made = run.deploy_version()
    for seen in (made.shadow, made.canary, made.watch):
        assert seen is not None
        assert seen.requests >= 10
        assert seen.error_share == 0
    assert set(versions(answers)) == {(200, "1"), (200, number_of(run))}
