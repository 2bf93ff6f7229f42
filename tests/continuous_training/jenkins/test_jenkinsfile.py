"""The project's own Jenkinsfile: its stages, who pays for what, and that each step's command is there."""

from __future__ import annotations

import getpass
import io
import json
import re
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from conftest import ROOT
from continuous_training.stages import result_cache
from continuous_training.stages.test import Selection
from jenkinsfile.expressions.evaluator import evaluate
from jenkinsfile.expressions.parser import find_calls
from jenkinsfile.steps.arguments import SECONDS_PER_UNIT
from jenkinsfile.steps.credentials import is_pass_through
from jenkinsfile.syntax.parser import parse
from jenkinsfile.validation import validate
from local_build import BuildOutcome, run_at_terminal, run_build

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from jenkinsfile.expressions.values import Value
    from jenkinsfile.syntax.model import Call, Expression, Pipeline, Stage

STAGES = [
    *("Set up", "Roll back", "Lint and test", "Snapshot", "Check data", "Plan"),
    *("Train", "Compare", "Approve", "Register", "Deploy"),
]
SMALLER = sorted((ROOT / "jenkins").glob("*.Jenkinsfile"))
OF_ALL_BRANCHES = {"Set up", "Lint and test"}

MODEL_TESTS, FRAMEWORK_TESTS = "test --suite model", "test --suite framework --suite tool --quick"

COMMANDS = """#!/bin/sh
echo "$1" >>called
echo "$*" >>commands
mkdir -p build/junit
case $1 in
    plan) echo "{\\"decision\\": \\"${PLAN:-train}\\"}" >build/plan.json ;;
    check-model)
        echo "<testsuite><testcase name='t'><${BEHAVIOUR:-properties}/></testcase></testsuite>" >build/junit/model.xml
        ;;
    compare)
        echo "{\\"decision\\": \\"${VERDICT:-promote}\\"}" >build/verdict.json
        printf '%s\\n\\n%s\\n' 'Promote the candidate of flight_delays?' '  roc_auc is surely better' >build/verdict.txt
        ;;
    register) echo '{}' >build/registration.json ;;
esac
[ "$1" != "${BROKEN:-}" ] || exit 1
[ "$1" != "${SLOW:-}" ] || exec sleep 60
[ "$1" != report ] || echo 'Promoted: version 2 now answers' | tee build/outcome.txt >build/report.html
"""


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return parse((ROOT / "Jenkinsfile").read_text(), "Jenkinsfile")


def calls(given: tuple[Call, ...]) -> Iterator[Call]:
    for call in given:
        yield call
        yield from calls(call.body or ())


def leaves(stages: tuple[Stage, ...]) -> Iterator[Stage]:
    for stage in stages:
        yield from leaves(stage.children) if stage.children else (stage,)


def argument(call: Call, name: str | None) -> str:
    return next(given.value.text.strip("'\"") for given in call.arguments if given.name == name)


def longest(options: tuple[Call, ...]) -> float:
    timeout = next(call for call in options if call.name == "timeout")
    return int(argument(timeout, "time")) * SECONDS_PER_UNIT[argument(timeout, "unit")]


def test_the_stages_are_those_of_the_design_in_their_order(pipeline: Pipeline) -> None:
    assert [stage.name for stage in pipeline.stages] == STAGES
    assert [stage.name for stage in pipeline.stages[2].parallel or ()] == ["Lint", "Test", "Test the framework"]


def test_nothing_in_it_is_refused_by_a_local_run(pipeline: Pipeline) -> None:
    assert validate(pipeline, {}, "Jenkinsfile").errors == []


def test_only_main_takes_the_stages_that_cost_money(pipeline: Pipeline) -> None:
    for stage in pipeline.stages:
        branches = [
            argument(call, None) for call in (stage.when.conditions if stage.when else ()) if call.name == "branch"
        ]
        assert branches == ([] if stage.name in OF_ALL_BRANCHES else ["main"]), stage.name


def test_only_who_is_named_may_approve_and_the_wait_ends_before_the_pipelines_does(pipeline: Pipeline) -> None:
    approve = next(stage for stage in pipeline.stages if stage.name == "Approve")
    asked = [
        use.literals
        for call in approve.steps or ()
        for given in call.arguments
        for use in find_calls(given.value)
        if use.name == "input"
    ]
    assert [question["submitter"] for question in asked] == ["admin,approver"]
    assert longest(approve.options) < longest(pipeline.options)


def test_every_parameter_is_mapped_into_the_environment(pipeline: Pipeline) -> None:
    """Because in a job's first build $NAME is empty in `sh` while params.NAME has its default."""
    declared = [argument(call, "name") for call in pipeline.parameters]
    assert declared == ["MODEL", "AS_OF", "COMPUTE", "FORCE", "PROMOTE", "ROLLBACK", "TRIGGER", "REASON"]
    mapped = {variable.name: variable.value.text for variable in pipeline.environment}
    assert mapped.pop("TRIGGER").endswith(' : params.TRIGGER}"')
    assert {name: mapped.get(name) for name in declared if name != "TRIGGER"} == {
        name: f'"${{params.{name}}}"' for name in declared if name != "TRIGGER"
    }


@pytest.mark.parametrize("path", [ROOT / "Jenkinsfile", *SMALLER], ids=lambda path: path.name)
def test_every_credential_is_the_variable_of_its_name_so_that_a_run_without_jenkins_has_it_too(path: Path) -> None:
    bound = [
        (variable.name, use.literals[""])
        for variable in parse(path.read_text(), path.name).environment
        for use in find_calls(variable.value)
        if use.name == "credentials"
    ]
    assert bound
    assert all(is_pass_through(name, identifier) for name, identifier in bound)


def test_every_command_it_runs_is_one_of_the_scripts(pipeline: Pipeline) -> None:
    steps = [call for stage in leaves(pipeline.stages) for call in calls(stage.steps or ())]
    steps += [call for condition in pipeline.post for call in calls(condition.steps)]
    commands = [argument(call, None) for call in steps if call.name == "sh" and len(call.arguments) == 1]
    assert len(commands) >= 13
    for command in commands:
        launcher, verb, *_ = command.split()
        assert launcher == "scripts/ct"
        assert (ROOT / "scripts" / f"{verb.replace('-', '_')}.py").exists(), command


def test_a_script_block_does_nothing_but_describe_the_run(pipeline: Pipeline) -> None:
    steps = [call for stage in leaves(pipeline.stages) for call in calls(stage.steps or ())]
    steps += [call for condition in pipeline.post for call in calls(condition.steps)]
    blocks = [call.code.text.strip() for call in steps if call.name == "script" and call.code]
    assert len(blocks) == 2
    assert all(re.fullmatch(r"(?://.*\n\s*)?currentBuild\.setDescription\(.*\)", block) for block in blocks), blocks


def test_the_report_is_published_whatever_happened(pipeline: Pipeline) -> None:
    always = next(condition for condition in pipeline.post if condition.name == "always")
    assert [call.name for call in always.steps] == [
        "catchError",
        "junit",
        "catchError",
        "archiveArtifacts",
        "publishHTML",
    ]


@pytest.mark.parametrize("path", SMALLER, ids=lambda path: path.name)
def test_the_smaller_pipelines_run_here_too_and_call_what_is_there(path: Path) -> None:
    smaller = parse(path.read_text(), path.name)
    assert validate(smaller, {}, path.name).errors == []
    for stage in leaves(smaller.stages):
        for call in calls(stage.steps or ()):
            verb = argument(call, None).removeprefix("scripts/ct ").replace("-", "_")
            assert (ROOT / "scripts" / f"{verb}.py").exists()


@dataclass
class Started:
    """A build, as far as a Jenkinsfile asks why it was started."""

    causes: list[dict[str, str]]

    def set_description(self, description: str) -> None:
        raise AssertionError(f"nothing is described before it runs: {description}")


@dataclass
class Scope:
    """What is there before anything runs: the branch, what was asked for, and why."""

    values: dict[str, object]

    def variable(self, name: str) -> Value:
        return self.values[name]  # type: ignore[return-value]

    def call(self, name: str, _positional: list[Value], _named: dict[str, Value]) -> Value:
        raise AssertionError(f"«{name}» is called before anything runs")


def valued(expression: Expression, **values: object) -> str:
    return str(evaluate(expression, Scope(values)))


class TestWhyItRuns:
    CLOCK = "hudson.triggers.TimerTrigger$TimerTriggerCause"

    @staticmethod
    def message(pipeline: Pipeline, name: str, causes: list[dict[str, str]], **parameters: str) -> str:
        expression = next(variable.value for variable in pipeline.environment if variable.name == name)
        return valued(expression, currentBuild=Started(causes), params={"TRIGGER": "manual", "REASON": ""} | parameters)

    @pytest.mark.parametrize(
        ("cause", "asked", "trigger"),
        [
            (CLOCK, "manual", "cron"),
            ("jenkins.branch.BranchEventCause", "manual", "push"),
            ("jenkins.branch.BranchIndexingCause", "manual", "push"),
            ("hudson.model.Cause$UserIdCause", "manual", "manual"),
            ("hudson.model.Cause$UserIdCause", "drift", "drift"),
            ("org.jenkinsci.plugins.gwt.GenericCause", "drift", "drift"),
            ("org.jenkinsci.plugins.gwt.GenericCause", "data", "data"),
        ],
    )
    def test_what_started_a_run_is_recorded(self, pipeline: Pipeline, cause: str, asked: str, trigger: str) -> None:
        causes = [{"_class": cause, "shortDescription": "Started"}]
        assert self.message(pipeline, "TRIGGER", causes, TRIGGER=asked) == trigger

    def test_what_it_is_recorded_as_can_be_asked_for(self, pipeline: Pipeline) -> None:
        trigger = next(call for call in pipeline.parameters if argument(call, "name") == "TRIGGER")
        choices = next(given.value for given in trigger.arguments if given.name == "choices")
        assert evaluate(choices, Scope({})) == ["manual", "push", "cron", "drift", "data"]

    @pytest.mark.parametrize(
        ("reason", "message"), [("", "Pinged about drift"), ("carrier drifts", "Pinged about drift: carrier drifts")]
    )
    def test_who_started_it_is_said_with_the_reason(self, pipeline: Pipeline, reason: str, message: str) -> None:
        causes = [{"_class": "org.jenkinsci.plugins.gwt.GenericCause", "shortDescription": "Pinged about drift"}]
        assert self.message(pipeline, "STARTED", causes, REASON=reason) == message


class TestPings:
    """As the Generic Webhook Trigger judges them: what a body has is put into the text that its expression must fit."""

    @staticmethod
    def given(pipeline: Pipeline, branch: str) -> dict[str, str]:
        trigger = next(call for call in pipeline.triggers if call.name == "GenericTrigger")
        return {
            given.name: valued(given.value, env={"BRANCH_NAME": branch}) for given in trigger.arguments if given.name
        }

    def starts(self, pipeline: Pipeline, body: dict[str, str], branch: str = "main") -> bool:
        given = self.given(pipeline, branch)
        text = given["regexpFilterText"]
        for name in ("TRIGGER", "REASON", "AS_OF", "MODEL"):
            if name.lower() in body:
                text = text.replace(f"${name}", body[name.lower()])
        return re.search(given["regexpFilterExpression"], text) is not None

    @pytest.mark.parametrize(
        "body",
        [
            {"trigger": "drift"},
            {"trigger": "data", "reason": "a new month"},
            {"trigger": "drift", "reason": "$TRIGGER/x", "as_of": "2013-05-01"},
            {"trigger": "drift", "as_of": ""},
            {"trigger": "data", "model": "flight_delays"},
            {"trigger": "data", "as_of": "2013-05-01", "model": ""},
        ],
        ids=json.dumps,
    )
    def test_drift_and_new_data_start_a_run_of_main_and_of_no_other_branch(
        self, pipeline: Pipeline, body: dict[str, str]
    ) -> None:
        assert self.starts(pipeline, body)
        assert not self.starts(pipeline, body, branch="feature/x")
        assert not self.starts(pipeline, body, branch="PR-7")

    @pytest.mark.parametrize(
        "body",
        [
            {},
            {"trigger": ""},
            {"trigger": "manual"},
            {"trigger": "push"},
            {"trigger": "cron"},
            {"trigger": "drifts"},
            {"trigger": "no drift"},
            {"reason": "drift"},
            {"trigger": "drift", "as_of": "yesterday"},
            {"trigger": "drift", "as_of": "2013-05-01; rm -rf /"},
            {"trigger": "drift", "model": "../elsewhere"},
            {"trigger": "drift", "as_of": "$MODEL", "model": "2013-05-01"},
        ],
        ids=json.dumps,
    )
    def test_another_ping_starts_nothing(self, pipeline: Pipeline, body: dict[str, str]) -> None:
        assert not self.starts(pipeline, body)

    def test_what_a_ping_says_becomes_parameters_that_there_are(self, pipeline: Pipeline) -> None:
        trigger = next(call for call in pipeline.triggers if call.name == "GenericTrigger")
        variables = next(given.value for given in trigger.arguments if given.name == "genericVariables")
        assert evaluate(variables, Scope({})) == [
            {"key": "TRIGGER", "value": "$.trigger"},
            {"key": "REASON", "value": "$.reason"},
            {"key": "AS_OF", "value": "$.as_of"},
            {"key": "MODEL", "value": "$.model"},
        ]
        declared = {argument(call, "name") for call in pipeline.parameters}
        assert {"TRIGGER", "REASON", "AS_OF", "MODEL"} <= declared

    def test_its_secret_is_a_credential_and_in_no_address(self, pipeline: Pipeline) -> None:
        given = self.given(pipeline, "main")
        assert given["tokenCredentialId"] == "webhook-token"
        assert "token" not in given

    def test_pings_that_say_the_same_can_become_one_run(self, pipeline: Pipeline) -> None:
        assert self.given(pipeline, "main")["allowSeveralTriggersPerBuild"] == "True"

    def test_only_main_is_started_by_the_clock(self, pipeline: Pipeline) -> None:
        cron = next(call for call in pipeline.triggers if call.name == "cron").arguments[0].value
        assert valued(cron, env={"BRANCH_NAME": "main"}) == "H 2 * * *"
        assert valued(cron, env={"BRANCH_NAME": "feature/x"}) == ""


class TestWhatRuns:
    """The Jenkinsfile as it is, around commands that only say what the real ones decided."""

    @pytest.fixture(autouse=True)
    def _commands(self, tmp_path: Path) -> None:
        launcher = tmp_path / "scripts/ct"
        launcher.parent.mkdir()
        launcher.write_text(COMMANDS)
        launcher.chmod(0o755)

    @staticmethod
    def run(workspace: Path, *parameters: str, branch: str = "main", **decided: str) -> BuildOutcome:
        return run_build(workspace, (ROOT / "Jenkinsfile").read_text(), *parameters, branch=branch, environment=decided)

    @staticmethod
    def called(workspace: Path) -> list[str]:
        return (workspace / "called").read_text().split()

    def suites(self, workspace: Path, branch: str = "main") -> list[str]:
        """Run, and return the commands of the tests."""
        (workspace / "commands").unlink(missing_ok=True)
        assert self.run(workspace, branch=branch).result == "SUCCESS"
        return sorted(line for line in (workspace / "commands").read_text().splitlines() if line.startswith("test "))

    @staticmethod
    def make_repository(workspace: Path) -> None:
        person = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        for arguments in (["init"], ["add", "scripts"], [*person, "commit", "--message", "first"]):
            subprocess.run(["git", *arguments], cwd=workspace, check=True, capture_output=True)

    def test_a_better_candidate_is_deployed(self, tmp_path: Path) -> None:
        assert self.run(tmp_path).result == "SUCCESS"
        assert self.called(tmp_path)[3:] == [
            "snapshot",
            "check-data",
            "plan",
            "train",
            "check-model",
            "compare",
            "register",
            "deploy",
            "report",
        ]

    def test_its_description_says_who_started_it_and_why_and_then_what_became_of_it(self, tmp_path: Path) -> None:
        finished = self.run(tmp_path, "REASON=a new month")
        started = f"Started by user {getpass.getuser()}: a new month"
        told = [line for line in finished.lines if "description: " in line]
        assert told[0].endswith(f"description: {started}")
        assert finished.record["description"] == f"{started} — Promoted: version 2 now answers"

    def test_a_badge_says_it_in_a_word(self, tmp_path: Path) -> None:
        assert [line for line in self.run(tmp_path).lines if line.endswith("badge: Promoted")]

    def test_a_channel_is_told_when_the_state_of_main_changes_and_not_each_time(self, tmp_path: Path) -> None:
        told = {"SLACK_WEBHOOK_URL": "https://chat.example.com/5ecr3t"}
        self.run(tmp_path, **told)
        assert self.called(tmp_path)[-1] == "notify"
        self.run(tmp_path, **told)
        assert self.called(tmp_path)[-1] == "report"
        self.run(tmp_path, VERDICT="reject", **told)
        assert self.called(tmp_path)[-1] == "notify"
        self.run(tmp_path, branch="feature/x", **told)
        assert self.called(tmp_path)[-1] == "report"

    def test_a_channel_that_is_gone_changes_no_result(self, tmp_path: Path) -> None:
        finished = self.run(tmp_path, SLACK_WEBHOOK_URL="https://chat.example.com/5ecr3t", BROKEN="notify")
        assert self.called(tmp_path)[-1] == "notify"
        assert finished.result == "SUCCESS"

    def test_without_a_report_its_description_still_says_who_started_it(self, tmp_path: Path) -> None:
        finished = self.run(tmp_path, BROKEN="report")
        assert finished.result == "FAILURE"
        assert finished.record["description"] == f"Started by user {getpass.getuser()}"

    def test_another_branch_is_linted_and_tested_and_nothing_more(self, tmp_path: Path) -> None:
        self.run(tmp_path)
        (tmp_path / "called").unlink()
        assert self.run(tmp_path, branch="feature/x").result == "SUCCESS"
        assert sorted(self.called(tmp_path)) == ["lint", "report", "setup", "test"]

    def test_a_failed_lint_stops_the_tests_and_all_that_follows(self, tmp_path: Path) -> None:
        finished = self.run(tmp_path, BROKEN="lint", SLOW="test")
        assert finished.result == "FAILURE"
        assert finished.stages["Test"] == "ABORTED"
        assert set(self.called(tmp_path)) <= {"setup", "lint", "test", "report"}

    def test_the_framework_is_not_tested_where_none_of_its_files_has_changed(self, tmp_path: Path) -> None:
        self.make_repository(tmp_path)
        self.run(tmp_path)
        (tmp_path / "src/bikes").mkdir(parents=True)
        (tmp_path / "src/bikes/model.py").write_text("changed")
        (tmp_path / "README.md").write_text("changed")
        assert self.suites(tmp_path) == [MODEL_TESTS]

    @pytest.mark.parametrize(
        "path", ["src/continuous_training/a.py", "src/jenkinsfile/a/b.py", "scripts/a.py", "requirements.lock"]
    )
    def test_the_framework_is_tested_where_one_of_its_files_has_changed(self, tmp_path: Path, path: str) -> None:
        self.make_repository(tmp_path)
        self.run(tmp_path)
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("changed")
        assert self.suites(tmp_path) == [FRAMEWORK_TESTS, MODEL_TESTS]

    def test_the_framework_is_tested_in_the_first_build_of_a_branch_which_has_no_changes_on_jenkins(
        self, tmp_path: Path
    ) -> None:
        assert self.suites(tmp_path, branch="feature/x") == [FRAMEWORK_TESTS, MODEL_TESTS]

    def test_the_framework_is_tested_again_until_it_has_passed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("BUILD_TAG", "ct-1")
        selection = Selection("toy", ("framework", "tool"), quick=True)
        result_cache.start(selection.name)
        assert self.suites(tmp_path) == [FRAMEWORK_TESTS, MODEL_TESTS]
        result_cache.store(selection.name, "inputs")
        assert self.suites(tmp_path) == [MODEL_TESTS]

    @pytest.mark.parametrize("broken", ["lint", "test", "snapshot", "check-data"])
    def test_what_is_broken_before_training_spends_nothing_on_it(self, tmp_path: Path, broken: str) -> None:
        assert self.run(tmp_path, BROKEN=broken).result == "FAILURE"
        assert not {"train", "check-model", "compare", "register", "deploy"} & set(self.called(tmp_path))
        assert self.called(tmp_path)[-1] == "report"

    @pytest.mark.parametrize("broken", ["", "setup", "lint", "train", "deploy", "report", "reap"])
    def test_on_ec2_every_machine_of_the_run_is_released_whatever_happened(self, tmp_path: Path, broken: str) -> None:
        finished = self.run(tmp_path, "COMPUTE=ec2", BROKEN=broken)
        assert finished.result == ("FAILURE" if broken else "SUCCESS")
        assert self.called(tmp_path)[-2:] == ["reap", "report"]

    def test_with_nothing_new_to_learn_it_ends_green_after_the_plan(self, tmp_path: Path) -> None:
        finished = self.run(tmp_path, PLAN="nothing")
        assert finished.result == "SUCCESS"
        assert self.called(tmp_path)[-2:] == ["plan", "report"]
        assert {finished.stages[name] for name in STAGES[STAGES.index("Train") :]} == {"NOT_BUILT"}

    def test_a_rejected_candidate_is_yellow_and_not_registered(self, tmp_path: Path) -> None:
        finished = self.run(tmp_path, VERDICT="reject")
        assert (finished.result, finished.stages["Compare"], finished.code) == ("UNSTABLE", "UNSTABLE", 0)
        assert self.called(tmp_path)[-2:] == ["compare", "report"]

    def test_a_candidate_that_may_not_be_promoted_is_registered_and_not_deployed(self, tmp_path: Path) -> None:
        assert self.run(tmp_path, "PROMOTE=never").result == "SUCCESS"
        assert self.called(tmp_path)[-2:] == ["register", "report"]

    @pytest.mark.parametrize(("typed", "after"), [("y\n", ["register", "deploy", "report"]), ("n\n", ["report"])])
    def test_a_person_sees_the_whole_verdict_and_decides(self, tmp_path: Path, typed: str, after: list[str]) -> None:
        _, lines = run_at_terminal(tmp_path, (ROOT / "Jenkinsfile").read_text(), "-P", "PROMOTE=ask", keys=typed)
        message = [line.partition(" ")[2] for line in lines]  # what stands after the time
        at = message.index("Promote the candidate of flight_delays?")
        assert message[at + 1 : at + 4] == ["", "  roc_auc is surely better", "[Promote: y, Abort: n]"]
        called = self.called(tmp_path)
        assert called[called.index("compare") + 1 :] == after
        approved = tmp_path / "build/approved_by.txt"
        assert (approved.read_text() == getpass.getuser()) if typed == "y\n" else not approved.exists()

    def test_where_a_person_must_approve_and_none_is_there_nothing_is_registered(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sys.stdin", io.StringIO())
        finished = self.run(tmp_path, "PROMOTE=ask")
        assert (finished.result, finished.stages["Approve"]) == ("ABORTED", "ABORTED")
        assert self.called(tmp_path)[-2:] == ["compare", "report"]
        assert (finished.folder / "archive/build/verdict.txt").exists()

    def test_a_rejected_candidate_is_put_before_nobody(self, tmp_path: Path) -> None:
        finished = self.run(tmp_path, "PROMOTE=ask", VERDICT="reject")
        assert finished.stages["Approve"] == "NOT_BUILT"

    def test_failed_behaviour_tests_are_yellow_even_if_nothing_else_is(self, tmp_path: Path) -> None:
        finished = self.run(tmp_path, BEHAVIOUR="failure")
        assert finished.result == "UNSTABLE"
        assert (finished.folder / "junit/build/junit/model.xml").exists()

    def test_a_rollback_does_nothing_else(self, tmp_path: Path) -> None:
        finished = self.run(tmp_path, "ROLLBACK=true", "REASON=late", "PROMOTE=ask")
        assert finished.result == "SUCCESS"
        assert self.called(tmp_path) == ["setup", "rollback", "report"]
        assert {name for name, result in finished.stages.items() if result != "NOT_BUILT"} == {"Set up", "Roll back"}

    def test_a_rollback_that_fails_is_red(self, tmp_path: Path) -> None:
        assert self.run(tmp_path, "ROLLBACK=true", BROKEN="rollback").result == "FAILURE"
        assert self.called(tmp_path) == ["setup", "rollback", "report"]

    def test_only_main_rolls_back(self, tmp_path: Path) -> None:
        self.run(tmp_path, "ROLLBACK=true", branch="feature/x")
        assert self.called(tmp_path) == ["setup", "report"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-P", "MODLE=x"], "MODLE"),
        (["-P", "PROMOTE=perhaps"], "auto, ask, never"),
        (["-P", "FORCE=certainly"], "FORCE"),
        (["--from", "Lunch"], "there is no stage 'Lunch'"),
        (["--jenkinsfile", "nowhere"], "nowhere"),
    ],
)
def test_a_wrong_command_line_is_refused_in_one_line_before_anything_runs(arguments: list[str], message: str) -> None:
    refused = subprocess.run(
        ["scripts/ct", "run", *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert refused.returncode == 2
    assert message in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert refused.stdout == ""
