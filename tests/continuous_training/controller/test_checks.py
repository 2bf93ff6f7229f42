"""The checks of `ct test --jenkins`: they pass on a controller that does what it should, and say what one does not."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import pytest

from conftest import ROOT
from continuous_training.errors import UsageError, UserError
from continuous_training.stages import test
from controller import checks, sample_repository
from controller.build_queue import Builds
from controller.client import Build, Controller
from controller.credentials import Access, Secret
from controller.local_runs import Here
from controller.stage_differences import differences
from controller.stub import GITHUB, PASSWORD, RIGHT, SOURCE, TOKEN, USER, WEBHOOK, Stub, Wrong
from jenkinsfile.builds.records import StageRecord

AS_OF = "2013-04-01"
ACCESS = Access(USER, TOKEN, WEBHOOK, GITHUB)
OTHER = Secret("not-the-one")
ABOUT_NOTHING = '{"trigger": "manual", "reason": "REASON"}'


class Enter(Protocol):
    def __call__(self, wrong: Wrong = RIGHT, *, built: bool = False, access: Access = ACCESS) -> Controller: ...


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sample_repository.create(tmp_path_factory.mktemp("project") / "repository")


class VersionState(Here):
    """Makes each run once: this one's commands decide the same every time."""

    def __init__(self, repository: Path, folder: Path) -> None:
        super().__init__(repository, folder, minutes=1)
        self._made: dict[object, tuple[str, list[StageRecord]]] = {}

    def repeat(self, build: Build, *, learnt: bool) -> tuple[str, list[StageRecord]]:
        key = (build.commit, build.parameters["AS_OF"], learnt)
        if key not in self._made:
            self._made[key] = super().repeat(build, learnt=learnt)
        return self._made[key]


@pytest.fixture(scope="module")
def here(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Here:
    return VersionState(repository, tmp_path_factory.mktemp("here"))


@pytest.fixture(scope="module")
def begun(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Builds]:
    """What a controller has when it has found the branch: a first build."""
    builds = Builds(repository, tmp_path_factory.mktemp("begun") / "workspace")
    try:
        builds.index()
        yield builds
    finally:
        builds.close()


@pytest.fixture
def enter(begun: Builds, repository: Path, tmp_path: Path) -> Iterator[Enter]:
    """Start a controller, which has ended its first build or has not yet found the branch."""
    with ExitStack() as up:

        def started(wrong: Wrong = RIGHT, *, built: bool = False, access: Access = ACCESS) -> Controller:
            stub = up.enter_context(Stub(repository, tmp_path / "workspace", wrong, begun if built else None))
            return Controller(stub.url, access, minutes=1)

        yield started


def in_place_of_github(repository: Path) -> dict[str, str]:
    """Return the environment in which git finds the repository of GitHub's address in a folder."""
    key = f"url.{repository}.insteadOf"
    return {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": key, "GIT_CONFIG_VALUE_0": SOURCE}


class TestWhoAsks:
    def test_a_token_lets_in(self, enter: Enter) -> None:
        assert enter().user() == "admin"

    def test_a_password_does_too_with_the_crumb_that_it_needs(self, enter: Enter) -> None:
        controller = enter(built=True, access=replace(ACCESS, token=PASSWORD))
        assert controller.ended(controller.start({"REASON": "by hand"})).parameters["REASON"] == "by hand"

    def test_whoever_is_refused_is_told_where_a_token_is_made(self, enter: Enter) -> None:
        with pytest.raises(UserError, match="refuses JENKINS_API_TOKEN of admin: .*/me/security/ makes one"):
            enter(access=replace(ACCESS, token=OTHER)).user()

    def test_a_job_that_never_ends_its_first_build_is_not_waited_for_in_vain(self, enter: Enter) -> None:
        found = Controller(enter().url, ACCESS, minutes=0)
        with pytest.raises(UserError, match="model/main ends the build .*see .*/job/model/indexing/console"):
            found.ready()

    def test_where_nobody_answers_no_secret_is_told(self) -> None:
        with pytest.raises(UserError, match="does not answer: ConnectionError$") as caught:
            Controller("http://127.0.0.1:9", ACCESS).ping("{}", WEBHOOK)
        assert "token-of-pings" not in str(caught.getrepr(style="long", funcargs=True, showlocals=True))


class TestAController:
    def test_with_all_plugins_accepts_the_jenkinsfile(self, enter: Enter) -> None:
        checks.is_accepted(enter(), ROOT / "Jenkinsfile")

    def test_that_rejects_one_says_why(self, enter: Enter) -> None:
        with pytest.raises(
            AssertionError, match='does not accept Jenkinsfile: (?s:.*)Invalid option type "timestamps"'
        ):
            checks.is_accepted(enter(Wrong(rejects="timestamps")), ROOT / "Jenkinsfile")

    @pytest.mark.parametrize("token", [None, OTHER], ids=["no token", "a wrong token"])
    def test_lets_no_ping_in_with(self, enter: Enter, token: Secret | None) -> None:
        checks.lets_nobody_in(enter(), token)

    @pytest.mark.parametrize(("token", "shown"), [(None, "no token"), (OTHER, "a wrong token")])
    def test_that_lets_every_ping_in_is_noticed(self, enter: Enter, token: Secret | None, shown: str) -> None:
        with pytest.raises(AssertionError, match=f"a ping with {shown} is let in: Jenkins answers 200"):
            checks.lets_nobody_in(enter(Wrong(lets_every_ping_in=True)), token)

    def test_that_runs_for_those_it_refuses_is_noticed(self, enter: Enter) -> None:
        with pytest.raises(AssertionError, match="has started nothing, as Jenkins answers, has made 1 build"):
            checks.lets_nobody_in(enter(Wrong(runs_for_those_it_refuses=True)), OTHER)

    @pytest.mark.parametrize("body", [ABOUT_NOTHING, '{"trigger": "drift', "[]", ""])
    def test_runs_for_no_ping_but_about_drift_and_data(self, enter: Enter, body: str) -> None:
        checks.starts_nothing(enter(), WEBHOOK, body)

    @pytest.mark.parametrize("body", [ABOUT_NOTHING, '{"trigger": "drift'])
    def test_that_runs_for_every_ping_is_noticed(self, enter: Enter, body: str) -> None:
        with pytest.raises(AssertionError, match="must start nothing has started model/main"):
            checks.starts_nothing(enter(Wrong(starts_whatever_is_pinged=True)), WEBHOOK, body)

    def test_makes_one_run_of_two_equal_pings(self, enter: Enter) -> None:
        build = checks.is_started_once_by_equal_pings(enter(built=True), WEBHOOK, AS_OF)
        assert build.causes == ("Pinged about drift", "Pinged about drift")

    def test_that_makes_two_is_noticed(self, enter: Enter) -> None:
        with pytest.raises(AssertionError, match="two equal pings are not merged: they wait as the items 1 and 2"):
            checks.is_started_once_by_equal_pings(enter(Wrong(merges_nothing=True)), WEBHOOK, AS_OF)

    def test_that_forgets_what_a_ping_says_is_noticed(self, enter: Enter) -> None:
        with pytest.raises(AssertionError, match=f"was asked for with AS_OF={AS_OF}, and has ;"):
            checks.is_started_once_by_equal_pings(enter(Wrong(forgets="AS_OF"), built=True), WEBHOOK, AS_OF)

    def test_that_forgets_what_a_person_says_is_noticed(self, enter: Enter) -> None:
        with pytest.raises(AssertionError, match=f"was asked for with AS_OF={AS_OF}, and has ;"):
            checks.runs_with_parameters(enter(Wrong(forgets="AS_OF"), built=True), AS_OF)

    def test_on_which_a_run_fails_is_noticed(self, enter: Enter) -> None:
        with pytest.raises(AssertionError, match="build 2 is FAILURE: see http://.*/job/model/job/main/2/console"):
            checks.runs_with_parameters(enter(Wrong(ends_as="FAILURE"), built=True), AS_OF)


class TestPushes:
    @pytest.fixture(autouse=True)
    def _as_it_was(self, repository: Path) -> Iterator[None]:
        """Take back what a test pushes."""
        before = sample_repository.head(repository)
        yield
        sample_repository.git(repository, "reset", "--quiet", "--hard", before)

    @pytest.fixture(autouse=True)
    def _github_is_here(self, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in in_place_of_github(repository).items():
            monkeypatch.setenv(name, value)

    def test_are_taken_only_from_github(self, enter: Enter) -> None:
        controller = enter(built=True)
        checks.refuses_push(controller, None)
        checks.refuses_push(controller, OTHER)
        checks.takes_push(controller, GITHUB)

    def test_of_a_new_commit_start_a_run_of_it(self, enter: Enter, repository: Path) -> None:
        controller = enter(built=True)
        made = sample_repository.commit(repository, "another")
        build = checks.is_started_by_push(controller, GITHUB)
        assert (build.commit, build.causes) == (made, ("Push event to branch main",))

    def test_of_what_was_built_cannot_be_tried(self, enter: Enter) -> None:
        with pytest.raises(checks.NotHere, match="the last commit of main: push another, and call again"):
            checks.is_started_by_push(enter(built=True), GITHUB)

    @pytest.mark.parametrize(
        ("secret", "which"), [(None, "that is not signed"), (OTHER, "with a wrong signature")], ids=["none", "wrong"]
    )
    def test_that_all_are_let_in_is_noticed(self, enter: Enter, secret: Secret | None, which: str) -> None:
        with pytest.raises(AssertionError, match=f"a push {which} is let in: Jenkins answers 200"):
            checks.refuses_push(enter(Wrong(lets_every_push_in=True), built=True), secret)

    def test_that_a_controller_has_another_secret_is_noticed(self, enter: Enter) -> None:
        with pytest.raises(AssertionError, match="is GITHUB_WEBHOOK_SECRET the controller's"):
            checks.takes_push(enter(built=True), OTHER)

    def test_that_they_start_nothing_is_noticed(self, enter: Enter, repository: Path) -> None:
        hasty = Controller(enter(Wrong(ignores_pushes=True), built=True).url, ACCESS, minutes=0)
        sample_repository.commit(repository, "one more")
        with pytest.raises(UserError, match="it has not come to pass that a build of"):
            checks.is_started_by_push(hasty, GITHUB)


class TestStages:
    def test_of_a_first_run_are_those_of_a_run_here_from_nothing(self, enter: Enter, here: Here) -> None:
        controller = enter(built=True)
        checks.is_as_here(controller, controller.last(), here)

    def test_of_a_run_with_nothing_to_learn_are_those_of_a_second_one_here(self, enter: Enter, here: Here) -> None:
        controller = enter(built=True)
        again = checks.runs_with_parameters(controller, AS_OF)
        assert {one.name: one.result for one in controller.stages(again.number)}["Train"] == "NOT_BUILT"
        checks.is_as_here(controller, again, here)

    def test_of_a_run_against_a_champion_have_nothing_here_to_be_held_against(self, enter: Enter, here: Here) -> None:
        controller = enter(built=True)
        build = checks.runs_with_parameters(controller, "2013-05-01")
        assert build.result == "UNSTABLE"
        with pytest.raises(checks.NotHere, match="has compared with version 1"):
            checks.is_as_here(controller, build, here)

    def test_of_a_commit_that_is_not_here_cannot_be_held_against_any(self, enter: Enter, tmp_path: Path) -> None:
        controller = enter(built=True)
        with pytest.raises(checks.NotHere, match="is not in this clone: git fetch"):
            checks.is_as_here(controller, controller.last(), Here(ROOT, tmp_path))

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            (Wrong(names={"Train": "Trains"}), "«Train» is a stage here, and none on Jenkins"),
            (Wrong(names={"Lint": "Lints"}), "«Lint and test » Lints» is a stage on Jenkins, and none here"),
            (Wrong(results={"Compare": "UNSTABLE"}), "«Compare» is UNSTABLE on Jenkins and SUCCESS here"),
            (Wrong(ends_as="UNSTABLE"), "the build is UNSTABLE on Jenkins and SUCCESS here"),
            (Wrong(results={"Approve": "SUCCESS"}), "«Approve» is SUCCESS on Jenkins and NOT_BUILT here"),
        ],
        ids=["name", "name of one beside others", "result", "result of the build", "result of a skipped one"],
    )
    def test_that_differ_are_named(self, enter: Enter, here: Here, wrong: Wrong, message: str) -> None:
        controller = enter(wrong, built=True)
        with pytest.raises(AssertionError, match=message):
            checks.is_as_here(controller, controller.last(), here)

    def test_in_another_order_are_named(self) -> None:
        stages = [StageRecord("Plan", 0, "SUCCESS"), StageRecord("Train", 0, "SUCCESS")]
        assert differences(stages, stages) == []
        assert differences(stages, stages[::-1]) == [
            "«Plan» comes on Jenkins where «Train» comes here",
            "«Train» comes on Jenkins where «Plan» comes here",
        ]

    def test_side_by_side_have_no_order(self) -> None:
        above, *beside = (StageRecord("Both", 0), StageRecord("A", 1), StageRecord("B", 1))
        above.result = "SUCCESS"
        assert differences([above, *beside], [above, *beside[::-1]]) == []

    def test_inside_a_skipped_one_are_only_in_the_record_of_a_run_here(self) -> None:
        skipped = StageRecord("Both", 0)
        assert differences([skipped], [skipped, StageRecord("A", 1)]) == []


def on_the_command_line(tmp_path: Path, *arguments: str, **environment: str) -> tuple[int, str]:
    """Run the checks as `ct test --jenkins` does; return the exit code and what they print."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "JENKINS_"))}
    done = subprocess.run(
        [sys.executable, *test.pytest_arguments(tmp_path / "junit.xml", *arguments), "-p", "no:cacheprovider"],
        cwd=ROOT,
        env=kept | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return done.returncode, done.stdout + done.stderr


def test_the_stand_ins_first_run_ends_as_the_projects_own_does(enter: Enter) -> None:
    """tests/continuous_training/stages/test_loop.py sees the same of the real one."""
    ended = {stage.name: stage.result for stage in enter(built=True).stages(1)}
    assert [name for name, result in ended.items() if result != "SUCCESS"] == [
        "Roll back",
        "Test the framework",
        "Approve",
    ]
    assert {ended[name] for name in ("Roll back", "Test the framework", "Approve")} == {"NOT_BUILT"}


@pytest.mark.integration(seconds=15)
def test_all_checks_pass_on_a_right_controller_and_tell_no_secret(
    begun: Builds, repository: Path, tmp_path: Path
) -> None:
    with Stub(repository, tmp_path / "workspace", begun=begun) as stub:
        code, message = on_the_command_line(
            tmp_path,
            *test.controller_arguments(stub.url, minutes=1),
            JENKINS_USER_ID="admin",
            JENKINS_API_TOKEN=TOKEN,
            WEBHOOK_TOKEN=WEBHOOK,
            GITHUB_WEBHOOK_SECRET=GITHUB,
            **in_place_of_github(repository),
        )
    assert code == 0, message
    skipped = sorted(case.message for case in test.cases(tmp_path / "junit.xml") if case.outcome == "skipped")
    assert len(skipped) == 2, message
    assert "has built" in skipped[0]
    assert "is not in this clone" in skipped[1]
    for secret in (TOKEN, WEBHOOK, GITHUB):
        assert secret not in message


@pytest.mark.integration(seconds=5)
def test_without_secrets_the_checks_are_skipped_and_say_what_to_set(tmp_path: Path) -> None:
    code, message = on_the_command_line(tmp_path, *test.controller_arguments("http://127.0.0.1:9", minutes=1))
    assert code == 0, message
    assert "JENKINS_USER_ID and JENKINS_API_TOKEN are not set" in message


@pytest.mark.integration(seconds=5)
def test_where_no_jenkins_is_the_checks_end_with_one_line_that_says_so(tmp_path: Path) -> None:
    secrets = {"JENKINS_USER_ID": "admin", "JENKINS_API_TOKEN": TOKEN}
    code, message = on_the_command_line(
        tmp_path, *test.controller_arguments("http://127.0.0.1:9", minutes=1), **secrets
    )
    assert code == 1, message
    assert message.count("http://127.0.0.1:9/whoAmI/api/json does not answer: ConnectionError") == 1


def test_what_the_checks_ask_is_there_with_the_pinned_plugins() -> None:
    """The linter, pings, pushes and Blue Ocean's stages; all else is Jenkins' own."""
    asked = {"pipeline-model-definition", "generic-webhook-trigger", "github", "github-branch-source"}
    asked |= {"blueocean-rest", "blueocean-rest-impl", "blueocean-pipeline-api-impl"}
    pinned = {line.partition(":")[0] for line in (ROOT / "jenkins/plugins.txt").read_text().splitlines()}
    assert asked <= pinned


@pytest.mark.parametrize("address", ["localhost:8080", "ftp://localhost", "http://"])
def test_only_an_address_is_taken_for_one(address: str) -> None:
    with pytest.raises(UsageError, match="is not a URL"):
        test.controller_arguments(address, minutes=1)


def test_no_password_is_taken_from_a_command_line() -> None:
    with pytest.raises(UsageError, match="JENKINS_API_TOKEN") as caught:
        test.controller_arguments("http://admin:secret@localhost:8080", minutes=1)
    assert "secret" not in str(caught.value)
