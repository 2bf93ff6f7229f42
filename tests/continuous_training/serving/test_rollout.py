"""The rollout of a version: as shadow and canary beside the champion, then under observation as champion."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections import Counter
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import requests
import yaml

from conftest import TIMEOUT, wait_until
from continuous_training.documents import Deployment, Stopwatch
from continuous_training.errors import UserError
from continuous_training.registry import model_versions
from continuous_training.serving.exposure import TAG, Exposure, read_exposure
from continuous_training.serving.http.tokens import Tokens
from continuous_training.serving.rollout import rollout
from continuous_training.serving.rollout.client import OWN_REQUEST_PREFIX, call_server, read_status
from continuous_training.settings import RolloutPhase, Serving
from continuous_training.stages import roll_back
from hostile import sign_again
from http_stub import Request, http_stub
from pipeline import Pipeline
from server import Server, ServerProcess
from stored_versions import read_golden_predictions
from toy import MODEL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Candidate = Callable[..., Pipeline]
    Responses = list[requests.Response]

pytestmark = pytest.mark.usefixtures("mlflow_workspace")

DATABASE, TRAINING, SOURCE = Path(".ct/mlflow.db"), Path("src/toy/training.yaml"), Path("src/toy/model.py")
TOKEN = "a-token-of-the-pipeline"
ROW, NEW_CATEGORY = {"shade": "red", "x": 1.5, "y": None}, {"shade": "violet", "x": 1.5, "y": None}
LONG_PHASE = {"share": 1.0, "seconds": 600}  # a test that waits for its end fails

GOOD = MODEL.replace("**parameters))", "**parameters | {'C': 0.9}))")
STRICT = MODEL.replace('handle_unknown="ignore"', 'handle_unknown="error"')  # it raises for a new category
CONSTANT = """
from sklearn.dummy import DummyClassifier


def build(categories, numbers, **parameters):
    return DummyClassifier(strategy="most_frequent")
"""
CANDIDATES = {"good": GOOD, "strict": STRICT, "constant": CONSTANT, "corrupt": GOOD}


@pytest.fixture(scope="module")
def runs_and_database(mlflow_workspace_patch: pytest.MonkeyPatch) -> tuple[dict[str, Pipeline], bytes]:
    """Register a champion, version 1, and candidates that are not deployed; return them and the registry's database."""
    champion = Pipeline(mlflow_workspace_patch)
    champion.promote(compare=False)
    runs = {"champion": champion}
    for name, source in CANDIDATES.items():
        SOURCE.write_text(source)
        for module in [module for module in sys.modules if module.partition(".")[0] == "toy"]:
            mlflow_workspace_patch.delitem(sys.modules, module)
        runs[name] = Pipeline(mlflow_workspace_patch, FORCE="true")
        runs[name].register(compare=False)
    model_id = runs["corrupt"].candidate.model_uri.removeprefix("models:/")
    (model,) = Path(".ct/artifacts").rglob(f"{model_id}/artifacts/model.skops")
    model.write_bytes(b"corrupt")
    sign_again(model.parent)
    return runs, DATABASE.read_bytes()


@pytest.fixture
def runs(runs_and_database: tuple[dict[str, Pipeline], bytes], mlflow_workspace: Path) -> dict[str, Pipeline]:
    """Copy the registry to the test's own workspace, before a server opens it."""
    runs, database = runs_and_database
    (mlflow_workspace / DATABASE).write_bytes(database)
    return runs


@pytest.fixture
def candidate(runs: dict[str, Pipeline], monkeypatch: pytest.MonkeyPatch) -> Candidate:
    """Return a function that starts a run with a registered candidate and its section `serving`."""

    def start_run(name: str, **serving: Any) -> Pipeline:
        training = yaml.safe_load(TRAINING.read_text())
        training["serving"] = {"watch_seconds": 0, "min_requests": 10} | serving
        TRAINING.write_text(yaml.safe_dump(training))
        run = Pipeline(monkeypatch)
        run.candidate, run.verdict, run.registration = runs[name].candidate, runs[name].verdict, runs[name].registration
        return run

    return start_run


@pytest.fixture
def server(runs: dict[str, Pipeline], monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:  # noqa: ARG001
    with Server() as server:
        monkeypatch.setenv("SERVING_URLS", server.url)
        yield server


def number_of(run: Pipeline) -> str:
    return run.registration.model_version


@contextmanager
def client(url: str, *rows: dict[str, Any], **headers: str) -> Iterator[Responses]:
    """Run a client that sends these rows repeatedly; yields the responses so far."""
    responses: Responses = []
    stop = threading.Event()

    def send() -> None:
        while not stop.is_set():
            for row in rows:
                body = {"dataframe_records": [row]}
                responses.append(requests.post(f"{url}/invocations", json=body, headers=headers, timeout=TIMEOUT))

    wait_until(lambda: requests.get(f"{url}/ready", timeout=TIMEOUT).ok, "there is a champion")
    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield responses
    finally:
        stop.set()
        thread.join()


@contextmanager
def clock_of_responses(responses: Responses) -> Iterator[None]:
    """Let a second of a rollout be one response to the client, so that phases do not depend on the machine's speed."""

    def sleep(seconds: float) -> None:
        end = len(responses) + seconds
        wait_until(lambda: len(responses) >= end, "the client gets responses")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rollout, "time", SimpleNamespace(monotonic=lambda: float(len(responses)), sleep=sleep))
        patch.setattr(rollout, "FOLLOW_SECONDS", 100_000)
        patch.setattr(rollout, "OBSERVATION_SECONDS", 20)
        yield


def count_versions(responses: Responses) -> Counter[tuple[int, str | None]]:
    return Counter((response.status_code, response.headers.get("X-Model-Version")) for response in responses)


def has_no_candidate(server: Server) -> bool:
    return server.get("/version").json()["beside"] is None


@pytest.mark.usefixtures("server")
class TestPhases:
    def test_a_good_version_becomes_champion_and_its_observations_are_stored(
        self, candidate: Candidate, server: Server, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        phase = {"share": 0.5, "seconds": 100}
        run = candidate("good", shadow=phase, canary=phase, watch_seconds=100, max_milliseconds=1e6)
        with client(server.url, ROW) as responses, clock_of_responses(responses):
            deployment = run.deploy_version()
        assert deployment.shadow is not None
        assert deployment.canary is not None
        assert deployment.watch is not None
        for observation in (deployment.shadow, deployment.canary, deployment.watch):
            assert observation.requests >= 10
            assert observation.error_share == 0
            assert observation.milliseconds is not None
        assert (deployment.shadow.agreement, deployment.canary.agreement, deployment.watch.agreement) == (1, 1, None)
        assert run.aliases["champion"] == number_of(run)
        assert set(count_versions(responses)) == {(200, "1"), (200, number_of(run))}
        assert f"Version {number_of(run)} is canary for 50% of the requests, for 100 s" in caplog.messages
        assert any(line.startswith(f"Version {number_of(run)} as canary: ") for line in caplog.messages)

    def test_a_canary_that_fails_for_some_rows_is_rejected_and_clients_get_no_errors(
        self, candidate: Candidate, server: Server
    ) -> None:
        run = candidate("strict", canary={"share": 0.5, "seconds": 600})
        message = rf"^version {number_of(run)} is refused as canary: .*% of \d+ requests failed; .*max_error_share is"
        with client(server.url, ROW, NEW_CATEGORY) as responses, pytest.raises(UserError, match=message):
            run.deploy_version()
        assert set(count_versions(responses)) == {(200, "1"), (200, number_of(run))}
        assert run.aliases["champion"] == "1"
        wait_until(lambda: has_no_candidate(server), "the canary is removed")
        assert TAG not in model_versions.registered_model(run.client, "toy").tags

    def test_a_shadow_that_disagrees_is_rejected_and_clients_do_not_get_its_predictions(
        self, candidate: Candidate, server: Server
    ) -> None:
        run = candidate("constant", shadow={"share": 1.0, "seconds": 60})
        message = r"is refused as shadow: it agrees with the champion on [45]\d(\.\d)?% of \d+ rows"
        late, early = {"shade": "red", "x": 5.0, "y": 0.0}, {"shade": "red", "x": -5.0, "y": 0.0}
        with (
            client(server.url, late, early) as responses,
            clock_of_responses(responses),
            pytest.raises(UserError, match=message),
        ):
            run.deploy_version()
        assert set(count_versions(responses)) == {(200, "1")}

    def test_a_version_that_is_slower_than_its_limit_is_rejected(self, candidate: Candidate, server: Server) -> None:
        run = candidate("good", canary=LONG_PHASE, max_milliseconds=0.001)
        message = "1% of .* requests took .* ms or longer; serving.max_milliseconds is 0.001"
        with client(server.url, ROW), pytest.raises(UserError, match=message):
            run.deploy_version()

    def test_a_version_without_requests_is_promoted_with_a_log_message(
        self, candidate: Candidate, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        run = candidate("strict", shadow={"share": 1.0, "seconds": 0.1}, watch_seconds=0.1)
        deployment = run.deploy_version()
        nothing = Deployment.Observation(requests=0, error_share=None, milliseconds=None)
        assert (deployment.shadow, deployment.canary, deployment.watch) == (nothing, None, nothing)
        assert any(
            line.startswith(f"Version {number_of(run)} as champion: 0 requests, too few") for line in caplog.messages
        )

    def test_without_a_champion_there_are_no_phases(self, candidate: Candidate) -> None:
        run = candidate("good", shadow=LONG_PHASE, canary=LONG_PHASE)
        run.client.delete_registered_model_alias("toy", model_versions.CHAMPION)
        run.verdict = run.verdict.model_copy(update={"champion": None})
        deployment = run.deploy_version()
        assert (deployment.model_version, deployment.shadow, deployment.canary) == (number_of(run), None, None)

    def test_a_champion_that_is_deployed_again_has_no_phases(self, candidate: Candidate) -> None:
        run = candidate("champion", canary=LONG_PHASE)
        run.verdict = run.verdict.model_copy(update={"champion": "1"})
        assert run.deploy_version().canary is None

    def test_a_version_that_was_rolled_back_is_not_exposed(
        self, candidate: Candidate, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = candidate("good", canary=LONG_PHASE)
        run.client.set_model_version_tag("toy", number_of(run), "ct.rolled_back", "nonsense")
        monkeypatch.setattr(Exposure, "publish", lambda *_: pytest.fail("it was exposed"))
        with pytest.raises(UserError, match="was rolled back .nonsense.: .*FORCE=true"):
            run.deploy_version()

    def test_a_version_that_a_server_cannot_load_is_rejected_with_the_reason(
        self, candidate: Candidate, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(rollout, "FAILURE_SECONDS", 0)
        run = candidate("corrupt", canary=LONG_PHASE)
        message = f"{server.url} did not load version {number_of(run)} as canary in .* s: .+"
        with pytest.raises(UserError, match=message):
            run.deploy_version()
        assert run.aliases["champion"] == "1"

    def test_an_abort_ends_the_exposure(self, candidate: Candidate, monkeypatch: pytest.MonkeyPatch) -> None:
        run = candidate("good", canary=LONG_PHASE)
        monkeypatch.setattr(rollout, "read_counters", lambda _: (_ for _ in ()).throw(SystemExit(143)))
        with pytest.raises(SystemExit):
            run.deploy_version()
        assert TAG not in model_versions.registered_model(run.client, "toy").tags

    def test_the_estimated_duration_includes_all_phases(self) -> None:
        hour = RolloutPhase(share=0.1, seconds=3600)
        short, long = Serving(watch_seconds=0), Serving(watch_seconds=7200, shadow=hour, canary=hour)
        estimate = rollout.estimate_max_seconds
        assert estimate(2, long) >= estimate(2, short) + 7200 + 3600 + 3600
        assert estimate(3, long) > estimate(2, long)


class TestKilledDeployment:
    """A deployment that is killed cannot end its exposure, which therefore expires."""

    def test_an_exposure_expires_by_itself(self, candidate: Candidate, server: Server) -> None:
        run = candidate("good")
        server.wait_for_version("1")
        exposure = Exposure(
            version=number_of(run), role="canary", share=1, until=datetime.now(UTC) + timedelta(hours=1)
        )
        with client(server.url, ROW) as responses:
            exposure.publish(run.client, "toy")
            wait_until(lambda: (200, number_of(run)) in count_versions(responses), "the canary predicts")
            until = datetime.now(UTC) + timedelta(seconds=1)
            exposure.model_copy(update={"until": until}).publish(run.client, "toy")
            wait_until(lambda: responses[-1].headers["X-Model-Version"] == "1", "the champion predicts again")
            wait_until(lambda: has_no_candidate(server), "the canary is removed")
        assert datetime.now(UTC) > until
        assert set(count_versions(responses)) == {(200, "1"), (200, number_of(run))}

    def test_a_phase_publishes_its_exposure_with_an_end(
        self, candidate: Candidate, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = candidate("good")
        monkeypatch.setattr(rollout, "end_exposure", lambda *_: None)  # as if the process were killed
        before = datetime.now(UTC)
        phase = RolloutPhase(share=1, seconds=0.1)
        rollout.run_phase(run.client, "toy", number_of(run), "canary", phase, [server.url], Serving())
        exposure = read_exposure(model_versions.registered_model(run.client, "toy").tags)
        assert exposure is not None
        seconds = rollout.FOLLOW_SECONDS + phase.seconds + rollout.CLOCK_TOLERANCE_SECONDS
        assert before < exposure.until <= datetime.now(UTC) + timedelta(seconds=seconds)

    @pytest.fixture
    def run_after_kill(self, candidate: Candidate, server: Server) -> Pipeline:
        """Expose another candidate as canary for an hour, as a killed deployment leaves it."""
        run = candidate("good")
        other, until = candidate("constant"), datetime.now(UTC) + timedelta(hours=1)
        Exposure(version=number_of(other), role="canary", share=1, until=until).publish(run.client, "toy")
        wait_until(lambda: not has_no_candidate(server), "the canary is loaded")
        return run

    def test_the_next_deployment_ends_it(self, run_after_kill: Pipeline) -> None:
        assert run_after_kill.deploy_version().model_version == number_of(run_after_kill)

    def test_a_rollback_ends_it(self, run_after_kill: Pipeline) -> None:
        run_after_kill.promote_version()
        rollback, errors = roll_back.roll_back(run_after_kill.client, "toy", "wrong predictions", Stopwatch("ct-9"))
        assert (rollback.model_version, errors) == ("1", [])


class TestObserveChampion:
    def test_a_champion_that_fails_for_some_rows_is_replaced_by_the_previous_one(
        self, candidate: Candidate, server: Server
    ) -> None:
        run = candidate("strict", watch_seconds=600)
        message = r"is refused as champion: .*% of \d+ requests failed; .*; version 1 is champion again$"
        with client(server.url, ROW, NEW_CATEGORY), pytest.raises(UserError, match=message):
            run.deploy_version()
        assert run.aliases["champion"] == "1"

    def test_one_wrong_golden_prediction_is_an_error(self, candidate: Candidate, server: Server) -> None:
        run = candidate("champion")
        server.wait_for_version("1")
        rows, predictions = read_golden_predictions(run.candidate.model_uri)
        serving = Serving(watch_seconds=600)
        with pytest.raises(UserError, match=r"differ from those made offline: .* a difference of 0\.001"):
            rollout.observe_champion([server.url], "1", serving, rows, predictions + 0.001)
        with pytest.raises(UserError, match="predicts the golden rows of version 2 with version 1"):
            rollout.observe_champion([server.url], "2", serving, rows, predictions)
        with pytest.raises(UserError, match=f"{server.url} rejects the golden rows of version 1: .*'shade' is missing"):
            rollout.observe_champion([server.url], "1", serving, {"columns": ["y"], "data": [[0.5]]}, predictions)

    def test_a_server_that_ends_meanwhile_is_an_error(
        self, candidate: Candidate, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = candidate("champion")
        server.wait_for_version("1")
        golden = read_golden_predictions(run.candidate.model_uri)
        check = rollout.check_golden_predictions
        with ExitStack() as resources:
            other = resources.enter_context(Server())
            other.wait_for_version("1")

            def end_and_check(url: str, *arguments: Any) -> None:
                if url == other.url:
                    resources.close()
                check(url, *arguments)

            monkeypatch.setattr(rollout, "check_golden_predictions", end_and_check)
            with pytest.raises(UserError, match=f"{other.url} does not respond to the golden rows of version 1"):
                rollout.observe_champion([server.url, other.url], "1", Serving(watch_seconds=600), *golden)

    def test_requests_of_the_deployment_are_not_counted_as_clients_requests(
        self, candidate: Candidate, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(rollout, "OBSERVATION_SECONDS", 0.05)
        run = candidate("champion")
        golden = read_golden_predictions(run.candidate.model_uri)
        with Server() as other:
            server.wait_for_version("1")
            other.wait_for_version("1")
            serving = Serving(watch_seconds=0.2)
            observation = rollout.observe_champion([server.url, other.url], "1", serving, *golden)
        assert observation.requests == 0


def test_requests_of_the_deployment_have_ids_with_a_prefix() -> None:
    ids = []

    def respond(request: Request) -> tuple[int, str]:
        ids.append(request.headers["X-Request-ID"])
        return 200, ""

    with http_stub(respond) as address:
        call_server(address, "/invocations", {})
    assert [request_id.startswith(OWN_REQUEST_PREFIX) for request_id in ids] == [True]


class TestToken:
    @pytest.fixture
    def server_with_tokens(self, runs: dict[str, Pipeline], monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:  # noqa: ARG002
        with Server(tokens=Tokens.parse(f"pipeline:{TOKEN}")) as server:
            monkeypatch.setenv("SERVING_URLS", server.url)
            yield server

    def test_it_is_sent_with_every_request(
        self, candidate: Candidate, server_with_tokens: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SERVING_TOKEN", TOKEN)
        phase = {"share": 1.0, "seconds": 0.1}
        deployment = candidate("good", shadow=phase, canary=phase, watch_seconds=0.1).deploy_version()
        assert deployment.servers == [server_with_tokens.url]

    @pytest.mark.parametrize(("token", "kind"), [(None, "a"), ("", "a"), ("an-unknown-token-12", "a different")])
    def test_a_missing_or_wrong_token_is_an_error(
        self, server_with_tokens: Server, monkeypatch: pytest.MonkeyPatch, token: str | None, kind: str
    ) -> None:
        if token is not None:
            monkeypatch.setenv("SERVING_TOKEN", token)
        with pytest.raises(UserError, match=f"^{server_with_tokens.url} requires {kind} token: set SERVING_TOKEN$"):
            read_status(server_with_tokens.url)

    def test_a_newline_at_its_end_is_removed(self, server_with_tokens: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SERVING_TOKEN", f"{TOKEN}\n")
        assert read_status(server_with_tokens.url)["model"] == "toy"

    @pytest.mark.parametrize("token", ["two words of a secret", "a\nsecret", "ein-schlüssel", "a\x00secret"])
    def test_an_invalid_token_is_an_error_that_does_not_show_it(
        self, server_with_tokens: Server, monkeypatch: pytest.MonkeyPatch, token: str
    ) -> None:
        monkeypatch.setattr(os, "environ", {**os.environ, "SERVING_TOKEN": token})  # setenv does not accept \x00
        with pytest.raises(UserError, match="SERVING_TOKEN") as error:
            read_status(server_with_tokens.url)
        assert token not in str(error.value)

    def test_it_is_not_replaced_by_a_netrc_file(
        self, server_with_tokens: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        (tmp_path / "netrc").write_text("machine 127.0.0.1 login somebody password else\n")
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        monkeypatch.setenv("SERVING_TOKEN", TOKEN)
        assert read_status(server_with_tokens.url)["model"] == "toy"


@pytest.mark.integration(seconds=30)
def test_two_workers_follow_a_version_from_shadow_to_champion_while_clients_send_requests(
    candidate: Candidate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With tokens and processes, like `ct serve`: any worker may handle any request of the deployment."""
    monkeypatch.setenv("SERVING_TOKEN", TOKEN)
    phase = {"share": 0.5, "seconds": 100}
    run = candidate("good", shadow=phase, canary=phase, watch_seconds=100, max_milliseconds=1e6)
    with ServerProcess("--workers", "2", SERVING_TOKENS=f"pipeline:{TOKEN}") as server:
        monkeypatch.setenv("SERVING_URLS", server.url)
        wait_until(lambda: len(read_status(server.url)["workers"]) == 2, "both workers are ready")
        rollout.wait_for_version(server.url, "1")
        with (
            client(server.url, ROW, Authorization=f"Bearer {TOKEN}") as responses,
            clock_of_responses(responses),
        ):
            deployment = run.deploy_version()
    for observation in (deployment.shadow, deployment.canary, deployment.watch):
        assert observation is not None
        assert observation.requests >= 10
        assert observation.error_share == 0
    assert set(count_versions(responses)) == {(200, "1"), (200, number_of(run))}
