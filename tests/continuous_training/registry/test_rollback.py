"""Roll back: the previous version is champion again, and the rolled-back one is promoted again only with FORCE."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, NamedTuple

import pytest

from conftest import ROOT
from continuous_training.documents import Rollback, Stopwatch
from continuous_training.errors import UserError
from continuous_training.registry import connection, model_versions, promotion
from continuous_training.serving.rollout import rollout
from continuous_training.stages import roll_back
from pipeline import Pipeline
from ports import free_port
from server import Server
from stored_versions import read_golden_predictions
from toy import change

if TYPE_CHECKING:
    from collections.abc import Callable
    from subprocess import CompletedProcess

    from mlflow import MlflowClient

    from forked_python import ForkedPython

    RestoreState = Callable[[int], Pipeline]
    Command = Callable[..., CompletedProcess[str]]

pytestmark = pytest.mark.usefixtures("mlflow_workspace")

REASON = "it predicts nonsense since noon"
DATABASE = Path(".ct/mlflow.db")
SETTINGS = Path("src/toy/training.yaml")


@pytest.fixture(autouse=True)
def _no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVING_URLS", f"http://127.0.0.1:{free_port()}")


class State(NamedTuple):
    """The state after a promotion."""

    run: Pipeline
    settings: str
    database: bytes


@pytest.fixture(scope="module")
def states(mlflow_workspace_patch: pytest.MonkeyPatch) -> list[State]:
    """Promote three champions with different parameters; return the state after each."""
    states = []
    for number in range(1, 4):
        if number > 1:
            change(f"C: {number - 1}.0", f"C: {number}.0")
        run = Pipeline(mlflow_workspace_patch)
        run.promote(compare=False)
        states.append(State(run, SETTINGS.read_text(), DATABASE.read_bytes()))
    return states


@pytest.fixture
def restore_state(states: list[State], monkeypatch: pytest.MonkeyPatch, mlflow_workspace: Path) -> RestoreState:
    """Return a function that restores the state after so many promotions and returns the last run."""

    def restore_state(versions: int) -> Pipeline:
        state = states[versions - 1]
        (mlflow_workspace / DATABASE).write_bytes(state.database)
        (mlflow_workspace / SETTINGS).write_text(state.settings)
        run = Pipeline(monkeypatch)
        run.candidate, run.verdict, run.registration = state.run.candidate, state.run.verdict, state.run.registration
        return run

    return restore_state


def roll_back_champion(client: MlflowClient) -> tuple[Rollback, list[str]]:
    return roll_back.roll_back(client, "toy", REASON, Stopwatch("ct-9"))


class TestRollBack:
    def test_the_previous_version_is_champion_again_and_the_other_has_the_reason(
        self, restore_state: RestoreState
    ) -> None:
        run = restore_state(2)
        rollback, _ = roll_back_champion(run.client)
        assert (rollback.model_version, rollback.rolled_back_version, rollback.reason) == ("1", "2", REASON)
        assert run.aliases == {"candidate": "2", "champion": "1"}
        version = model_versions.by_number(run.client, "toy", "2")
        assert version.tags["ct.rolled_back"] == REASON
        assert run.client.get_run(version.run_id).data.tags["ct.outcome"] == "rolled back"

    def test_a_second_rollback_restores_the_version_before_and_a_third_is_rejected(
        self, restore_state: RestoreState
    ) -> None:
        run = restore_state(3)
        roll_back_champion(run.client)
        assert run.aliases == {"candidate": "3", "champion": "2", "previous": "1"}
        roll_back_champion(run.client)
        assert run.aliases == {"candidate": "3", "champion": "1"}
        with pytest.raises(UserError, match="there is no version of toy before version 1"):
            roll_back_champion(run.client)
        assert run.aliases == {"candidate": "3", "champion": "1"}

    def test_a_version_that_was_rolled_back_is_never_restored(self, restore_state: RestoreState) -> None:
        run = restore_state(2)
        roll_back_champion(run.client)
        run.client.set_registered_model_alias("toy", model_versions.PREVIOUS, "2")
        with pytest.raises(UserError, match=f"version 2 of toy, the one before version 1, was rolled back .*{REASON}"):
            roll_back_champion(run.client)

    def test_without_a_champion_there_is_nothing_to_roll_back(self) -> None:
        with pytest.raises(UserError, match="toy has no champion, so there is nothing to roll back"):
            roll_back_champion(connection.open_client())

    def test_a_rollback_is_rejected_while_another_run_has_the_lock(
        self, restore_state: RestoreState, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = restore_state(2)
        monkeypatch.setattr(promotion, "WAIT_SECONDS", 0)
        with (
            promotion.lock(run.client, "toy", "ct-5", "promoting version 3"),
            pytest.raises(UserError, match="another run, ct-5, is promoting version 3"),
        ):
            roll_back_champion(run.client)
        assert roll_back_champion(run.client)[0].model_version == "1"

    def test_rolling_back_an_interrupted_promotion_restores_the_champion_before_it(
        self, restore_state: RestoreState
    ) -> None:
        """Acquiring the lock reverts the promotion, so the rollback moves no alias."""
        run = restore_state(3)
        run.client.set_registered_model_alias("toy", model_versions.CHAMPION, "2")
        lock = promotion.lock(run.client, "toy", "ct-5", "promoting version 3")
        lock.__enter__().promote("3", "2", force=False)
        ((key, claim),) = promotion.read_aliases(run.client, "toy").claims.items()
        expired_claim = claim.model_copy(update={"expires": datetime.now(UTC)})
        run.client.set_registered_model_tag("toy", key, expired_claim.model_dump_json())
        assert run.aliases["champion"] == "3"
        rollback, _ = roll_back_champion(run.client)
        assert (rollback.model_version, rollback.rolled_back_version) == ("2", "3")
        assert run.aliases["champion"] == "2"
        assert model_versions.by_number(run.client, "toy", "3").rollback_reason == REASON

    def test_a_version_whose_mlflow_run_was_deleted_can_be_rolled_back(self, restore_state: RestoreState) -> None:
        run = restore_state(2)
        run.client.delete_run(run.candidate.run_id)
        assert roll_back_champion(run.client)[0].model_version == "1"
        assert run.aliases["champion"] == "1"


class TestAfterARollback:
    def test_the_next_plan_trains_only_with_force(
        self, restore_state: RestoreState, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = restore_state(2)
        roll_back_champion(run.client)
        plan = Pipeline(monkeypatch).make_plan()
        assert plan.decision == "nothing"
        assert "trained this fingerprint and was rolled back" in plan.reason
        plan = Pipeline(monkeypatch, FORCE="true").make_plan()
        assert (plan.decision, plan.resumed_run_id) == ("train", None)

    def test_another_candidate_with_the_same_fingerprint_is_not_promoted(
        self, restore_state: RestoreState, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = restore_state(2)
        with monkeypatch.context() as patch:
            Pipeline(patch, FORCE="true").train()
        roll_back_champion(run.client)
        assert Pipeline(monkeypatch).make_plan().decision == "nothing"

    def test_the_version_is_neither_registered_nor_deployed_again(
        self, restore_state: RestoreState, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = restore_state(2)
        roll_back_champion(run.client)
        message = f"version 2 of toy was rolled back .{REASON}.: it is promoted again only with FORCE=true"
        with pytest.raises(UserError, match=message):
            run.promote_version()
        monkeypatch.setattr(run, "skip_compare", lambda: run.verdict)
        with pytest.raises(UserError, match=message):
            run.register(compare=False)

    def test_force_promotes_the_version_again_and_removes_the_reason(self, restore_state: RestoreState) -> None:
        run = restore_state(2)
        roll_back_champion(run.client)
        with promotion.lock(run.client, "toy", "ct-10", "promoting version 2") as lock:
            lock.confirm(lock.promote("2", "1", force=True))
        assert run.aliases == {"candidate": "2", "champion": "2", "previous": "1"}
        version = model_versions.by_number(run.client, "toy", "2")
        assert version.rollback_reason is None
        assert run.client.get_run(version.run_id).data.tags["ct.outcome"] == "deployed"


class TestServers:
    def test_a_rollback_waits_until_all_servers_serve_the_restored_version(
        self, restore_state: RestoreState, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = restore_state(2)
        with Server() as server, Server() as other:
            monkeypatch.setenv("SERVING_URLS", f"{server.url},{other.url}")
            rollback, errors = roll_back_champion(run.client)
            assert (rollback.servers, errors) == ([server.url, other.url], [])
            assert (
                server.invoke(dataframe_split=read_golden_predictions(run.candidate.model_uri)[0]).headers[
                    "X-Model-Version"
                ]
                == "1"
            )

    def test_an_unreachable_server_is_reported_and_the_rollback_waits_for_the_others(
        self, restore_state: RestoreState, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = restore_state(2)
        unused_url = f"http://127.0.0.1:{free_port()}"
        with Server() as server:
            monkeypatch.setenv("SERVING_URLS", f"{unused_url},{server.url}")
            rollback, errors = roll_back_champion(run.client)
        assert (rollback.servers, errors) == ([server.url], [f"no server answers at {unused_url}"])
        assert run.aliases["champion"] == "1"

    def test_a_server_with_different_predictions_is_reported(
        self, restore_state: RestoreState, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = restore_state(2)
        monkeypatch.setattr(
            rollout, "golden_predictions", SimpleNamespace(describe_difference=lambda *_: "0.5 in place of 0")
        )
        with Server() as server:
            monkeypatch.setenv("SERVING_URLS", server.url)
            rollback, errors = roll_back_champion(run.client)
        assert rollback.servers == []
        assert f"the predictions of {server.url} for the golden rows of version 1 differ" in errors[0]

    def test_a_server_of_another_registry_is_reported(
        self, restore_state: RestoreState, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = restore_state(2)
        with Server() as server:
            server.wait_for_version("2")
            server.set_registry("toy@1")
            monkeypatch.setenv("SERVING_URLS", server.url)
            assert roll_back_champion(run.client)[1] == [f"{server.url} is a server of another model or registry"]


@pytest.fixture
def command(forked_python: ForkedPython) -> Command:
    """Return `ct rollback` as a function of its arguments and environment."""
    return partial(forked_python.run, ROOT / "scripts/rollback.py")


@pytest.mark.integration
class TestCommand:
    def test_a_reason_is_required(self, command: Command) -> None:
        process = command()
        assert (process.returncode, process.stdout) == (2, "")
        assert "a reason is missing" in process.stderr

    def test_outside_a_run_it_works_in_any_workspace_and_writes_no_document(
        self, restore_state: RestoreState, command: Command
    ) -> None:
        restore_state(2)
        Path("build").mkdir(exist_ok=True)
        Path("build/run.json").write_text("not a document")
        with Server() as server:
            process = command("--reason", REASON, "--model", "toy", SERVING_URLS=server.url)
        assert process.returncode == 0, process.stderr
        assert process.stdout == "version 1 of toy replaces version 2\n"
        assert f"because version 2 was rolled back: {REASON}; scripts/ct release ends this" in process.stderr
        assert not Path("build/rollback.json").exists()

    def test_a_run_with_rollback_writes_its_document(
        self, restore_state: RestoreState, monkeypatch: pytest.MonkeyPatch, command: Command
    ) -> None:
        restore_state(2)
        run = Pipeline(monkeypatch, BUILD_TAG="ct-9").run.model_copy(update={"rollback": True})
        run.write()
        url = f"http://127.0.0.1:{free_port()}"
        process = command(REASON=REASON, MODEL="toy", SERVING_URLS=url)
        assert process.returncode == 1
        assert f"version 1 of toy replaces version 2; but no server answers at {url}" in process.stderr
        rollback = Rollback.read()
        assert (rollback.model_version, rollback.rolled_back_version, rollback.reason, rollback.servers) == (
            "1",
            "2",
            REASON,
            [],
        )

    def test_a_run_without_rollback_writes_no_document(
        self, restore_state: RestoreState, monkeypatch: pytest.MonkeyPatch, command: Command
    ) -> None:
        restore_state(2)
        Pipeline(monkeypatch, BUILD_TAG="ct-9").run.write()
        process = command("--json", "--no-hold", REASON=REASON, MODEL="toy")
        rollback = Rollback.model_validate(json.loads(process.stdout))
        assert (rollback.model_version, rollback.hold) == ("1", None)
        assert "toy is not on hold: the next run may promote a similar version" in process.stderr
        assert Rollback.find() is None
