"""Register and promote: the tags of a version, the lock on a model's aliases, and how a failure reverts them."""

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

pytestmark = pytest.mark.usefixtures("mlflow_workspace")

LATER = timedelta(minutes=5)
SCHEDULES = 20


class TestRegister:
    def test_registering_twice_creates_one_version(self, monkeypatch: pytest.MonkeyPatch) -> None:
        run = Pipeline(monkeypatch)
        first = run.register()
        assert run.register().model_version == first.model_version

    def test_a_rejected_candidate_is_not_registered(self, monkeypatch: pytest.MonkeyPatch) -> None:
        change("first: {roc_auc: 0.6}", "first: {roc_auc: 0.999}")
        with pytest.raises(UserError, match="it is not registered"):
            Pipeline(monkeypatch).register()

    def test_a_candidate_of_a_run_that_never_promotes_is_registered_only(self, monkeypatch: pytest.MonkeyPatch) -> None:
        run = Pipeline(monkeypatch, PROMOTE="never")
        run.register()
        assert run.aliases == {"candidate": "1"}
        assert Pipeline(monkeypatch, PROMOTE="never").make_plan().decision == "nothing"
        assert Pipeline(monkeypatch, PROMOTE="auto").make_plan().decision == "train"

    def test_the_version_has_its_verdict_and_all_rules_as_tags(self, monkeypatch: pytest.MonkeyPatch) -> None:
        run = Pipeline(monkeypatch, BUILD_TAG="ct-7")
        run.register()
        tags = model_versions.by_number(run.client, "toy", "1").tags
        assert (tags["ct.verdict"], tags["ct.said"], tags["ct.build_tag"]) == ("promote", run.verdict.message, "ct-7")
        assert tags["ct.rules"] == run.verdict.summary
        assert all(f"✓ {rule.message}" in tags["ct.rules"] for rule in run.verdict.rules)

    def test_a_candidate_is_registered_after_its_approval_only(self, monkeypatch: pytest.MonkeyPatch) -> None:
        run = Pipeline(monkeypatch, PROMOTE="ask")
        with pytest.raises(UserError, match="the candidate is not approved: restart the run from Approve"):
            run.register()
        write_atomically(APPROVED_BY, "ada")
        run.register()
        assert model_versions.by_number(run.client, "toy", "1").tags["ct.approved_by"] == "ada"
        assert Pipeline(monkeypatch, PROMOTE="auto").make_plan().resumed_run_id == run.candidate.run_id

    @pytest.mark.parametrize(("promote", "decision"), [("auto", "reject"), ("never", "promote")])
    def test_a_version_that_may_not_be_promoted_is_not_deployed(
        self, monkeypatch: pytest.MonkeyPatch, promote: str, decision: str
    ) -> None:
        run = Pipeline(monkeypatch, PROMOTE=promote)
        run.register()
        run.verdict = run.verdict.model_copy(update={"decision": decision})
        with pytest.raises(UserError, match="version 1 is not deployed"):
            run.deploy_version()
        assert "champion" not in run.aliases

    def test_a_candidate_that_passes_changed_rules_is_used_again_after_its_run_was_killed(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        change("first: {roc_auc: 0.6}", "first: {roc_auc: 0.999}")
        Pipeline(monkeypatch).compare()
        change("first: {roc_auc: 0.999}", "first: {roc_auc: 0.6}")
        run = Pipeline(monkeypatch)
        assert run.compare().decision == "promote"
        assert Pipeline(monkeypatch).make_plan().resumed_run_id == run.candidate.run_id

    def test_a_later_verdict_on_the_same_candidate_replaces_the_first(self, monkeypatch: pytest.MonkeyPatch) -> None:
        Pipeline(monkeypatch, BUILD_TAG="ct-7").register()
        Pipeline(monkeypatch, BUILD_TAG="ct-8").register(compare=False)
        tags = model_versions.by_number(connection.open_client(), "toy", "1").tags
        assert (tags["ct.said"], tags["ct.build_tag"]) == ("not compared", "ct-8")

    def test_texts_that_are_too_long_for_a_tag_are_shortened(self, monkeypatch: pytest.MonkeyPatch) -> None:
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
    """Return champion and previous of a model whose lock is free."""
    now = promotion.read_aliases(client, "toy")
    assert now.claims == {}
    return now.champion, now.previous


def promote(client: MlflowClient, number: str, compared_champion: str | None = "1", force: bool = False) -> None:
    with promotion.lock(client, "toy", "ct-1", f"promoting version {number}") as lock:
        lock.confirm(lock.promote(number, compared_champion, force=force))


def fail(
    client: MlflowClient,
    failure: BaseException,
    compared_champion: str | None = "1",
    before_failure: Callable[[], object] = lambda: None,
) -> None:
    """Promote version 2, and fail before it is confirmed."""
    with promotion.lock(client, "toy", "ct-1", "promoting version 2") as lock:
        lock.promote("2", compared_champion, force=False)
        before_failure()
        raise failure


class TestPromote:
    def test_the_replaced_champion_becomes_previous_and_is_recorded_in_the_new_version(
        self, client: MlflowClient
    ) -> None:
        promote(client, "2")
        assert aliases(client) == ("2", "1")
        version = model_versions.by_number(client, "toy", "2")
        assert version.replaced_version == "1"
        assert client.get_run(version.run_id).data.tags["ct.outcome"] == "deployed"

    def test_promoting_the_champion_again_changes_nothing(self, client: MlflowClient) -> None:
        promote(client, "2")
        promote(client, "2")
        assert aliases(client) == ("2", "1")

    def test_a_verdict_about_another_champion_is_rejected(self, client: MlflowClient) -> None:
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
            promote(client, "3", compared_champion=None)
        assert aliases(client) == ("2", "1")

    def test_a_deleted_version_is_rejected(self, client: MlflowClient) -> None:
        client.delete_model_version("toy", "2")
        with pytest.raises(UserError, match="version 2 of toy is no longer in the registry"):
            promote(client, "2")

    @pytest.mark.parametrize("failure", [UserError("it fails"), OSError("it fails")])
    def test_a_failure_restores_both_aliases(self, client: MlflowClient, failure: Exception) -> None:
        with pytest.raises(UserError, match="it fails; version 1 is champion again"):
            fail(client, failure)
        assert aliases(client) == ("1", "3")

    @pytest.mark.parametrize("abort", [KeyboardInterrupt, SystemExit])
    def test_an_abort_restores_both_aliases(self, client: MlflowClient, abort: type[BaseException]) -> None:
        with pytest.raises(abort):
            fail(client, abort())
        assert aliases(client) == ("1", "3")

    def test_a_failed_promotion_of_the_first_model_leaves_no_champion(self, client: MlflowClient) -> None:
        client.delete_registered_model_alias("toy", "champion")
        with pytest.raises(UserError, match="it fails; there is no champion again"):
            fail(client, UserError("it fails"), compared_champion=None)
        assert aliases(client)[0] is None

    def test_an_alias_that_a_person_moved_meanwhile_is_not_restored(self, client: MlflowClient) -> None:
        with pytest.raises(UserError, match="^it fails$"):
            fail(
                client,
                UserError("it fails"),
                before_failure=lambda: client.set_registered_model_alias("toy", "champion", "3"),
            )
        assert aliases(client)[0] == "3"

    def test_a_champion_that_was_deleted_meanwhile_is_not_restored(self, client: MlflowClient) -> None:
        with pytest.raises(UserError, match="it fails"):
            fail(client, UserError("it fails"), before_failure=lambda: client.delete_model_version("toy", "1"))
        assert aliases(client)[0] is None

    def test_an_expired_lock_moves_no_alias(self, client: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(promotion, "REGISTRY_SECONDS", -promotion.WAIT_SECONDS)
        with pytest.raises(UserError, match="too slow while promoting version 2: run again"):
            promote(client, "2")
        assert aliases(client) == ("1", "3")


@contextmanager
def process() -> Iterator[Callable[[], None]]:
    """Start a process, and yield a function that kills it and leaves a zombie."""
    with subprocess.Popen(["sleep", "1000"]) as other:

        def kill() -> None:
            other.kill()
            while psutil.Process(other.pid).status() != psutil.STATUS_ZOMBIE:
                pass

        kill.pid = other.pid  # type: ignore[attr-defined]
        yield kill
        other.kill()


def leave_half_promoted(client: MlflowClient, pid: int, host: str, expires: datetime) -> None:
    """Put the registry into the state of a run that was killed while it promoted version 2."""
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
    def test_the_next_plan_reverts_the_promotion_of_a_killed_process_of_this_machine(
        self, client: MlflowClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        with process() as kill:
            leave_half_promoted(client, kill.pid, promotion._host(), datetime.now(UTC) + LATER)
            Pipeline(monkeypatch).make_plan()
            assert promotion.read_aliases(client, "toy").champion == "2"
            kill()
            Pipeline(monkeypatch).make_plan()
        assert aliases(client) == ("1", "3")
        assert (
            "Run ct-1 was interrupted while it was promoting version 2: version 1 is champion again" in caplog.messages
        )

    def test_the_promotion_of_a_run_on_another_machine_is_reverted_when_its_lock_has_expired(
        self, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with process() as kill:
            leave_half_promoted(client, kill.pid, "elsewhere", datetime.now(UTC) + LATER)
            kill()
            Pipeline(monkeypatch).make_plan()
            assert promotion.read_aliases(client, "toy").champion == "2"
        with process() as kill:
            leave_half_promoted(client, kill.pid, "elsewhere", datetime.now(UTC))
            Pipeline(monkeypatch).make_plan()
        assert aliases(client) == ("1", "3")

    def test_a_promotion_does_not_wait_for_a_killed_run_and_compares_with_the_restored_champion(
        self, client: MlflowClient
    ) -> None:
        with process() as kill:
            leave_half_promoted(client, kill.pid, promotion._host(), datetime.now(UTC) + LATER)
            kill()
            with pytest.raises(UserError, match="version 1 became champion meanwhile"):
                promote(client, "3", compared_champion="2")
        promote(client, "3", compared_champion="1")
        assert aliases(client) == ("3", "1")

    def test_a_confirmed_promotion_of_a_killed_run_is_completed(
        self, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with process() as kill:
            leave_half_promoted(client, kill.pid, promotion._host(), datetime.now(UTC) + LATER)
            claim = promotion.read_aliases(client, "toy").claims[f"{promotion.CLAIM}0"]
            confirmed_claim = claim.model_copy(update={"move": claim.move.model_copy(update={"confirmed": True})})
            client.set_registered_model_tag("toy", f"{promotion.CLAIM}0", confirmed_claim.model_dump_json())
            kill()
            Pipeline(monkeypatch).make_plan()
        assert aliases(client) == ("2", "1")
        assert client.get_run(claim.move.run_id).data.tags["ct.outcome"] == "deployed"

    def test_a_champion_that_was_set_by_hand_is_not_changed(
        self, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        client.set_registered_model_alias("toy", "champion", "3")
        Pipeline(monkeypatch).make_plan()
        assert aliases(client) == ("3", "3")

    def test_a_promotion_is_rejected_while_another_run_has_the_lock(
        self, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(promotion, "WAIT_SECONDS", 0)
        with promotion.lock(client, "toy", "ct-5", "promoting version 2"):
            with pytest.raises(
                UserError, match="another run, ct-5, is promoting version 2: run again after it has ended"
            ):
                promote(client, "3")
            assert [claim.build_tag for claim in promotion.read_aliases(client, "toy").claims.values()] == ["ct-5"]
        promote(client, "3")

    def test_a_lock_is_valid_as_long_as_the_servers_may_need(self, client: MlflowClient) -> None:
        before = datetime.now(UTC)
        with promotion.lock(client, "toy", "ct-5", "promoting version 2", seconds=3600):
            (claim,) = promotion.read_aliases(client, "toy").claims.values()
        assert claim.expires - before > timedelta(hours=1)

    def test_a_claim_of_another_version_of_this_program_is_rejected(self, client: MlflowClient) -> None:
        client.set_registered_model_tag("toy", "ct.turn.1", '{"by": "a later version"}')
        with pytest.raises(UserError, match="remove the tag ct.turn.1 of toy, which is not a claim"):
            promote(client, "2")


class Schedule:
    """Executes the registry calls of several threads one at a time, in an order that depends on a seed."""

    def __init__(self, seed: int, threads: int) -> None:
        self.random = random.Random(seed)
        self._running = threads
        self._waiting: list[str] = []
        self._next: str | None = None
        self._condition = threading.Condition()

    def client(self, real: MlflowClient) -> Any:
        """Return a client whose calls wait for their turn in the schedule."""
        schedule = self

        class ScheduledClient:
            def __getattr__(self, name: str) -> Callable[..., Any]:
                def call(*arguments: Any, **keywords: Any) -> Any:
                    schedule._wait()
                    return getattr(real, name)(*arguments, **keywords)

                return call

        return ScheduledClient()

    def run(self, functions: dict[str, Callable[[], None]]) -> None:
        """Run each function in a thread of its name, and wait for all of them."""

        def run_one(function: Callable[[], None]) -> None:
            try:
                function()
            finally:
                with self._condition:
                    self._running -= 1
                    self._choose()

        threads = [
            threading.Thread(target=run_one, args=(function,), name=name) for name, function in functions.items()
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _wait(self) -> None:
        name = threading.current_thread().name
        with self._condition:
            self._waiting.append(name)
            self._choose()
            self._condition.wait_for(lambda: self._next == name)
            self._next = None

    def _choose(self) -> None:
        """Choose the next call when every running thread waits."""
        if self._waiting and len(self._waiting) == self._running:
            self._next = self.random.choice(sorted(self._waiting))
            self._waiting.remove(self._next)
            self._condition.notify_all()


@pytest.mark.integration
class TestConcurrentPromotions:
    def test_one_of_two_concurrent_promotions_succeeds_in_any_order_of_calls(
        self, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(promotion, "PAUSE_SECONDS", 0)
        for seed in range(SCHEDULES):
            versions, errors = self.promote_concurrently(client, monkeypatch, seed, failures=0)
            assert len(versions) == len(errors) == 1, f"schedule {seed}"
            assert aliases(client) == (versions[0], "1"), f"schedule {seed}"

    def test_the_other_promotion_succeeds_if_the_first_one_fails(
        self, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(promotion, "PAUSE_SECONDS", 0)
        for seed in range(SCHEDULES):
            versions, errors = self.promote_concurrently(client, monkeypatch, seed, failures=1)
            assert errors == ["no server follows; version 1 is champion again"], f"schedule {seed}"
            assert aliases(client) == (versions[0], "1"), f"schedule {seed}"

    @staticmethod
    def promote_concurrently(
        client: MlflowClient, monkeypatch: pytest.MonkeyPatch, seed: int, failures: int
    ) -> tuple[list[str], list[str]]:
        """Promote versions 2 and 3 concurrently; return the promoted versions, and the errors of the others."""
        client.set_registered_model_alias("toy", "champion", "1")
        schedule = Schedule(seed, threads=2)
        scheduled_client = schedule.client(client)
        monkeypatch.setattr(promotion.secrets, "token_hex", lambda _: f"{schedule.random.random():.16f}")
        lock_holders: list[str] = []
        holders_at_each_lock: list[list[str]] = []
        versions: list[str] = []
        errors: list[str] = []
        failing = iter(range(failures))

        def promote_own_version() -> None:
            number = threading.current_thread().name
            try:
                with promotion.lock(scheduled_client, "toy", f"ct-{number}", f"promoting version {number}") as lock:
                    lock_holders.append(number)
                    holders_at_each_lock.append([*lock_holders])
                    try:
                        move = lock.promote(number, "1", force=False)
                        if next(failing, None) is not None:
                            raise UserError("no server follows")
                        lock.confirm(move)
                    finally:
                        lock_holders.remove(number)
                versions.append(number)
            except UserError as error:
                errors.append(str(error))

        schedule.run(dict.fromkeys(("2", "3"), promote_own_version))
        assert all(len(numbers) == 1 for numbers in holders_at_each_lock), f"schedule {seed}"
        return versions, errors
