"""Roll back: the version before the champion answers again, and the one taken back does not return by itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from conftest import ROOT
from continuous_training.documents import Rollback, Stopwatch
from continuous_training.errors import UserError
from continuous_training.registry import connection, model_versions, promotion
from continuous_training.serving.rollout import rollout
from continuous_training.stages import roll_back
from continuous_training.versions import golden_predictions
from pipeline import Pipeline
from server import Server, free_port
from toy import change

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow import MlflowClient

    Promoted = Callable[[int], Pipeline]

pytestmark = pytest.mark.usefixtures("tracked")

WHY = "it predicts nonsense since noon"
DATABASE = Path(".ct/mlflow.db")
TRAINING = Path("src/toy/training.yaml")


@pytest.fixture(autouse=True)
def _no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVING_URLS", f"http://127.0.0.1:{free_port()}")


class Reign(NamedTuple):
    """What was there when a champion had just been made."""

    run: Pipeline
    training: str
    database: bytes


@pytest.fixture(scope="module")
def reigns(tracked_module: pytest.MonkeyPatch) -> list[Reign]:
    """Make champions, one after the other, each of other parameters."""
    made = []
    for number in range(1, 4):
        if number > 1:
            change(f"C: {number - 1}.0", f"C: {number}.0")
        run = Pipeline(tracked_module)
        run.promote(compare=False)
        made.append(Reign(run, TRAINING.read_text(), DATABASE.read_bytes()))
    return made


@pytest.fixture
def promoted(reigns: list[Reign], monkeypatch: pytest.MonkeyPatch, tracked: Path) -> Promoted:
    """Begin where so many champions were made, in a workspace of this test's own; returns the last one's run."""

    def promoted(versions: int) -> Pipeline:
        reign = reigns[versions - 1]
        (tracked / DATABASE).write_bytes(reign.database)
        (tracked / TRAINING).write_text(reign.training)
        run = Pipeline(monkeypatch)
        run.candidate, run.verdict, run.registration = reign.run.candidate, reign.run.verdict, reign.run.registration
        return run

    return promoted


def roll_back_champion(client: MlflowClient) -> tuple[Rollback, list[str]]:
    return roll_back.roll_back(client, "toy", WHY, Stopwatch("ct-9"))


class TestRollBack:
    def test_previous_is_champion_again_and_the_version_tells_why(self, promoted: Promoted) -> None:
        run = promoted(2)
        made, _ = roll_back_champion(run.client)
        assert (made.model_version, made.rolled_back_version, made.reason) == ("1", "2", WHY)
        assert run.aliases == {"candidate": "2", "champion": "1"}
        taken_back = model_versions.by_number(run.client, "toy", "2")
        assert taken_back.tags["ct.rolled_back"] == WHY
        assert run.client.get_run(taken_back.run_id).data.tags["ct.outcome"] == "rolled back"

    def test_a_second_one_goes_one_further_and_a_third_says_that_there_is_none(self, promoted: Promoted) -> None:
        run = promoted(3)
        roll_back_champion(run.client)
        assert run.aliases == {"candidate": "3", "champion": "2", "previous": "1"}
        roll_back_champion(run.client)
        assert run.aliases == {"candidate": "3", "champion": "1"}
        with pytest.raises(UserError, match="there is no version of toy before version 1"):
            roll_back_champion(run.client)
        assert run.aliases == {"candidate": "3", "champion": "1"}

    def test_a_version_taken_back_is_never_gone_back_to(self, promoted: Promoted) -> None:
        run = promoted(2)
        roll_back_champion(run.client)
        run.client.set_registered_model_alias("toy", model_versions.PREVIOUS, "2")
        with pytest.raises(UserError, match=f"version 2 of toy, the one before version 1, was rolled back .*{WHY}"):
            roll_back_champion(run.client)

    def test_without_a_champion_there_is_nothing_to_roll_back(self) -> None:
        with pytest.raises(UserError, match="toy has no champion, so there is nothing to roll back"):
            roll_back_champion(connection.open_client())

    def test_while_another_run_promotes_it_waits_its_turn(
        self, promoted: Promoted, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = promoted(2)
        monkeypatch.setattr(promotion, "WAIT_SECONDS", 0)
        with (
            promotion.lock(run.client, "toy", "ct-5", "promoting version 3"),
            pytest.raises(UserError, match="another run, ct-5, is promoting version 3"),
        ):
            roll_back_champion(run.client)
        assert roll_back_champion(run.client)[0].model_version == "1"

    def test_a_champion_whose_promotion_was_cut_off_gives_way_to_the_one_that_it_had_replaced(
        self, promoted: Promoted
    ) -> None:
        """Not to the one before that: taking the turn undoes the promotion, and there is nothing more to move."""
        run = promoted(3)
        run.client.set_registered_model_alias("toy", model_versions.CHAMPION, "2")
        cut_off = promotion.lock(run.client, "toy", "ct-5", "promoting version 3")
        cut_off.__enter__().promote("3", "2", force=False)
        ((key, left),) = promotion.read_aliases(run.client, "toy").claims.items()
        over = left.model_copy(update={"expires": datetime.now(UTC)})
        run.client.set_registered_model_tag("toy", key, over.model_dump_json())
        assert run.aliases["champion"] == "3"
        made, _ = roll_back_champion(run.client)
        assert (made.model_version, made.rolled_back_version) == ("2", "3")
        assert run.aliases["champion"] == "2"
        assert model_versions.by_number(run.client, "toy", "3").rollback_reason == WHY

    def test_a_version_whose_mlflow_run_was_deleted_can_still_be_taken_back(self, promoted: Promoted) -> None:
        run = promoted(2)
        run.client.delete_run(run.candidate.run_id)
        assert roll_back_champion(run.client)[0].model_version == "1"
        assert run.aliases["champion"] == "1"


class TestAfterwards:
    def test_the_next_plan_has_nothing_to_learn_but_force_trains(
        self, promoted: Promoted, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = promoted(2)
        roll_back_champion(run.client)
        planned = Pipeline(monkeypatch).make_plan()
        assert planned.decision == "nothing"
        assert "trained this fingerprint and was rolled back" in planned.reason
        forced = Pipeline(monkeypatch, FORCE="true").make_plan()
        assert (forced.decision, forced.resumed_run_id) == ("train", None)

    def test_another_candidate_of_the_same_fingerprint_does_not_slip_in(
        self, promoted: Promoted, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = promoted(2)
        with monkeypatch.context() as forced:
            Pipeline(forced, FORCE="true").train()
        roll_back_champion(run.client)
        assert Pipeline(monkeypatch).make_plan().decision == "nothing"

    def test_it_is_neither_registered_nor_deployed_by_hand(
        self, promoted: Promoted, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = promoted(2)
        roll_back_champion(run.client)
        refused = f"version 2 of toy was rolled back .{WHY}.: it is promoted again only with FORCE=true"
        with pytest.raises(UserError, match=refused):
            run.promote_version()
        monkeypatch.setattr(run, "skip_compare", lambda: run.verdict)
        with pytest.raises(UserError, match=refused):
            run.register(compare=False)

    def test_force_promotes_it_again_and_the_reason_is_gone(self, promoted: Promoted) -> None:
        run = promoted(2)
        roll_back_champion(run.client)
        with promotion.lock(run.client, "toy", "ct-10", "promoting version 2") as lock:
            lock.confirm(lock.promote("2", "1", force=True))
        assert run.aliases == {"candidate": "2", "champion": "2", "previous": "1"}
        version = model_versions.by_number(run.client, "toy", "2")
        assert version.rollback_reason is None
        assert run.client.get_run(version.run_id).data.tags["ct.outcome"] == "deployed"


class TestServers:
    def test_it_waits_until_they_answer_with_the_old_version(
        self, promoted: Promoted, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = promoted(2)
        with Server() as one, Server() as other:
            monkeypatch.setenv("SERVING_URLS", f"{one.url},{other.url}")
            made, silent = roll_back_champion(run.client)
            assert (made.servers, silent) == ([one.url, other.url], [])
            assert (
                one.invoke(dataframe_split=golden_predictions.read_golden_predictions(run.candidate.run_id)[0]).headers[
                    "X-Model-Version"
                ]
                == "1"
            )

    def test_one_that_is_down_is_told_and_the_others_are_waited_for(
        self, promoted: Promoted, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = promoted(2)
        nobody = f"http://127.0.0.1:{free_port()}"
        with Server() as one:
            monkeypatch.setenv("SERVING_URLS", f"{nobody},{one.url}")
            made, silent = roll_back_champion(run.client)
        assert (made.servers, silent) == ([one.url], [f"no server answers at {nobody}"])
        assert run.aliases["champion"] == "1"

    def test_one_that_answers_otherwise_is_told(self, promoted: Promoted, monkeypatch: pytest.MonkeyPatch) -> None:
        run = promoted(2)
        monkeypatch.setattr(rollout, "TOLERANCE", -1.0)
        with Server() as one:
            monkeypatch.setenv("SERVING_URLS", one.url)
            made, silent = roll_back_champion(run.client)
        assert made.servers == []
        assert f"the predictions of {one.url} for the golden rows of version 1 differ" in silent[0]

    def test_one_of_another_registry_is_told(self, promoted: Promoted, monkeypatch: pytest.MonkeyPatch) -> None:
        run = promoted(2)
        with Server() as one:
            one.wait_for_version("2")
            one.set_registry("toy@1")
            monkeypatch.setenv("SERVING_URLS", one.url)
            assert roll_back_champion(run.client)[1] == [f"{one.url} is a server of another model or registry"]


class Shell:
    """`ct rollback`, as a person or Jenkins calls it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(ROOT / "scripts/rollback.py"), *arguments],
            cwd=self.folder,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.mark.integration
class TestCommand:
    def test_it_asks_for_a_reason(self, tracked: Path) -> None:
        refused = Shell(tracked)()
        assert (refused.returncode, refused.stdout) == (2, "")
        assert "a reason is missing" in refused.stderr

    def test_by_hand_it_works_in_any_workspace_and_writes_nothing_there(
        self, promoted: Promoted, tracked: Path
    ) -> None:
        promoted(2)
        (tracked / "build").mkdir(exist_ok=True)
        (tracked / "build/run.json").write_text("not a document")
        with Server() as server:
            made = Shell(tracked)("--reason", WHY, "--model", "toy", SERVING_URLS=server.url)
        assert made.returncode == 0, made.stderr
        assert made.stdout == "version 1 of toy replaces version 2\n"
        assert not (tracked / "build/rollback.json").exists()

    def test_in_a_run_that_was_started_for_it_it_leaves_its_document(
        self, promoted: Promoted, monkeypatch: pytest.MonkeyPatch, tracked: Path
    ) -> None:
        promoted(2)
        run = Pipeline(monkeypatch, BUILD_TAG="ct-9").run.model_copy(update={"rollback": True})
        run.write()
        url = f"http://127.0.0.1:{free_port()}"
        failed = Shell(tracked)(REASON=WHY, MODEL="toy", SERVING_URLS=url)
        assert failed.returncode == 1
        assert f"version 1 of toy replaces version 2; but no server answers at {url}" in failed.stderr
        made = Rollback.read()
        assert (made.model_version, made.rolled_back_version, made.reason, made.servers) == ("1", "2", WHY, [])

    def test_in_a_run_that_trains_it_leaves_the_build_folder_alone(
        self, promoted: Promoted, monkeypatch: pytest.MonkeyPatch, tracked: Path
    ) -> None:
        promoted(2)
        Pipeline(monkeypatch, BUILD_TAG="ct-9").run.write()
        told = Shell(tracked)("--json", REASON=WHY, MODEL="toy")
        assert Rollback.model_validate(json.loads(told.stdout)).model_version == "1"
        assert Rollback.find() is None
