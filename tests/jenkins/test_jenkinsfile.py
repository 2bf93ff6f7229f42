"""The project's own Jenkinsfile: its stages, who pays for what, and that each step's command is there."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from conftest import ROOT
from continuous_training.jenkinsfile.parser import parse
from continuous_training.jenkinsfile.refusals import examine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from continuous_training.jenkinsfile.model import Call, Pipeline, Stage

FREE = ["Set up", "Lint and test"]
PAID = ["Snapshot", "Check data", "Plan", "Train", "Compare", "Approve", "Register", "Deploy"]


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


def test_the_stages_are_those_of_the_design_in_their_order(pipeline: Pipeline) -> None:
    assert [stage.name for stage in pipeline.stages] == FREE + PAID
    assert [stage.name for stage in pipeline.stages[1].parallel or ()] == ["Lint", "Test"]


def test_nothing_in_it_is_refused_by_a_local_run(pipeline: Pipeline) -> None:
    assert examine(pipeline, {}, "Jenkinsfile").refusals == []


def test_only_main_takes_the_stages_that_cost_money(pipeline: Pipeline) -> None:
    for stage in pipeline.stages:
        branches = [
            argument(call, None) for call in (stage.when.conditions if stage.when else ()) if call.name == "branch"
        ]
        assert branches == (["main"] if stage.name in PAID else []), stage.name


def test_a_person_is_asked_before_and_not_after_the_executor_waits(pipeline: Pipeline) -> None:
    approve = next(stage for stage in pipeline.stages if stage.input)
    assert approve.when is not None
    assert "beforeInput" in approve.when.before


def test_every_parameter_is_mapped_into_the_environment(pipeline: Pipeline) -> None:
    """Because in a job's first build $NAME is empty in `sh` while params.NAME has its default."""
    declared = [argument(call, "name") for call in pipeline.parameters]
    assert declared == ["MODEL", "AS_OF", "COMPUTE", "FORCE", "PROMOTE", "TRIGGER", "REASON"]
    assert {variable.name: variable.value.text for variable in pipeline.environment} == {
        name: f'"${{params.{name}}}"' for name in declared
    }


def test_every_command_it_runs_is_one_of_the_scripts(pipeline: Pipeline) -> None:
    steps = [call for stage in leaves(pipeline.stages) for call in calls(stage.steps or ())]
    steps += [call for condition in pipeline.post for call in calls(condition.steps)]
    commands = [argument(call, None) for call in steps if call.name == "sh" and len(call.arguments) == 1]
    assert len(commands) >= 11
    for command in commands:
        launcher, verb, *_ = command.split()
        assert launcher == "scripts/ct"
        assert (ROOT / "scripts" / f"{verb.replace('-', '_')}.py").exists(), command


def test_there_is_no_script_block(pipeline: Pipeline) -> None:
    assert not [call for stage in leaves(pipeline.stages) for call in calls(stage.steps or ()) if call.name == "script"]


def test_the_report_is_published_whatever_happened(pipeline: Pipeline) -> None:
    always = next(condition for condition in pipeline.post if condition.name == "always")
    assert [call.name for call in always.steps] == ["sh", "junit", "archiveArtifacts", "publishHTML"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-P", "MODLE=x"], "MODLE"),
        (["-P", "PROMOTE=perhaps"], "auto, ask, never"),
        (["-P", "FORCE=certainly"], "FORCE"),
        (["--from", "Lunch"], "there is no stage «Lunch»"),
        (["--jenkinsfile", "nowhere"], "nowhere"),
    ],
)
def test_a_wrong_command_line_is_refused_in_one_line_before_anything_runs(arguments: list[str], said: str) -> None:
    refused = subprocess.run(
        ["scripts/ct", "run", *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert refused.returncode == 2
    assert said in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert refused.stdout == ""
