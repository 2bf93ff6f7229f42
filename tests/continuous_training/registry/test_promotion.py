"""Register and promote: what the registry tells, who may move its aliases, and what is put back when that fails."""

from __future__ import annotations

import random
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from continuous_training.documents import APPROVED_BY, write_atomically
from continuous_training.errors import UserError
from continuous_training.registry import connection, model_versions, promotion, runs
from continuous_training.registry.alias_moves import Promotion
from continuous_training.registry.promotion import LockClaim
from pipeline import Pipeline
from toy import change

if TYPE_CHECKING:
    from mlflow import MlflowClient

pytestmark = pytest.mark.usefixtures("tracked")

FROM_NOW = timedelta(minutes=5)
SCHEDULES = 20


class TestRegister:
    def test_registering_twice_makes_one_version(self, monkeypatch: pytest.MonkeyPatch) -> None:
        run = Pipeline(monkeypatch)
        first = run.register()
        assert run.register().model_version == first.model_version

    def test_a_rejected_candidate_is_not_registered(self, monkeypatch: pytest.MonkeyPatch) -> None:
        change("first: {roc_auc: 0.6}", "first: {roc_auc: 0.999}")
        with pytest.raises(UserError, match="it is not registered"):
            Pipeline(monkeypatch).register()

    def test_a_candidate_that_may_never_be_promoted_is_held(self, monkeypatch: pytest.MonkeyPatch) -> None:
        run = Pipeline(monkeypatch, PROMOTE="never")
        run.register()
        assert run.aliases == {"candidate": "1"}
        assert Pipeline(monkeypatch, PROMOTE="never").make_plan().decision == "nothing"
        assert Pipeline(monkeypatch, PROMOTE="auto").make_plan().decision == "train"

    def test_the_version_tells_its_verdict_and_each_rule_of_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        run = Pipeline(monkeypatch, BUILD_TAG="ct-7")
        run.register()
        tags = model_versions.by_number(run.client, "toy", "1").tags
        assert (tags["ct.verdict"], tags["ct.said"], tags["ct.build_tag"]) == ("promote", run.verdict.message, "ct-7")
        assert tags["ct.rules"] == run.verdict.summary
        assert all(f"✓ {rule.message}" in tags["ct.rules"] for rule in run.verdict.rules)

    def test_where_a_person_must_approve_nothing_is_registered_before_a_yes(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = Pipeline(monkeypatch, PROMOTE="ask")
        with pytest.raises(UserError, match="the candidate is not approved: restart the run from Approve"):
            run.register()
        write_atomically(APPROVED_BY, "ada")
        run.register()
        assert model_versions.by_number(run.client, "toy", "1").tags["ct.approved_by"] == "ada"
        assert Pipeline(monkeypatch, PROMOTE="auto").make_plan().resumed_run_id == run.candidate.run_id

    @pytest.mark.parametrize(("promote", "decision"), [("auto", "reject"), ("never", "promote")])
    def test_what_was_not_to_be_promoted_is_not_deployed(
        self, monkeypatch: pytest.MonkeyPatch, promote: str, decision: str
    ) -> None:
        run = Pipeline(monkeypatch, PROMOTE=promote)
        run.register()
        run.verdict = run.verdict.model_copy(update={"decision": decision})
        with pytest.raises(UserError, match="version 1 is not deployed"):
            run.deploy_version()
        assert "champion" not in run.aliases

    def test_a_candidate_that_wins_by_new_terms_is_taken_up_again_if_its_run_is_killed_then(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        change("first: {roc_auc: 0.6}", "first: {roc_auc: 0.999}")
        Pipeline(monkeypatch).compare()
        change("first: {roc_auc: 0.999}", "first: {roc_auc: 0.6}")
        won = Pipeline(monkeypatch)
        assert won.compare().decision == "promote"
        assert Pipeline(monkeypatch).make_plan().resumed_run_id == won.candidate.run_id

    def test_a_later_verdict_of_the_same_candidate_takes_the_place_of_the_first(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        Pipeline(monkeypatch, BUILD_TAG="ct-7").register()
        Pipeline(monkeypatch, BUILD_TAG="ct-8").register(compare=False)
        tags = model_versions.by_number(connection.open_client(), "toy", "1").tags
        assert (tags["ct.said"], tags["ct.build_tag"]) == ("not compared", "ct-8")

    def test_words_too_many_for_a_tag_are_cut(self, monkeypatch: pytest.MonkeyPatch) -> None:
        run = Pipeline(monkeypatch)
        run.train()
        model_versions.register(
            run.client, "toy", run.candidate.run_id, run.candidate.model_uri, {"ct.said": "why " * 5000}
        )
        message = model_versions.by_number(run.client, "toy", "1").tags["ct.said"]
        assert len(message) == connection.TAG_LENGTH
        assert message.endswith("…")


@pytest.fixture
def client() -> MlflowClient:
    """Return a client of a registry with three versions of `toy`, of which the first is champion."""
    client = connection.open_client()
    experiment = runs.experiment_id(client, "toy")
    client.create_registered_model("toy")
    for _ in range(3):
        run_id = client.create_run(experiment).info.run_id
        client.create_model_version("toy", "file:///nowhere", run_id)
    client.set_registered_model_alias("toy", "champion", "1")
    client.set_registered_model_alias("toy", "previous", "3")
    return client


def aliases(client: MlflowClient) -> tuple[str | None, str | None]:
    """Return champion and previous, of a model that nobody has a turn at."""
    now = promotion.read_aliases(client, "toy")
    assert now.claims == {}
    return now.champion, now.previous


def promote(client: MlflowClient, number: str, judged: str | None = "1", force: bool = False) -> None:
    with promotion.lock(client, "toy", "ct-1", f"promoting version {number}") as lock:
        lock.confirm(lock.promote(number, judged, force=force))


def fail(
    client: MlflowClient,
    failure: BaseException,
    judged: str | None = "1",
    meanwhile: Callable[[], object] = lambda: None,
) -> None:
    """Promote version 2, and fail before it is confirmed."""
    with promotion.lock(client, "toy", "ct-1", "promoting version 2") as lock:
        lock.promote("2", judged, force=False)
        meanwhile()
        raise failure


class TestPromote:
    def test_the_old_champion_is_kept_as_previous_and_named_on_the_new_one(self, client: MlflowClient) -> None:
        promote(client, "2")
        assert aliases(client) == ("2", "1")
        promoted = model_versions.by_number(client, "toy", "2")
        assert promoted.replaced_version == "1"
        assert client.get_run(promoted.run_id).data.tags["ct.outcome"] == "deployed"

    def test_promoting_the_champion_again_changes_nothing(self, client: MlflowClient) -> None:
        promote(client, "2")
        promote(client, "2")
        assert aliases(client) == ("2", "1")

    def test_a_verdict_about_another_champion_does_not_count(self, client: MlflowClient) -> None:
        promote(client, "2")
        with pytest.raises(
            UserError, match="version 2 became champion meanwhile, but the verdict compared with version 1"
        ):
            promote(client, "3")
        client.delete_registered_model_alias("toy", "champion")
        with pytest.raises(UserError, match="the champion was removed meanwhile"):
            promote(client, "3")
        client.set_registered_model_alias("toy", "champion", "2")
        with pytest.raises(
            UserError, match="version 2 became champion meanwhile, but the verdict compared with no cham"
        ):
            promote(client, "3", judged=None)
        assert aliases(client) == ("2", "1")

    def test_a_version_that_was_deleted_is_named(self, client: MlflowClient) -> None:
        client.delete_model_version("toy", "2")
        with pytest.raises(UserError, match="version 2 of toy is no longer in the registry"):
            promote(client, "2")

    @pytest.mark.parametrize("failure", [UserError("it fails"), OSError("it fails")])
    def test_a_failure_puts_both_aliases_back(self, client: MlflowClient, failure: Exception) -> None:
        with pytest.raises(UserError, match="it fails; version 1 is champion again"):
            fail(client, failure)
        assert aliases(client) == ("1", "3")

    @pytest.mark.parametrize("abort", [KeyboardInterrupt, SystemExit])
    def test_an_abort_does_so_too(self, client: MlflowClient, abort: type[BaseException]) -> None:
        with pytest.raises(abort):
            fail(client, abort())
        assert aliases(client) == ("1", "3")

    def test_the_first_champion_leaves_none_behind_when_it_fails(self, client: MlflowClient) -> None:
        client.delete_registered_model_alias("toy", "champion")
        with pytest.raises(UserError, match="it fails; there is no champion again"):
            fail(client, UserError("it fails"), judged=None)
        assert aliases(client)[0] is None

    def test_what_a_person_chose_meanwhile_is_not_put_back(self, client: MlflowClient) -> None:
        with pytest.raises(UserError, match="^it fails$"):
            fail(
                client,
                UserError("it fails"),
                meanwhile=lambda: client.set_registered_model_alias("toy", "champion", "3"),
            )
        assert aliases(client)[0] == "3"

    def test_a_champion_that_was_deleted_meanwhile_is_not_put_back(self, client: MlflowClient) -> None:
        with pytest.raises(UserError, match="it fails"):
            fail(client, UserError("it fails"), meanwhile=lambda: client.delete_model_version("toy", "1"))
        assert aliases(client)[0] is None

    def test_a_turn_whose_time_is_over_moves_nothing(
        self, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(promotion, "REGISTRY_SECONDS", -promotion.WAIT_SECONDS)
        with pytest.raises(UserError, match="too slow while promoting version 2: run again"):
            promote(client, "2")
        assert aliases(client) == ("1", "3")


@contextmanager
def process() -> Iterator[Callable[[], None]]:
    """Start a process that lives until what is yielded is called, which leaves a zombie."""
    with subprocess.Popen(["sleep", "1000"]) as other:

        def kill() -> None:
            other.kill()
            while psutil.Process(other.pid).status() != psutil.STATUS_ZOMBIE:
                pass

        kill.pid = other.pid  # type: ignore[attr-defined]
        yield kill
        other.kill()


def half_promoted(client: MlflowClient, pid: int, host: str, expires: datetime) -> None:
    """Leave the registry as a run that was killed while it promoted version 2."""
    run_id = model_versions.by_number(client, "toy", "2").run_id
    move = Promotion(version="2", run_id=run_id, champion="1", previous="3")
    claim = LockClaim(
        build_tag="ct-1",
        activity="promoting version 2",
        expires=expires,
        host=host,
        pid=pid,
        process_started=psutil.Process(pid).create_time(),
        move=move,
    )
    client.set_registered_model_tag("toy", f"{promotion.CLAIM}0", claim.model_dump_json())
    move.apply(client, "toy")


class TestRecovery:
    def test_the_next_plan_undoes_at_once_what_a_killed_process_of_this_machine_left(
        self, client: MlflowClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        with process() as kill:
            half_promoted(client, kill.pid, promotion._host(), datetime.now(UTC) + FROM_NOW)
            Pipeline(monkeypatch).make_plan()
            assert promotion.read_aliases(client, "toy").champion == "2"
            kill()
            Pipeline(monkeypatch).make_plan()
        assert aliases(client) == ("1", "3")
        assert (
            "Run ct-1 was interrupted while it was promoting version 2: version 1 is champion again" in caplog.messages
        )

    def test_what_a_run_on_another_machine_left_is_undone_when_its_time_is_over(
        self, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with process() as kill:
            half_promoted(client, kill.pid, "elsewhere", datetime.now(UTC) + FROM_NOW)
            kill()
            Pipeline(monkeypatch).make_plan()
            assert promotion.read_aliases(client, "toy").champion == "2"
        with process() as kill:
            half_promoted(client, kill.pid, "elsewhere", datetime.now(UTC))
            Pipeline(monkeypatch).make_plan()
        assert aliases(client) == ("1", "3")

    def test_a_promotion_waits_for_no_dead_run_and_is_held_against_the_champion_before_it(
        self, client: MlflowClient
    ) -> None:
        with process() as kill:
            half_promoted(client, kill.pid, promotion._host(), datetime.now(UTC) + FROM_NOW)
            kill()
            with pytest.raises(UserError, match="version 1 became champion meanwhile"):
                promote(client, "3", judged="2")
        promote(client, "3", judged="1")
        assert aliases(client) == ("3", "1")

    def test_a_promotion_that_was_proven_before_its_run_was_killed_stays(
        self, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with process() as kill:
            half_promoted(client, kill.pid, promotion._host(), datetime.now(UTC) + FROM_NOW)
            left = promotion.read_aliases(client, "toy").claims[f"{promotion.CLAIM}0"]
            confirmed = left.model_copy(update={"move": left.move.model_copy(update={"confirmed": True})})
            client.set_registered_model_tag("toy", f"{promotion.CLAIM}0", confirmed.model_dump_json())
            kill()
            Pipeline(monkeypatch).make_plan()
        assert aliases(client) == ("2", "1")
        assert client.get_run(left.move.run_id).data.tags["ct.outcome"] == "deployed"

    def test_a_champion_set_by_hand_is_left_alone(self, client: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
        client.set_registered_model_alias("toy", "champion", "3")
        Pipeline(monkeypatch).make_plan()
        assert aliases(client) == ("3", "3")

    def test_while_another_run_has_its_turn_nobody_else_gets_one(
        self, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(promotion, "WAIT_SECONDS", 0)
        with promotion.lock(client, "toy", "ct-5", "promoting version 2"):
            with pytest.raises(
                UserError, match="another run, ct-5, is promoting version 2: run again after it has ended"
            ):
                promote(client, "3")
            assert [found.build_tag for found in promotion.read_aliases(client, "toy").claims.values()] == ["ct-5"]
        promote(client, "3")

    def test_a_turn_lasts_as_long_as_the_servers_may_take(self, client: MlflowClient) -> None:
        before = datetime.now(UTC)
        with promotion.lock(client, "toy", "ct-5", "promoting version 2", seconds=3600):
            (claim,) = promotion.read_aliases(client, "toy").claims.values()
        assert claim.expires - before > timedelta(hours=1)

    def test_an_announcement_of_another_version_of_this_program_is_named(self, client: MlflowClient) -> None:
        client.set_registered_model_tag("toy", "ct.turn.1", '{"by": "a later version"}')
        with pytest.raises(UserError, match="remove the tag ct.turn.1 of toy, which is not a claim"):
            promote(client, "2")


class Schedule:
    """Lets several threads use one registry, one call of one of them at a time, in an order that a seed decides."""

    def __init__(self, seed: int, threads: int) -> None:
        self.random = random.Random(seed)
        self._running = threads
        self._waiting: list[str] = []
        self._chosen: str | None = None
        self._changed = threading.Condition()

    def client(self, real: MlflowClient) -> Any:
        """Return a client whose calls wait until they are chosen."""
        schedule = self

        class Scheduled:
            def __getattr__(self, name: str) -> Callable[..., Any]:
                def call(*given: Any, **named: Any) -> Any:
                    schedule._wait()
                    return getattr(real, name)(*given, **named)

                return call

        return Scheduled()

    def run(self, bodies: dict[str, Callable[[], None]]) -> None:
        """Run the bodies, each in a thread of its name, to their ends."""

        def go(body: Callable[[], None]) -> None:
            try:
                body()
            finally:
                with self._changed:
                    self._running -= 1
                    self._choose()

        threads = [threading.Thread(target=go, args=(body,), name=name) for name, body in bodies.items()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _wait(self) -> None:
        name = threading.current_thread().name
        with self._changed:
            self._waiting.append(name)
            self._choose()
            self._changed.wait_for(lambda: self._chosen == name)
            self._chosen = None

    def _choose(self) -> None:
        """Choose once every thread that still runs is before its next call."""
        if self._waiting and len(self._waiting) == self._running:
            self._chosen = self.random.choice(sorted(self._waiting))
            self._waiting.remove(self._chosen)
            self._changed.notify_all()


@pytest.mark.integration
class TestTwoAtOnce:
    def test_of_runs_that_promote_at_once_one_wins_however_their_calls_fall(
        self, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(promotion, "PAUSE_SECONDS", 0)
        for seed in range(SCHEDULES):
            won, lost = self.promote_at_once(client, monkeypatch, seed, failures=0)
            assert len(won) == len(lost) == 1, f"schedule {seed}"
            assert aliases(client) == (won[0], "1"), f"schedule {seed}"

    def test_another_wins_when_no_server_follows_the_first(
        self, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(promotion, "PAUSE_SECONDS", 0)
        for seed in range(SCHEDULES):
            won, lost = self.promote_at_once(client, monkeypatch, seed, failures=1)
            assert lost == ["no server follows; version 1 is champion again"], f"schedule {seed}"
            assert aliases(client) == (won[0], "1"), f"schedule {seed}"

    @staticmethod
    def promote_at_once(
        client: MlflowClient, monkeypatch: pytest.MonkeyPatch, seed: int, failures: int
    ) -> tuple[list[str], list[str]]:
        """Promote versions 2 and 3 at once; return who has won, and why others have not."""
        client.set_registered_model_alias("toy", "champion", "1")
        schedule = Schedule(seed, threads=2)
        scheduled = schedule.client(client)
        monkeypatch.setattr(promotion.secrets, "token_hex", lambda _: f"{schedule.random.random():.16f}")
        within: list[str] = []
        together: list[list[str]] = []
        won: list[str] = []
        lost: list[str] = []
        failing = iter(range(failures))

        def go() -> None:
            number = threading.current_thread().name
            try:
                with promotion.lock(scheduled, "toy", f"ct-{number}", f"promoting version {number}") as lock:
                    within.append(number)
                    together.append([*within])
                    try:
                        promoted = lock.promote(number, "1", force=False)
                        if next(failing, None) is not None:
                            raise UserError("no server follows")
                        lock.confirm(promoted)
                    finally:
                        within.remove(number)
                won.append(number)
            except UserError as problem:
                lost.append(str(problem))

        schedule.run({"2": go, "3": go})
        assert all(len(numbers) == 1 for numbers in together), f"schedule {seed}"
        return won, lost
