"""The checks of `ct test --jenkins`: they pass on a correct controller, and report each fault."""

from __future__ import annotations

import os
import subprocess
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
from controller.build_queue import BuildQueue
from controller.client import Build, Controller
from controller.credentials import Credentials, Secret
from controller.local_runs import LocalRuns
from controller.stage_differences import find_differences
from controller.stub import (
    GITHUB_SECRET,
    NO_FAULTS,
    PASSWORD,
    SOURCE,
    TOKEN,
    USER,
    WEBHOOK_TOKEN,
    ControllerStub,
    Faults,
)
from forked_python import ForkedPython
from jenkinsfile.builds.records import StageRecord

AS_OF = "2013-04-01"
CREDENTIALS = Credentials(USER, TOKEN, WEBHOOK_TOKEN, GITHUB_SECRET)
WRONG_SECRET = Secret("not-the-one")
MANUAL_PING = '{"trigger": "manual", "reason": "REASON"}'


class StartController(Protocol):
    def __call__(
        self, faults: Faults = NO_FAULTS, *, built: bool = False, credentials: Credentials = CREDENTIALS
    ) -> Controller: ...


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sample_repository.create(tmp_path_factory.mktemp("project") / "repository")


class CachedLocalRuns(LocalRuns):
    """Makes each run once, because the repository's commands always decide the same."""

    def __init__(self, repository: Path, folder: Path) -> None:
        super().__init__(repository, folder, minutes=10)
        self._results: dict[object, tuple[str, list[StageRecord]]] = {}

    def repeat(self, build: Build, *, nothing_new: bool) -> tuple[str, list[StageRecord]]:
        key = (build.commit, build.parameters["AS_OF"], nothing_new)
        if key not in self._results:
            self._results[key] = super().repeat(build, nothing_new=nothing_new)
        return self._results[key]


@pytest.fixture(scope="module")
def local_runs(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> LocalRuns:
    return CachedLocalRuns(repository, tmp_path_factory.mktemp("local_runs"))


@pytest.fixture(scope="module")
def queue_with_first_build(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BuildQueue]:
    """Return the queue of a controller after it has discovered and built the branch."""
    queue = BuildQueue(repository, tmp_path_factory.mktemp("queue") / "workspace")
    try:
        queue.index_branch()
        yield queue
    finally:
        queue.close()


@pytest.fixture
def start_controller(queue_with_first_build: BuildQueue, repository: Path, tmp_path: Path) -> Iterator[StartController]:
    """Return a function that starts a controller, with a first build of the branch or before it."""
    with ExitStack() as stack:

        def start(
            faults: Faults = NO_FAULTS, *, built: bool = False, credentials: Credentials = CREDENTIALS
        ) -> Controller:
            initial = queue_with_first_build if built else None
            stub = stack.enter_context(ControllerStub(repository, tmp_path / "workspace", faults, initial))
            return Controller(stub.url, credentials, minutes=10)

        yield start


def replace_github(repository: Path) -> dict[str, str]:
    """Return environment variables that make git use a local repository for GitHub's URL."""
    key = f"url.{repository}.insteadOf"
    return {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": key, "GIT_CONFIG_VALUE_0": SOURCE}


class TestLogin:
    def test_a_user_logs_in_with_an_api_token(self, start_controller: StartController) -> None:
        assert start_controller().user() == "admin"

    def test_a_user_logs_in_with_a_password_and_a_crumb(self, start_controller: StartController) -> None:
        controller = start_controller(built=True, credentials=replace(CREDENTIALS, token=PASSWORD))
        build = controller.wait_for_build(controller.start({"REASON": "by hand"}))
        assert build.parameters["REASON"] == "by hand"

    def test_the_error_for_a_wrong_token_has_the_url_that_creates_tokens(
        self, start_controller: StartController
    ) -> None:
        with pytest.raises(UserError, match="refuses JENKINS_API_TOKEN of admin: create one at .*/me/security/"):
            start_controller(credentials=replace(CREDENTIALS, token=WRONG_SECRET)).user()

    def test_waiting_for_a_first_build_that_does_not_end_times_out(self, start_controller: StartController) -> None:
        controller = Controller(start_controller().url, CREDENTIALS, minutes=0)
        with pytest.raises(UserError, match="first build of model/main ends.*see .*/job/model/indexing/console"):
            controller.wait_for_first_build()

    def test_the_traceback_of_a_failed_connection_contains_no_secret(self) -> None:
        with pytest.raises(UserError, match="does not answer: ConnectionError$") as error:
            Controller("http://127.0.0.1:9", CREDENTIALS).ping("{}", WEBHOOK_TOKEN)
        assert "token-of-pings" not in str(error.getrepr(style="long", funcargs=True, showlocals=True))


class TestJenkinsfiles:
    def test_the_jenkinsfile_is_accepted_with_all_plugins(self, start_controller: StartController) -> None:
        checks.check_jenkinsfile(start_controller(), ROOT / "Jenkinsfile")

    def test_a_rejected_jenkinsfile_is_reported_with_the_reason(self, start_controller: StartController) -> None:
        with pytest.raises(
            AssertionError, match='does not accept Jenkinsfile: (?s:.*)Invalid option type "timestamps"'
        ):
            checks.check_jenkinsfile(start_controller(Faults(rejected_text="timestamps")), ROOT / "Jenkinsfile")


class TestPings:
    @pytest.mark.parametrize("token", [None, WRONG_SECRET], ids=["no token", "a wrong token"])
    def test_pings_without_the_token_are_refused(self, start_controller: StartController, token: Secret | None) -> None:
        checks.check_ping_is_refused(start_controller(), token)

    @pytest.mark.parametrize(("token", "description"), [(None, "no token"), (WRONG_SECRET, "a wrong token")])
    def test_accepting_pings_without_the_token_is_reported(
        self, start_controller: StartController, token: Secret | None, description: str
    ) -> None:
        with pytest.raises(AssertionError, match=f"a ping with {description} is accepted: Jenkins responds with 200"):
            checks.check_ping_is_refused(start_controller(Faults(accepts_all_pings=True)), token)

    def test_a_build_for_a_refused_ping_is_reported(self, start_controller: StartController) -> None:
        controller = start_controller(Faults(starts_builds_for_refused_pings=True))
        with pytest.raises(AssertionError, match="started nothing according to the response started 1 build"):
            checks.check_ping_is_refused(controller, WRONG_SECRET)

    @pytest.mark.parametrize("body", [MANUAL_PING, '{"trigger": "drift', "[]", ""])
    def test_pings_that_are_not_about_drift_or_data_start_nothing(
        self, start_controller: StartController, body: str
    ) -> None:
        checks.check_ping_starts_nothing(start_controller(), WEBHOOK_TOKEN, body)

    @pytest.mark.parametrize("body", [MANUAL_PING, '{"trigger": "drift'])
    def test_builds_for_pings_that_are_not_about_drift_or_data_are_reported(
        self, start_controller: StartController, body: str
    ) -> None:
        controller = start_controller(Faults(ignores_the_filter_of_pings=True))
        with pytest.raises(AssertionError, match="must not start anything started model/main"):
            checks.check_ping_starts_nothing(controller, WEBHOOK_TOKEN, body)

    def test_two_equal_pings_start_one_build(self, start_controller: StartController) -> None:
        build = checks.check_equal_pings(start_controller(built=True), WEBHOOK_TOKEN, AS_OF)
        assert build.causes == ("Pinged about drift", "Pinged about drift")

    def test_two_builds_for_two_equal_pings_are_reported(self, start_controller: StartController) -> None:
        controller = start_controller(Faults(merges_no_items=True))
        with pytest.raises(AssertionError, match="two equal pings are not merged: they are the items 1 and 2"):
            checks.check_equal_pings(controller, WEBHOOK_TOKEN, AS_OF)

    def test_a_lost_parameter_of_a_ping_is_reported(self, start_controller: StartController) -> None:
        controller = start_controller(Faults(dropped_parameter="AS_OF"), built=True)
        with pytest.raises(AssertionError, match=f"was started with AS_OF={AS_OF}, but has ;"):
            checks.check_equal_pings(controller, WEBHOOK_TOKEN, AS_OF)


class TestManualBuilds:
    def test_a_lost_parameter_of_a_manual_build_is_reported(self, start_controller: StartController) -> None:
        controller = start_controller(Faults(dropped_parameter="AS_OF"), built=True)
        with pytest.raises(AssertionError, match=f"was started with AS_OF={AS_OF}, but has ;"):
            checks.check_manual_build(controller, AS_OF)

    def test_a_failed_build_is_reported(self, start_controller: StartController) -> None:
        controller = start_controller(Faults(result="FAILURE"), built=True)
        with pytest.raises(AssertionError, match="build 2 is FAILURE: see http://.*/job/model/job/main/2/console"):
            checks.check_manual_build(controller, AS_OF)


class TestPushes:
    @pytest.fixture(autouse=True)
    def _restore_repository(self, repository: Path) -> Iterator[None]:
        """Remove the commits of a test."""
        before = sample_repository.head(repository)
        yield
        sample_repository.git(repository, "reset", "--quiet", "--hard", before)

    @pytest.fixture(autouse=True)
    def _local_github(self, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in replace_github(repository).items():
            monkeypatch.setenv(name, value)

    def test_only_pushes_with_githubs_signature_are_accepted(self, start_controller: StartController) -> None:
        controller = start_controller(built=True)
        checks.check_push_is_refused(controller, None)
        checks.check_push_is_refused(controller, WRONG_SECRET)
        checks.check_push_is_accepted(controller, GITHUB_SECRET)

    def test_the_push_of_a_new_commit_starts_a_build_of_it(
        self, start_controller: StartController, repository: Path
    ) -> None:
        controller = start_controller(built=True)
        commit = sample_repository.commit(repository, "second commit")
        build = checks.check_push_starts_build(controller, GITHUB_SECRET)
        assert (build.commit, build.causes) == (commit, ("Push event to branch main",))

    def test_the_push_of_a_commit_that_was_built_cannot_be_checked(self, start_controller: StartController) -> None:
        with pytest.raises(checks.Inapplicable, match="the last commit of main: push a commit, then check again"):
            checks.check_push_starts_build(start_controller(built=True), GITHUB_SECRET)

    @pytest.mark.parametrize(
        ("secret", "description"),
        [(None, "no signature"), (WRONG_SECRET, "a wrong signature")],
        ids=["none", "wrong"],
    )
    def test_accepting_pushes_without_githubs_signature_is_reported(
        self, start_controller: StartController, secret: Secret | None, description: str
    ) -> None:
        controller = start_controller(Faults(accepts_all_pushes=True), built=True)
        with pytest.raises(AssertionError, match=f"a push with {description} is accepted: Jenkins responds with 200"):
            checks.check_push_is_refused(controller, secret)

    def test_another_secret_on_the_controller_is_reported(self, start_controller: StartController) -> None:
        with pytest.raises(AssertionError, match="is GITHUB_WEBHOOK_SECRET that of the controller"):
            checks.check_push_is_accepted(start_controller(built=True), WRONG_SECRET)

    def test_a_push_that_starts_nothing_is_reported(self, start_controller: StartController, repository: Path) -> None:
        stub = start_controller(Faults(ignores_pushes=True), built=True)
        controller = Controller(stub.url, CREDENTIALS, minutes=0)
        sample_repository.commit(repository, "second commit")
        with pytest.raises(UserError, match="timeout after 0 minutes: waited until a build of"):
            checks.check_push_starts_build(controller, GITHUB_SECRET)


class TestStages:
    def test_a_first_build_has_the_stages_of_a_first_local_run(
        self, start_controller: StartController, local_runs: LocalRuns
    ) -> None:
        controller = start_controller(built=True)
        checks.check_stages(controller, controller.last_build(), local_runs)

    def test_a_build_with_nothing_new_has_the_stages_of_a_second_local_run(
        self, start_controller: StartController, local_runs: LocalRuns
    ) -> None:
        controller = start_controller(built=True)
        build = checks.check_manual_build(controller, AS_OF)
        assert {stage.name: stage.result for stage in controller.stages(build.number)}["Train"] == "NOT_BUILT"
        checks.check_stages(controller, build, local_runs)

    def test_a_build_with_a_champion_cannot_be_checked(
        self, start_controller: StartController, local_runs: LocalRuns
    ) -> None:
        controller = start_controller(built=True)
        build = checks.check_manual_build(controller, "2013-05-01")
        assert build.result == "UNSTABLE"
        with pytest.raises(checks.Inapplicable, match="compared its candidate with version 1"):
            checks.check_stages(controller, build, local_runs)

    def test_a_build_of_a_commit_outside_the_clone_cannot_be_checked(
        self, start_controller: StartController, tmp_path: Path
    ) -> None:
        controller = start_controller(built=True)
        with pytest.raises(checks.Inapplicable, match="is not in this clone: run git fetch"):
            checks.check_stages(controller, controller.last_build(), LocalRuns(ROOT, tmp_path))

    @pytest.mark.parametrize(
        ("faults", "message"),
        [
            (Faults(stage_names={"Train": "Trains"}), "«Train» is a stage locally, not on Jenkins"),
            (Faults(stage_names={"Lint": "Lints"}), "«Lint and test » Lints» is a stage on Jenkins, not locally"),
            (Faults(stage_results={"Compare": "UNSTABLE"}), "«Compare» is UNSTABLE on Jenkins and SUCCESS locally"),
            (Faults(result="UNSTABLE"), "the build is UNSTABLE on Jenkins and SUCCESS locally"),
            (Faults(stage_results={"Approve": "SUCCESS"}), "«Approve» is SUCCESS on Jenkins and NOT_BUILT locally"),
        ],
        ids=["name", "name of a parallel stage", "result", "result of the build", "result of a skipped stage"],
    )
    def test_differences_are_reported(
        self, start_controller: StartController, local_runs: LocalRuns, faults: Faults, message: str
    ) -> None:
        controller = start_controller(faults, built=True)
        with pytest.raises(AssertionError, match=message):
            checks.check_stages(controller, controller.last_build(), local_runs)

    def test_another_order_is_reported(self) -> None:
        stages = [StageRecord("Plan", 0, "SUCCESS"), StageRecord("Train", 0, "SUCCESS")]
        assert find_differences(stages, stages) == []
        assert find_differences(stages, stages[::-1]) == [
            "«Plan» runs on Jenkins where «Train» runs locally",
            "«Train» runs on Jenkins where «Plan» runs locally",
        ]

    def test_parallel_stages_have_no_order(self) -> None:
        parent, *parallel = (StageRecord("Both", 0), StageRecord("A", 1), StageRecord("B", 1))
        parent.result = "SUCCESS"
        assert find_differences([parent, *parallel], [parent, *parallel[::-1]]) == []

    def test_stages_inside_a_skipped_stage_are_ignored(self) -> None:
        skipped = StageRecord("Both", 0)
        assert find_differences([skipped], [skipped, StageRecord("A", 1)]) == []


def run_pytest(python: ForkedPython, tmp_path: Path, *arguments: str, **variables: str) -> tuple[int, str]:
    """Run the checks as `ct test --jenkins` does; return the exit code and the output."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "JENKINS_"))}
    process = subprocess.run(
        [python.python, *test.pytest_arguments(tmp_path / "junit.xml", *arguments), "-p", "no:cacheprovider"],
        cwd=ROOT,
        env=inherited | variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    return process.returncode, process.stdout + process.stderr


def test_the_first_build_of_the_stub_has_the_results_of_a_real_first_run(start_controller: StartController) -> None:
    """tests/continuous_training/stages/test_loop.py checks the same of the real commands."""
    results = {stage.name: stage.result for stage in start_controller(built=True).stages(1)}
    skipped = ["Roll back", "Hold", "Release", "Test the framework", "Approve"]
    assert [name for name, result in results.items() if result != "SUCCESS"] == skipped
    assert {results[name] for name in skipped} == {"NOT_BUILT"}


@pytest.mark.integration(seconds=15)
def test_all_checks_pass_on_a_correct_controller_and_print_no_secret(
    queue_with_first_build: BuildQueue, repository: Path, forked_python: ForkedPython, tmp_path: Path
) -> None:
    with ControllerStub(repository, tmp_path / "workspace", initial=queue_with_first_build) as stub:
        code, output = run_pytest(
            forked_python,
            tmp_path,
            *test.controller_arguments(stub.url, minutes=10),
            JENKINS_USER_ID="admin",
            JENKINS_API_TOKEN=TOKEN,
            WEBHOOK_TOKEN=WEBHOOK_TOKEN,
            GITHUB_WEBHOOK_SECRET=GITHUB_SECRET,
            **replace_github(repository),
        )
    assert code == 0, output
    skipped = sorted(case.message for case in test.cases(tmp_path / "junit.xml") if case.outcome == "skipped")
    assert len(skipped) == 2, output
    assert "has built" in skipped[0]
    assert "is not in this clone" in skipped[1]
    for secret in (TOKEN, WEBHOOK_TOKEN, GITHUB_SECRET):
        assert secret not in output


@pytest.mark.integration(seconds=5)
def test_without_credentials_the_checks_are_skipped_with_the_names_of_the_variables(
    forked_python: ForkedPython, tmp_path: Path
) -> None:
    code, output = run_pytest(forked_python, tmp_path, *test.controller_arguments("http://127.0.0.1:9", minutes=1))
    assert code == 0, output
    assert "JENKINS_USER_ID and JENKINS_API_TOKEN are not set" in output


@pytest.mark.integration(seconds=5)
def test_the_checks_end_with_one_error_if_jenkins_is_not_reachable(forked_python: ForkedPython, tmp_path: Path) -> None:
    variables = {"JENKINS_USER_ID": "admin", "JENKINS_API_TOKEN": TOKEN}
    arguments = test.controller_arguments("http://127.0.0.1:9", minutes=1)
    code, output = run_pytest(forked_python, tmp_path, *arguments, **variables)
    assert code == 1, output
    assert output.count("http://127.0.0.1:9/whoAmI/api/json does not answer: ConnectionError") == 1


def test_the_plugins_that_the_checks_need_are_pinned() -> None:
    """The plugins of the linter, pings, pushes and Blue Ocean's stages; Jenkins itself provides the rest."""
    needed = {"pipeline-model-definition", "generic-webhook-trigger", "github", "github-branch-source"}
    needed |= {"blueocean-rest", "blueocean-rest-impl", "blueocean-pipeline-api-impl"}
    pinned = {line.partition(":")[0] for line in (ROOT / "jenkins/plugins.txt").read_text().splitlines()}
    assert needed <= pinned


@pytest.mark.parametrize("address", ["localhost:8080", "ftp://localhost", "http://"])
def test_an_invalid_url_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="is not a URL"):
        test.controller_arguments(address, minutes=1)


def test_a_url_with_a_password_is_refused_without_printing_it() -> None:
    with pytest.raises(UsageError, match="JENKINS_API_TOKEN") as error:
        test.controller_arguments("http://admin:secret@localhost:8080", minutes=1)
    assert "secret" not in str(error.value)
