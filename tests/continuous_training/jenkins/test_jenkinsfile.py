"""The project's Jenkinsfile: its stages, triggers and conditions, and whole runs with stubs of the commands."""

from __future__ import annotations

import getpass
import io
import json
import re
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from conftest import ROOT, TIMEOUT
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
    *("Set up", "Roll back", "Hold", "Release", "Lint and test", "Snapshot", "Check data", "Plan"),
    *("Train", "Compare", "Refit", "Approve", "Register", "Deploy"),
]
OTHER_JENKINSFILES = sorted((ROOT / "jenkins").glob("*.Jenkinsfile"))
STAGES_OF_ALL_BRANCHES = {"Set up", "Lint and test"}

MODEL_TESTS, FRAMEWORK_TESTS = "test --suite model", "test --suite framework --suite tool --quick"

COMMANDS = """#!/bin/sh
echo "$1" >>verbs
echo "$*" >>commands
mkdir -p build/junit
case $1 in
    plan) echo "{\\"decision\\": \\"${PLAN:-train}\\"}" >build/plan.json ;;
    check-model)
        echo "<testsuite><testcase name='t'><${BEHAVIOUR:-properties}/></testcase></testsuite>" >build/junit/model.xml
        ;;
    compare)
        echo "{\\"decision\\": \\"${VERDICT:-promote}\\"}" >build/verdict.json
        printf '%s\\n\\n%s\\n' 'Promote the candidate of flight_delays?' '  roc_auc is better' >build/verdict.txt
        ;;
    refit) echo '  the refit agrees' >build/refit.txt ;;
    register)
        decision=promote
        if [ "$PROMOTE" = never ] || [ -n "${ON_HOLD:-}" ]; then decision=hold; fi
        echo "{\\"decision\\": \\"$decision\\"}" >build/registration.json
        ;;
esac
[ "$1" != "${BROKEN:-}" ] || exit 1
[ "$1" != "${SLOW:-}" ] || exec sleep 60
[ "$1" != report ] || echo 'Promoted: version 2 is the champion' | tee build/outcome.txt >build/report.html
"""


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return parse((ROOT / "Jenkinsfile").read_text(), "Jenkinsfile")


def all_calls(calls: tuple[Call, ...]) -> Iterator[Call]:
    for call in calls:
        yield call
        yield from all_calls(call.body or ())


def leaf_stages(stages: tuple[Stage, ...]) -> Iterator[Stage]:
    for stage in stages:
        yield from leaf_stages(stage.children) if stage.children else (stage,)


def argument(call: Call, name: str | None) -> str:
    return next(item.value.text.strip("'\"") for item in call.arguments if item.name == name)


def timeout_seconds(options: tuple[Call, ...]) -> float:
    timeout = next(call for call in options if call.name == "timeout")
    return int(argument(timeout, "time")) * SECONDS_PER_UNIT[argument(timeout, "unit")]


def test_the_stages_and_their_order(pipeline: Pipeline) -> None:
    assert [stage.name for stage in pipeline.stages] == STAGES
    assert [stage.name for stage in pipeline.stages[4].parallel or ()] == ["Lint", "Test", "Test the framework"]


def test_a_local_run_supports_the_whole_jenkinsfile(pipeline: Pipeline) -> None:
    assert validate(pipeline, {}, "Jenkinsfile").errors == []


def test_only_main_runs_the_stages_that_cost_money(pipeline: Pipeline) -> None:
    for stage in pipeline.stages:
        branches = [
            argument(call, None) for call in (stage.when.conditions if stage.when else ()) if call.name == "branch"
        ]
        assert branches == ([] if stage.name in STAGES_OF_ALL_BRANCHES else ["main"]), stage.name


def test_only_two_users_can_approve_and_the_approval_times_out_before_the_pipeline(pipeline: Pipeline) -> None:
    approve = next(stage for stage in pipeline.stages if stage.name == "Approve")
    inputs = [
        use.literals
        for call in approve.steps or ()
        for item in call.arguments
        for use in find_calls(item.value)
        if use.name == "input"
    ]
    assert [literals["submitter"] for literals in inputs] == ["admin,approver"]
    assert timeout_seconds(approve.options) < timeout_seconds(pipeline.options)


def test_every_parameter_is_mapped_into_the_environment(pipeline: Pipeline) -> None:
    """In a job's first build `sh` would have no variable for it, although params.NAME has its default."""
    parameters = [argument(call, "name") for call in pipeline.parameters]
    assert " ".join(parameters) == "MODEL AS_OF COMPUTE FORCE PROMOTE ROLLBACK HOLD ACCEPT TRIGGER REASON"
    environment = {variable.name: variable.value.text for variable in pipeline.environment}
    assert environment.pop("TRIGGER").endswith(' : params.TRIGGER}"')
    assert {name: environment.get(name) for name in parameters if name != "TRIGGER"} == {
        name: f'"${{params.{name}}}"' for name in parameters if name != "TRIGGER"
    }


@pytest.mark.parametrize("path", [ROOT / "Jenkinsfile", *OTHER_JENKINSFILES], ids=lambda path: path.name)
def test_every_credential_has_the_name_of_its_variable(path: Path) -> None:
    credentials = [
        (variable.name, use.literals[""])
        for variable in parse(path.read_text(), path.name).environment
        for use in find_calls(variable.value)
        if use.name == "credentials"
    ]
    assert credentials
    assert all(is_pass_through(name, identifier) for name, identifier in credentials)


def test_every_command_is_a_verb_of_ct(pipeline: Pipeline) -> None:
    steps = [call for stage in leaf_stages(pipeline.stages) for call in all_calls(stage.steps or ())]
    steps += [call for condition in pipeline.post for call in all_calls(condition.steps)]
    commands = [argument(call, None) for call in steps if call.name == "sh" and len(call.arguments) == 1]
    assert len(commands) >= 13
    for command in commands:
        launcher, verb, *_ = command.split()
        assert launcher == "scripts/ct"
        assert (ROOT / "scripts" / f"{verb.replace('-', '_')}.py").exists(), command


def test_script_blocks_only_set_the_description(pipeline: Pipeline) -> None:
    steps = [call for stage in leaf_stages(pipeline.stages) for call in all_calls(stage.steps or ())]
    steps += [call for condition in pipeline.post for call in all_calls(condition.steps)]
    blocks = [call.code.text.strip() for call in steps if call.name == "script" and call.code]
    assert len(blocks) == 2
    assert all(re.fullmatch(r"(?://.*\n\s*)?currentBuild\.setDescription\(.*\)", block) for block in blocks), blocks


def test_the_report_is_always_published(pipeline: Pipeline) -> None:
    always = next(condition for condition in pipeline.post if condition.name == "always")
    assert [call.name for call in always.steps] == [
        "catchError",
        "junit",
        "catchError",
        "archiveArtifacts",
        "publishHTML",
    ]


@pytest.mark.parametrize("path", OTHER_JENKINSFILES, ids=lambda path: path.name)
def test_a_local_run_supports_the_other_jenkinsfiles_and_their_verbs_exist(path: Path) -> None:
    other = parse(path.read_text(), path.name)
    assert validate(other, {}, path.name).errors == []
    for stage in leaf_stages(other.stages):
        for call in all_calls(stage.steps or ()):
            verb = argument(call, None).removeprefix("scripts/ct ").replace("-", "_")
            assert (ROOT / "scripts" / f"{verb}.py").exists()


@dataclass
class CurrentBuild:
    """`currentBuild` with the causes of the build."""

    causes: list[dict[str, str]]

    def set_description(self, description: str) -> None:
        raise AssertionError(f"the description is set before a stage runs: {description}")


@dataclass
class Scope:
    """The variables of expressions before any stage runs."""

    values: dict[str, object]

    def variable(self, name: str) -> Value:
        return self.values[name]  # type: ignore[return-value]

    def call(self, name: str, _positional: list[Value], _keywords: dict[str, Value]) -> Value:
        raise AssertionError(f"{name} is called before a stage runs")


def evaluate_text(expression: Expression, **values: object) -> str:
    return str(evaluate(expression, Scope(values)))


class TestTrigger:
    TIMER = "hudson.triggers.TimerTrigger$TimerTriggerCause"

    @staticmethod
    def variable(pipeline: Pipeline, name: str, causes: list[dict[str, str]], **parameters: str) -> str:
        expression = next(variable.value for variable in pipeline.environment if variable.name == name)
        return evaluate_text(
            expression, currentBuild=CurrentBuild(causes), params={"TRIGGER": "manual", "REASON": ""} | parameters
        )

    @pytest.mark.parametrize(
        ("cause", "parameter", "trigger"),
        [
            (TIMER, "manual", "cron"),
            ("jenkins.branch.BranchEventCause", "manual", "push"),
            ("jenkins.branch.BranchIndexingCause", "manual", "push"),
            ("hudson.model.Cause$UserIdCause", "manual", "manual"),
            ("hudson.model.Cause$UserIdCause", "drift", "drift"),
            ("org.jenkinsci.plugins.gwt.GenericCause", "drift", "drift"),
            ("org.jenkinsci.plugins.gwt.GenericCause", "data", "data"),
        ],
    )
    def test_the_trigger_depends_on_the_cause_and_the_parameter(
        self, pipeline: Pipeline, cause: str, parameter: str, trigger: str
    ) -> None:
        causes = [{"_class": cause, "shortDescription": "Started"}]
        assert self.variable(pipeline, "TRIGGER", causes, TRIGGER=parameter) == trigger

    def test_every_trigger_is_a_choice_of_the_parameter(self, pipeline: Pipeline) -> None:
        trigger = next(call for call in pipeline.parameters if argument(call, "name") == "TRIGGER")
        choices = next(item.value for item in trigger.arguments if item.name == "choices")
        assert evaluate(choices, Scope({})) == ["manual", "push", "cron", "drift", "data"]

    @pytest.mark.parametrize(
        ("reason", "message"), [("", "Pinged about drift"), ("carrier drifts", "Pinged about drift: carrier drifts")]
    )
    def test_the_cause_is_described_with_the_reason(self, pipeline: Pipeline, reason: str, message: str) -> None:
        causes = [{"_class": "org.jenkinsci.plugins.gwt.GenericCause", "shortDescription": "Pinged about drift"}]
        assert self.variable(pipeline, "STARTED", causes, REASON=reason) == message


class TestPings:
    """The filter of the Generic Webhook Trigger: its expression must match the text with the variables of the body."""

    @staticmethod
    def trigger_arguments(pipeline: Pipeline, branch: str) -> dict[str, str]:
        trigger = next(call for call in pipeline.triggers if call.name == "GenericTrigger")
        return {
            item.name: evaluate_text(item.value, env={"BRANCH_NAME": branch}) for item in trigger.arguments if item.name
        }

    def starts(self, pipeline: Pipeline, body: dict[str, str], branch: str = "main") -> bool:
        arguments = self.trigger_arguments(pipeline, branch)
        text = arguments["regexpFilterText"]
        for name in ("TRIGGER", "REASON", "AS_OF", "MODEL"):
            if name.lower() in body:
                text = text.replace(f"${name}", body[name.lower()])
        return re.search(arguments["regexpFilterExpression"], text) is not None

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
    def test_pings_about_drift_and_new_data_start_only_main(self, pipeline: Pipeline, body: dict[str, str]) -> None:
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
    def test_other_pings_start_nothing(self, pipeline: Pipeline, body: dict[str, str]) -> None:
        assert not self.starts(pipeline, body)

    def test_the_keys_of_a_ping_become_declared_parameters(self, pipeline: Pipeline) -> None:
        trigger = next(call for call in pipeline.triggers if call.name == "GenericTrigger")
        variables = next(item.value for item in trigger.arguments if item.name == "genericVariables")
        assert evaluate(variables, Scope({})) == [
            {"key": "TRIGGER", "value": "$.trigger"},
            {"key": "REASON", "value": "$.reason"},
            {"key": "AS_OF", "value": "$.as_of"},
            {"key": "MODEL", "value": "$.model"},
        ]
        parameters = {argument(call, "name") for call in pipeline.parameters}
        assert {"TRIGGER", "REASON", "AS_OF", "MODEL"} <= parameters

    def test_the_token_is_a_credential_and_not_in_the_file(self, pipeline: Pipeline) -> None:
        arguments = self.trigger_arguments(pipeline, "main")
        assert arguments["tokenCredentialId"] == "webhook-token"
        assert "token" not in arguments

    def test_equal_pings_can_be_merged(self, pipeline: Pipeline) -> None:
        assert self.trigger_arguments(pipeline, "main")["allowSeveralTriggersPerBuild"] == "True"

    def test_only_main_is_started_by_cron(self, pipeline: Pipeline) -> None:
        cron = next(call for call in pipeline.triggers if call.name == "cron").arguments[0].value
        assert evaluate_text(cron, env={"BRANCH_NAME": "main"}) == "H 2 * * *"
        assert evaluate_text(cron, env={"BRANCH_NAME": "feature/x"}) == ""


class TestRuns:
    """Runs of the Jenkinsfile with stubs of the commands."""

    @pytest.fixture(autouse=True)
    def _commands(self, tmp_path: Path) -> None:
        launcher = tmp_path / "scripts/ct"
        launcher.parent.mkdir()
        launcher.write_text(COMMANDS)
        launcher.chmod(0o755)

    @staticmethod
    def run(workspace: Path, *parameters: str, branch: str = "main", **variables: str) -> BuildOutcome:
        return run_build(
            workspace, (ROOT / "Jenkinsfile").read_text(), *parameters, branch=branch, environment=variables
        )

    @staticmethod
    def verbs(workspace: Path) -> list[str]:
        return (workspace / "verbs").read_text().split()

    def run_suites(self, workspace: Path, branch: str = "main") -> list[str]:
        """Run, and return the commands that start tests."""
        (workspace / "commands").unlink(missing_ok=True)
        assert self.run(workspace, branch=branch).result == "SUCCESS"
        return sorted(line for line in (workspace / "commands").read_text().splitlines() if line.startswith("test "))

    @staticmethod
    def make_repository(workspace: Path) -> None:
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        for arguments in (["init"], ["add", "scripts"], [*identity, "commit", "--message", "first"]):
            subprocess.run(["git", *arguments], cwd=workspace, check=True, capture_output=True)

    def test_a_better_candidate_is_deployed(self, tmp_path: Path) -> None:
        assert self.run(tmp_path).result == "SUCCESS"
        assert self.verbs(tmp_path)[3:] == [
            "snapshot",
            "check-data",
            "plan",
            "train",
            "check-model",
            "compare",
            "refit",
            "register",
            "deploy",
            "report",
        ]

    def test_the_description_has_the_cause_the_reason_and_then_the_outcome(self, tmp_path: Path) -> None:
        build = self.run(tmp_path, "REASON=a new month")
        cause = f"Started by user {getpass.getuser()}: a new month"
        descriptions = [line for line in build.lines if "description: " in line]
        assert descriptions[0].endswith(f"description: {cause}")
        assert build.record["description"] == f"{cause} — Promoted: version 2 is the champion"

    def test_a_badge_has_the_outcome_in_a_word(self, tmp_path: Path) -> None:
        assert [line for line in self.run(tmp_path).lines if line.endswith("badge: Promoted")]

    def test_the_channel_is_notified_when_the_state_of_main_changes(self, tmp_path: Path) -> None:
        variables = {"SLACK_WEBHOOK_URL": "https://chat.example.com/5ecr3t"}
        self.run(tmp_path, **variables)
        assert self.verbs(tmp_path)[-1] == "notify"
        self.run(tmp_path, **variables)
        assert self.verbs(tmp_path)[-1] == "report"
        self.run(tmp_path, VERDICT="reject", **variables)
        assert self.verbs(tmp_path)[-1] == "notify"
        self.run(tmp_path, branch="feature/x", **variables)
        assert self.verbs(tmp_path)[-1] == "report"

    def test_a_failed_notification_does_not_change_the_result(self, tmp_path: Path) -> None:
        build = self.run(tmp_path, SLACK_WEBHOOK_URL="https://chat.example.com/5ecr3t", BROKEN="notify")
        assert self.verbs(tmp_path)[-1] == "notify"
        assert build.result == "SUCCESS"

    def test_the_description_has_the_cause_without_a_report(self, tmp_path: Path) -> None:
        build = self.run(tmp_path, BROKEN="report")
        assert build.result == "FAILURE"
        assert build.record["description"] == f"Started by user {getpass.getuser()}"

    def test_other_branches_are_only_linted_and_tested(self, tmp_path: Path) -> None:
        self.run(tmp_path)
        (tmp_path / "verbs").unlink()
        assert self.run(tmp_path, branch="feature/x").result == "SUCCESS"
        assert sorted(self.verbs(tmp_path)) == ["lint", "report", "setup", "test"]

    def test_a_failed_lint_aborts_the_tests_and_skips_all_other_stages(self, tmp_path: Path) -> None:
        build = self.run(tmp_path, BROKEN="lint", SLOW="test")
        assert build.result == "FAILURE"
        assert build.stages["Test"] == "ABORTED"
        assert set(self.verbs(tmp_path)) <= {"setup", "lint", "test", "report"}

    def test_the_framework_is_not_tested_if_none_of_its_files_has_changed(self, tmp_path: Path) -> None:
        self.make_repository(tmp_path)
        self.run(tmp_path)
        (tmp_path / "src/bikes").mkdir(parents=True)
        (tmp_path / "src/bikes/model.py").write_text("changed")
        (tmp_path / "README.md").write_text("changed")
        assert self.run_suites(tmp_path) == [MODEL_TESTS]

    @pytest.mark.parametrize(
        "path", ["src/continuous_training/a.py", "src/jenkinsfile/a/b.py", "scripts/a.py", "requirements.lock"]
    )
    def test_the_framework_is_tested_if_one_of_its_files_has_changed(self, tmp_path: Path, path: str) -> None:
        self.make_repository(tmp_path)
        self.run(tmp_path)
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("changed")
        assert self.run_suites(tmp_path) == [FRAMEWORK_TESTS, MODEL_TESTS]

    def test_the_framework_is_tested_in_the_first_build_of_a_branch(self, tmp_path: Path) -> None:
        assert self.run_suites(tmp_path, branch="feature/x") == [FRAMEWORK_TESTS, MODEL_TESTS]

    def test_the_framework_is_tested_again_until_it_has_passed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("BUILD_TAG", "ct-1")
        selection = Selection("toy", ("framework", "tool"), quick=True)
        result_cache.start(selection.name)
        assert self.run_suites(tmp_path) == [FRAMEWORK_TESTS, MODEL_TESTS]
        result_cache.store(selection.name, "inputs")
        assert self.run_suites(tmp_path) == [MODEL_TESTS]

    @pytest.mark.parametrize("failing_stage", ["lint", "test", "snapshot", "check-data"])
    def test_no_training_starts_after_a_failed_stage(self, tmp_path: Path, failing_stage: str) -> None:
        assert self.run(tmp_path, BROKEN=failing_stage).result == "FAILURE"
        assert not {"train", "check-model", "compare", "refit", "register", "deploy"} & set(self.verbs(tmp_path))
        assert self.verbs(tmp_path)[-1] == "report"

    @pytest.mark.parametrize("failing_command", ["", "setup", "lint", "train", "deploy", "report", "reap"])
    def test_on_ec2_the_instances_of_the_run_are_always_terminated(self, tmp_path: Path, failing_command: str) -> None:
        build = self.run(tmp_path, "COMPUTE=ec2", BROKEN=failing_command)
        assert build.result == ("FAILURE" if failing_command else "SUCCESS")
        assert self.verbs(tmp_path)[-2:] == ["reap", "report"]

    def test_a_run_without_a_new_fingerprint_succeeds_after_plan(self, tmp_path: Path) -> None:
        build = self.run(tmp_path, PLAN="nothing")
        assert build.result == "SUCCESS"
        assert self.verbs(tmp_path)[-2:] == ["plan", "report"]
        assert {build.stages[name] for name in STAGES[STAGES.index("Train") :]} == {"NOT_BUILT"}

    def test_a_rejected_candidate_makes_the_build_unstable_and_is_not_registered(self, tmp_path: Path) -> None:
        build = self.run(tmp_path, VERDICT="reject")
        assert (build.result, build.stages["Compare"], build.code) == ("UNSTABLE", "UNSTABLE", 0)
        assert self.verbs(tmp_path)[-2:] == ["compare", "report"]

    def test_a_candidate_is_registered_and_not_deployed_with_promote_never(self, tmp_path: Path) -> None:
        assert self.run(tmp_path, "PROMOTE=never").result == "SUCCESS"
        assert self.verbs(tmp_path)[-2:] == ["register", "report"]

    def test_a_candidate_is_registered_and_not_deployed_while_the_model_is_on_hold(self, tmp_path: Path) -> None:
        build = self.run(tmp_path, ON_HOLD="yes")
        assert (build.result, build.stages["Deploy"]) == ("SUCCESS", "NOT_BUILT")
        assert self.verbs(tmp_path)[-2:] == ["register", "report"]

    @pytest.mark.parametrize(("keys", "verbs"), [("y\n", ["register", "deploy", "report"]), ("n\n", ["report"])])
    def test_the_approver_sees_the_whole_verdict_and_decides(self, tmp_path: Path, keys: str, verbs: list[str]) -> None:
        _, lines = run_at_terminal(tmp_path, (ROOT / "Jenkinsfile").read_text(), "-P", "PROMOTE=ask", keys=keys)
        message = [line.partition(" ")[2] for line in lines]  # without the time
        start = message.index("Promote the candidate of flight_delays?")
        assert message[start + 1 : start + 4] == ["", "  roc_auc is better", "  the refit agrees"]
        all_verbs = self.verbs(tmp_path)
        assert all_verbs[all_verbs.index("refit") + 1 :] == verbs
        approved_by = tmp_path / "build/approved_by.txt"
        assert (approved_by.read_text() == getpass.getuser()) if keys == "y\n" else not approved_by.exists()

    def test_nothing_is_registered_without_a_terminal_for_the_approval(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sys.stdin", io.StringIO())
        build = self.run(tmp_path, "PROMOTE=ask")
        assert (build.result, build.stages["Approve"]) == ("ABORTED", "ABORTED")
        assert self.verbs(tmp_path)[-2:] == ["refit", "report"]
        assert (build.folder / "archive/build/verdict.txt").exists()

    def test_a_rejected_candidate_needs_no_approval(self, tmp_path: Path) -> None:
        build = self.run(tmp_path, "PROMOTE=ask", VERDICT="reject")
        assert build.stages["Approve"] == "NOT_BUILT"

    def test_failed_behaviour_tests_make_the_build_unstable(self, tmp_path: Path) -> None:
        build = self.run(tmp_path, BEHAVIOUR="failure")
        assert build.result == "UNSTABLE"
        assert (build.folder / "junit/build/junit/model.xml").exists()

    def test_a_rollback_skips_all_other_stages(self, tmp_path: Path) -> None:
        build = self.run(tmp_path, "ROLLBACK=true", "REASON=late", "PROMOTE=ask")
        assert build.result == "SUCCESS"
        assert self.verbs(tmp_path) == ["setup", "rollback", "report"]
        assert {name for name, result in build.stages.items() if result != "NOT_BUILT"} == {"Set up", "Roll back"}

    @pytest.mark.parametrize(("verb", "stage"), [("hold", "Hold"), ("release", "Release")])
    def test_a_hold_and_a_release_skip_all_other_stages(self, tmp_path: Path, verb: str, stage: str) -> None:
        build = self.run(tmp_path, f"HOLD={verb}", "REASON=late", "PROMOTE=ask")
        assert build.result == "SUCCESS"
        assert self.verbs(tmp_path) == ["setup", verb, "report"]
        assert {name for name, result in build.stages.items() if result != "NOT_BUILT"} == {"Set up", stage}

    @pytest.mark.parametrize("verb", ["hold", "release"])
    def test_only_main_can_hold_and_release(self, tmp_path: Path, verb: str) -> None:
        self.run(tmp_path, f"HOLD={verb}", branch="feature/x")
        assert self.verbs(tmp_path) == ["setup", "report"]

    def test_a_failed_rollback_fails_the_build(self, tmp_path: Path) -> None:
        assert self.run(tmp_path, "ROLLBACK=true", BROKEN="rollback").result == "FAILURE"
        assert self.verbs(tmp_path) == ["setup", "rollback", "report"]

    def test_only_main_can_roll_back(self, tmp_path: Path) -> None:
        self.run(tmp_path, "ROLLBACK=true", branch="feature/x")
        assert self.verbs(tmp_path) == ["setup", "report"]


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
def test_an_invalid_command_line_is_rejected_in_one_line(arguments: list[str], message: str) -> None:
    process = subprocess.run(
        ["scripts/ct", "run", *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=TIMEOUT
    )
    assert process.returncode == 2
    assert message in process.stderr
    assert process.stderr.count("\n") == 1
    assert process.stdout == ""
