"""Hold and release: a model on hold is trained and judged as before, and nothing but a person promotes a version."""

from __future__ import annotations

import json
import re
import runpy
import signal
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from conftest import ROOT
from continuous_training.documents import APPROVED_BY, Hold, HoldStatus, Stopwatch, write_atomically
from continuous_training.errors import UsageError, UserError
from continuous_training.fork_server.client import DEFAULTS
from continuous_training.registry import connection, holds, model_versions, promotion, runs
from continuous_training.reports import page
from continuous_training.serving.rollout import rollout
from continuous_training.stages import deploy, roll_back
from continuous_training.stages.hold import hold, parse_until, release
from pipeline import Pipeline
from toy import change

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow import MlflowClient

    Command = Callable[..., "Result"]

pytestmark = pytest.mark.usefixtures("mlflow_workspace")

REASON = "customers complain"
DATABASE, SETTINGS = Path(".ct/mlflow.db"), Path("src/toy/training.yaml")
TIMER = Stopwatch("ct-9")

HOSTILE = {
    "no JSON": "on hold, please",
    "another type": "[]",
    "no reason": '{"by": null, "since": "2026-01-01T00:00:00Z", "until": null}',
    "an empty reason": '{"reason": " \\n", "by": null, "since": "2026-01-01T00:00:00Z", "until": null}',
    "a time without zone": '{"reason": "x", "by": null, "since": "2026-01-01T00:00:00", "until": null}',
    "a time out of range": '{"reason": "x", "by": null, "since": "9999-12-31T23:59:59-12:00", "until": null}',
    "another field": '{"reason": "x", "by": null, "since": "2026-01-01T00:00:00Z", "until": null, "promote": true}',
}


@pytest.fixture(scope="module")
def database(mlflow_workspace_patch: pytest.MonkeyPatch) -> bytes:
    """Promote a champion and train a candidate, which the runs of the tests use again; return MLflow's database."""
    Pipeline(mlflow_workspace_patch).promote(compare=False)
    change("C: 1.0", "C: 2.0")
    Pipeline(mlflow_workspace_patch).train()
    return DATABASE.read_bytes()


@pytest.fixture
def client(database: bytes, mlflow_workspace: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """Return the client of a registry with a champion and a trained candidate."""
    (mlflow_workspace / DATABASE).write_bytes(database)
    change("C: 1.0", "C: 2.0")
    monkeypatch.setattr(deploy, "_ensure", lambda *_: None)  # a server follows
    monkeypatch.setattr(rollout, "wait_and_verify", lambda *_: None)
    return connection.open_client()


class Build:
    """A run to its end, by the conditions of the Jenkinsfile, with a candidate that is better."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **parameters: str) -> None:
        with monkeypatch.context() as patch:
            self.pipeline = Pipeline(patch, **parameters)
            self.decision = self.pipeline.make_plan().decision
            if self.decision == "train":
                self._promote()

    def _promote(self) -> None:
        run = self.pipeline
        run.skip_compare()
        if run.run.promote == "ask":
            write_atomically(APPROVED_BY, "ada")
        registration = run.register_candidate()
        for document in (run.run, run.plan, run.verdict, registration):
            document.write()
        if registration.decision == "promote":
            run.deploy_version().write()

    @property
    def champion(self) -> str:
        return self.pipeline.aliases["champion"]

    @property
    def outcome(self) -> str:
        """The outcome of the candidate's run in MLflow."""
        run_id = self.pipeline.candidate.run_id
        return str(self.pipeline.client.get_run(run_id).data.tags["ct.outcome"])

    def headline(self) -> str:
        page.write()
        return page.HEADLINE.read_text()


def count_trainings(client: MlflowClient) -> int:
    return len(client.search_runs([runs.experiment_id(client, "toy")]))


def hold_toy(client: MlflowClient, reason: str = REASON, until: datetime | None = None) -> HoldStatus:
    return hold(client, "toy", reason, until, TIMER)


def release_toy(client: MlflowClient) -> HoldStatus:
    return release(client, "toy", TIMER)


class TestARunOnHold:
    @pytest.mark.parametrize("trigger", ["cron", "push", "drift", "data", "manual"])
    def test_its_candidate_is_registered_and_not_promoted(
        self, client: MlflowClient, monkeypatch: pytest.MonkeyPatch, trigger: str
    ) -> None:
        hold_toy(client)
        build = Build(monkeypatch, TRIGGER=trigger, REASON="why")
        assert build.pipeline.aliases == {"champion": "1", "candidate": "2"}
        assert build.outcome == "held"
        hold = f"toy is on hold since .* because {REASON}; scripts/ct release ends this"
        assert re.fullmatch(f"Held: version 2 is not promoted: {hold}\n", build.headline())
        assert re.search(f"<dt>On hold</dt><dd>{hold}</dd>", page.PAGE.read_text())

    def test_the_same_data_is_not_trained_again(self, client: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
        hold_toy(client)
        Build(monkeypatch)
        plan = Build(monkeypatch, TRIGGER="cron").pipeline.plan
        assert plan.decision == "nothing"
        assert "was held" in plan.reason
        assert plan.hold is not None
        assert plan.hold.reason == REASON

    def test_after_the_release_its_candidate_is_promoted_without_a_second_training(
        self, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hold_toy(client)
        first = Build(monkeypatch)
        trainings = count_trainings(client)
        release_toy(client)
        build = Build(monkeypatch, TRIGGER="cron")
        assert build.pipeline.candidate.run_id == first.pipeline.candidate.run_id
        assert count_trainings(client) == trainings
        assert (build.champion, build.outcome) == ("2", "deployed")
        assert build.headline().startswith("Promoted: version 2")

    def test_a_hold_that_has_ended_counts_as_none(self, client: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
        hold_toy(client, until=datetime.now(UTC) - timedelta(seconds=1))
        assert holds.find(client, "toy") is None
        build = Build(monkeypatch)
        assert build.champion == "2"
        assert build.pipeline.registration.hold is None

    def test_after_its_end_the_candidate_is_promoted(
        self, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hold_toy(client, until=datetime.now(UTC) + timedelta(days=1))
        assert Build(monkeypatch).outcome == "held"
        hold_toy(client, until=datetime.now(UTC) - timedelta(seconds=1))
        assert Build(monkeypatch).champion == "2"

    @pytest.mark.parametrize("parameters", [{"FORCE": "true"}, {"PROMOTE": "ask"}], ids=str)
    def test_a_person_promotes_although_there_is_a_hold(
        self, client: MlflowClient, monkeypatch: pytest.MonkeyPatch, parameters: dict[str, str]
    ) -> None:
        hold_toy(client)
        build = Build(monkeypatch, **parameters)
        assert build.champion == "2"
        message = build.pipeline.registration.hold_message
        assert message is not None
        assert message.startswith("version 2 is promoted because a person decides so, although toy is on hold since")
        assert build.headline().startswith("Promoted: version 2")
        assert f"because {REASON}" in page.PAGE.read_text()
        assert holds.find(client, "toy") is not None

    def test_a_person_approves_the_candidate_that_waits(
        self, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hold_toy(client)
        first = Build(monkeypatch)
        build = Build(monkeypatch, PROMOTE="ask")
        assert build.pipeline.candidate.run_id == first.pipeline.candidate.run_id
        assert build.champion == "2"

    def test_a_run_that_never_promotes_does_not_with_force_either(
        self, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hold_toy(client)
        build = Build(monkeypatch, PROMOTE="never", FORCE="true")
        assert (build.champion, build.outcome) == ("1", "held")
        assert build.headline() == "Held: version 2 is registered, but not deployed\n"


@pytest.mark.usefixtures("client")
class TestAHoldDuringARun:
    @pytest.fixture
    def run(self, monkeypatch: pytest.MonkeyPatch) -> Pipeline:
        run = Pipeline(monkeypatch)
        assert run.register(compare=False).decision == "promote"
        return run

    def test_between_register_and_deploy(self, client: MlflowClient, run: Pipeline) -> None:
        hold_toy(client)
        with pytest.raises(deploy.OnHoldError, match="version 2 is not promoted: toy is on hold") as error:
            run.deploy_version()
        registration = error.value.registration
        assert (registration.decision, registration.hold) == ("hold", holds.find(client, "toy"))
        assert run.aliases["champion"] == "1"
        assert client.get_run(run.candidate.run_id).data.tags["ct.outcome"] == "held"

    def test_while_deploy_has_the_lock(
        self, client: MlflowClient, run: Pipeline, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(deploy, "end_exposure", lambda *_: hold_toy(client))
        with pytest.raises(deploy.OnHoldError):
            run.deploy_version()
        assert run.aliases["champion"] == "1"
        assert promotion.read_aliases(client, "toy").claims == {}
        assert f"Run {run.run.build_tag} is promoting version 2" in caplog.text

    def test_force_promotes_and_says_that_there_is_a_hold(self, client: MlflowClient, run: Pipeline) -> None:
        hold_toy(client)
        run.run = run.run.model_copy(update={"force": True})
        deployment = run.deploy_version()
        assert deployment.hold == holds.find(client, "toy")
        assert run.aliases["champion"] == "2"


class TestHold:
    def test_a_second_hold_replaces_the_first(self, client: MlflowClient) -> None:
        first = hold_toy(client, until=datetime.now(UTC) + timedelta(days=1))
        second = hold_toy(client, "the shop is being moved")
        assert second.before == first.hold
        found = holds.find(client, "toy")
        assert found == second.hold
        assert (found.reason, found.until) == ("the shop is being moved", None)
        assert second.message.endswith(f"; this replaces a hold because {REASON}")

    def test_it_is_a_tag_of_the_registered_model(self, client: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("BUILD_USER", "ada")
        hold_toy(client, until=datetime(2099, 12, 24, tzinfo=UTC))
        tag = json.loads(model_versions.registered_model(client, "toy").tags["ct.hold"])
        assert tag.keys() == {"reason", "by", "since", "until"}
        assert (tag["reason"], tag["by"], tag["until"]) == (REASON, "ada", "2099-12-24T00:00:00Z")

    def test_a_user_without_a_name_can_hold(self, client: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
        def raise_error() -> str:
            raise KeyError("uid not found")

        monkeypatch.setattr("getpass.getuser", raise_error)
        assert hold_toy(client).hold.by is None

    def test_a_reason_is_one_line_that_can_be_printed_and_fits_into_a_tag(self, client: MlflowClient) -> None:
        hold_toy(client, f"they\n\x1b[31mcomplain {'x' * 10_000}")
        reason = holds.find(client, "toy").reason
        assert reason.startswith("they [31mcomplain x")
        assert len(reason) == 500

    def test_a_release_ends_it_and_a_second_one_says_that_there_is_none(self, client: MlflowClient) -> None:
        hold_toy(client)
        assert release_toy(client).message.startswith(f"toy is released ({REASON})")
        assert holds.find(client, "toy") is None
        assert release_toy(client).message == "toy is not on hold, so there is nothing to release"

    @pytest.mark.parametrize("function", [hold_toy, release_toy])
    def test_a_model_without_a_version_is_refused(self, function: Callable[[MlflowClient], HoldStatus]) -> None:
        with pytest.raises(UserError, match="toy has no version, so there is nothing to"):
            function(connection.open_client())


class TestUntil:
    @pytest.mark.parametrize(
        ("text", "end"),
        [
            ("2099-12-24", datetime(2099, 12, 24, tzinfo=UTC)),
            ("2099-12-24T12:00", datetime(2099, 12, 24, 12, tzinfo=UTC)),
            ("2099-12-24T12:00+02:00", datetime(2099, 12, 24, 10, tzinfo=UTC)),
            ("", None),
        ],
    )
    def test_a_day_begins_in_utc(self, text: str, end: datetime | None) -> None:
        assert parse_until(text) == end

    @pytest.mark.parametrize(("text", "duration"), [("3d", timedelta(days=3)), ("12h", timedelta(hours=12))])
    def test_a_duration_begins_now(self, text: str, duration: timedelta) -> None:
        before = datetime.now(UTC).replace(microsecond=0)
        assert before <= parse_until(text) - duration <= datetime.now(UTC)

    @pytest.mark.parametrize("text", ["tomorrow", "3", "3w", "-3d", "2026-13-01", f"{10**12}d", f"{10**9}h", "٣d"])
    def test_another_text_is_refused(self, text: str) -> None:
        with pytest.raises(UsageError, match="is no end: write it as 2026-12-24"):
            parse_until(text)

    @pytest.mark.parametrize("text", ["2020-01-01", "0d"])
    def test_an_end_in_the_past_is_refused(self, text: str) -> None:
        with pytest.raises(UsageError, match="is not in the future"):
            parse_until(text)


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
class TestHostileTag:
    """Whoever can write to the registry can write the tag."""

    @pytest.fixture(autouse=True)
    def _tag(self, client: MlflowClient, content: str) -> None:
        client.set_registered_model_tag("toy", holds.TAG, content)

    def test_a_run_stops_before_it_trains_with_a_line_about_what_to_do(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(UserError, match=r"the tag ct\.hold of toy is not a hold \(.*scripts/ct release") as error:
            Build(monkeypatch)
        assert str(error.value).count("\n") == 0

    def test_release_removes_it_and_hold_replaces_it(self, client: MlflowClient, content: str) -> None:
        release_toy(client)
        assert holds.find(client, "toy") is None
        client.set_registered_model_tag("toy", holds.TAG, content)
        hold_toy(client)
        assert holds.find(client, "toy").reason == REASON


class TestRollback:
    @pytest.fixture(autouse=True)
    def _second_version(self, client: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(roll_back, "read_server_urls", list)
        Build(monkeypatch)
        assert promotion.read_aliases(client, "toy").champion == "2"

    def test_it_holds_with_its_reason_until_a_release(self, client: MlflowClient) -> None:
        rollback, _ = roll_back.roll_back(client, "toy", REASON, TIMER)
        found = holds.find(client, "toy")
        assert rollback.hold == found
        assert (found.reason, found.until) == (f"version 2 was rolled back: {REASON}", None)
        assert rollback.hold_message.endswith("scripts/ct release ends this")

    def test_the_next_night_nothing_similar_is_promoted_until_the_release(
        self, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The clock starts a run on one day more, whose candidate is as harmful as the version that was rolled back."""
        roll_back.roll_back(client, "toy", REASON, TIMER)
        night = {"TRIGGER": "cron", "AS_OF": "2020-03-02"}
        build = Build(monkeypatch, **night)
        assert (build.champion, build.outcome) == ("1", "held")
        assert f"because version 2 was rolled back: {REASON}" in build.headline()
        release_toy(client)
        assert Build(monkeypatch, **night).champion == "3"

    def test_a_hold_of_a_person_stays(self, client: MlflowClient) -> None:
        of_a_person = hold_toy(client, "the shop is being moved").hold
        rollback, _ = roll_back.roll_back(client, "toy", REASON, TIMER)
        assert rollback.hold == holds.find(client, "toy") == of_a_person

    @pytest.mark.parametrize("content", ["not a hold", None])
    def test_a_tag_that_is_no_hold_or_has_ended_is_replaced(self, client: MlflowClient, content: str | None) -> None:
        if content is None:
            hold_toy(client, until=datetime.now(UTC) - timedelta(seconds=1))
        else:
            client.set_registered_model_tag("toy", holds.TAG, content)
        roll_back.roll_back(client, "toy", REASON, TIMER)
        assert holds.find(client, "toy").reason == f"version 2 was rolled back: {REASON}"

    def test_without_a_hold_the_next_run_may_promote(
        self, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rollback, _ = roll_back.roll_back(client, "toy", REASON, TIMER, hold=False)
        assert (rollback.hold, holds.find(client, "toy")) == (None, None)
        assert "the next run may promote a similar version" in rollback.hold_message
        assert Build(monkeypatch, AS_OF="2020-03-02").champion == "3"

    def test_the_claim_of_the_longest_reason_fits_into_a_tag(
        self, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lengths: list[int] = []
        write = promotion.AliasLock._write

        def measure(lock: Any, claim: promotion.LockClaim) -> None:
            lengths.append(len(claim.model_dump_json()))
            write(lock, claim)

        monkeypatch.setattr(promotion.AliasLock, "_write", measure)
        roll_back.roll_back(client, "toy", '"' * 10_000, TIMER)
        assert 2000 < max(lengths) < connection.TAG_LENGTH


class Result(NamedTuple):
    """What a command has printed, and its exit code."""

    code: int
    output: str
    errors: str


@pytest.fixture
def ct(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Return `ct` as a function of a verb, its arguments and environment, in this process."""

    def call(verb: str, *arguments: str, **environment: str) -> Result:
        with monkeypatch.context() as patch:
            for name, value in (DEFAULTS | environment).items():  # the defaults, which the script sets
                patch.setenv(name, value)
            patch.setattr(signal, "signal", lambda *_: None)
            patch.setattr(sys, "argv", [f"{verb}.py", *arguments])
            capsys.readouterr()
            with pytest.raises(SystemExit) as end:
                runpy.run_path(str(ROOT / f"scripts/{verb}.py"), run_name="__main__")
        return Result(int(end.value.code or 0), *capsys.readouterr())

    return call


class TestCommands:
    @pytest.mark.usefixtures("client")
    def test_hold_and_release_print_the_change(self, ct: Command) -> None:
        result = ct("hold", "--model", "toy", "--until", "2099-12-24", "--reason", REASON, BUILD_USER="ada")
        assert result.code == 0
        assert re.fullmatch(
            r"toy is on hold since .* UTC \(by ada\) until 24 December 2099, 00:00 UTC because customers complain; "
            r"scripts/ct release ends this\n",
            result.output,
        )
        assert ct("release").output == f"toy is released ({REASON}): the next run promotes a better version\n"
        result = ct("release")
        assert (result.code, result.output) == (0, "toy is not on hold, so there is nothing to release\n")

    def test_they_print_json(self, client: MlflowClient, ct: Command) -> None:
        status = HoldStatus.model_validate_json(ct("hold", "--json", REASON=REASON).output)
        assert status.hold == holds.find(client, "toy")
        released = HoldStatus.model_validate_json(ct("release", "--json").output)
        assert (released.hold, released.before) == (None, status.hold)

    @pytest.mark.parametrize(
        ("arguments", "error"),
        [
            ([], "ct hold: error: a reason is missing: set --reason"),
            (["--reason", " "], "ct hold: error: a reason is missing: set --reason"),
            (["--reason", REASON, "--until", "tomorrow"], "ct hold: error: --until tomorrow is no end"),
        ],
    )
    def test_a_command_line_without_a_reason_or_with_another_end_is_refused(
        self, client: MlflowClient, ct: Command, arguments: list[str], error: str
    ) -> None:
        result = ct("hold", *arguments)
        assert (result.code, result.output) == (2, "")
        assert result.errors.startswith(error)
        assert result.errors.count("\n") == 1
        assert holds.find(client, "toy") is None

    @pytest.mark.parametrize("verb", ["hold", "release"])
    def test_a_model_without_a_version_is_one_line(self, ct: Command, verb: str) -> None:
        result = ct(verb, REASON=REASON)
        assert (result.code, result.output) == (1, "")
        assert result.errors.startswith(f"ct {verb}: error: toy has no version")

    @pytest.mark.parametrize(
        ("verb", "headline"), [("hold", "On hold: toy is on hold since"), ("release", "Released: toy is released")]
    )
    def test_a_run_of_the_command_has_its_document_and_report(
        self, client: MlflowClient, ct: Command, verb: str, headline: str
    ) -> None:
        hold_toy(client)
        environment = {"BUILD_TAG": "ct-9", "HOLD": verb, "REASON": REASON}
        SETTINGS.write_text("not: settings")  # a person's word needs none
        assert ct("setup", **environment).code == 0
        assert ct(verb, **environment).code == 0
        assert HoldStatus.find() is not None
        page.write()
        assert page.HEADLINE.read_text().startswith(headline)

    @pytest.mark.usefixtures("client")
    def test_outside_of_such_a_run_no_document_is_written(self, ct: Command, monkeypatch: pytest.MonkeyPatch) -> None:
        Pipeline(monkeypatch, BUILD_TAG="ct-9").run.write()
        assert ct("hold", REASON=REASON).code == 0
        assert HoldStatus.find() is None

    def test_deploy_reports_a_hold_that_came_after_register_as_a_success(
        self, client: MlflowClient, ct: Command, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        build = Pipeline(monkeypatch, BUILD_TAG="ct-9")
        build.register(compare=False)
        for document in (build.run, build.candidate, build.verdict, build.registration):
            document.write()
        hold_toy(client)
        assert ct("deploy", BUILD_TAG="ct-9").code == 0
        assert "version 2 is not promoted: toy is on hold" in caplog.text
        page.write()
        assert page.HEADLINE.read_text().startswith("Held: version 2 is not promoted: toy is on hold since")

    @pytest.mark.parametrize(
        ("parameters", "error"),
        [
            ({"HOLD": "hold"}, "HOLD=hold needs a reason: set REASON"),
            ({"HOLD": "hold", "REASON": REASON, "BRANCH_NAME": "feature"}, "HOLD=hold has no effect on branch feature"),
            ({"HOLD": "hold", "REASON": REASON, "ROLLBACK": "true"}, "ROLLBACK=true and HOLD=hold exclude each other"),
            ({"HOLD": "perhaps", "REASON": REASON}, "a parameter of this run is invalid: hold"),
        ],
        ids=str,
    )
    def test_a_run_with_contradictory_parameters_is_refused_at_set_up(
        self, ct: Command, parameters: dict[str, str], error: str
    ) -> None:
        result = ct("setup", **parameters)
        assert result.code == 1
        assert error in result.errors


def test_a_hold_describes_itself() -> None:
    since = datetime(2026, 11, 30, 21, 4, tzinfo=UTC)
    text = Hold(reason=REASON, by="ada", since=since, until=None).describe("toy")
    assert text == f"toy is on hold since 30 November 2026, 21:04 UTC (by ada) because {REASON}"
