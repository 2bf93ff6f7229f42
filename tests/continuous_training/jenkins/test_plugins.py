"""The controller's plugins: what plugins.txt pins is there, fits together, and is what the Jenkinsfiles ask for."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import update_center
from conftest import ROOT
from controller_symbols import read_symbols
from jenkinsfile.expressions.parser import find_calls
from jenkinsfile.syntax.model import Call, Expression, Pipeline, PostCondition, Stage
from jenkinsfile.syntax.parser import parse
from update_center import CUT, OTHERS, PINS, WHOLE, ordered, pins, read

CENTER = read(WHOLE if WHOLE.exists() else CUT)
PINNED = pins(PINS.read_text())
OWN = pins(PINS.read_text().partition(OTHERS)[0])
LAST_SPLIT = "2.356"  # the last version of Jenkins that gave a part of itself away to a plugin (instance-identity)

SYMBOLS = read_symbols()
# What the controller's list leaves out: what stands inside of arguments.
INSIDE = {"credentials": "credentials-binding", "logRotator": "core", "string": "credentials-binding"}
# Where a Jenkinsfile may use what is found there.
PLACES = {
    "agent": ("agents",),
    "option": ("jobProperties", "steps"),
    "trigger": ("triggers",),
    "parameter": ("parameters",),
    "condition": ("whenConditions",),
    "step": ("steps", "publishers"),
}
NOT_IN_A_JENKINSFILE = {
    *("configuration-as-code", "job-dsl", "matrix-auth"),  # casc.yaml
    *("credentials", "credentials-binding", "plain-credentials"),
    *("git", "github", "github-branch-source", "workflow-multibranch"),  # the job's branches, and GitHub's pushes
    *("pipeline-graph-view", "prometheus"),  # pages
    *("blueocean-config", "blueocean-dashboard", "blueocean-events", "blueocean-i18n"),
}


class Use(NamedTuple):
    """Something that a plugin must provide: its name, as what it is used, and the arguments that are named."""

    kind: str
    name: str
    arguments: tuple[str, ...] = ()


def used(pipeline: Pipeline) -> Iterator[Use]:
    yield Use("agent", pipeline.agent.kind)
    for variable in pipeline.environment:
        yield from inside(variable.value)
    yield from named("option", pipeline.options)
    yield from named("trigger", pipeline.triggers)
    yield from named("parameter", pipeline.parameters)
    yield from afterwards(pipeline.post)
    for stage in pipeline.stages:
        yield from in_stage(stage)


def in_stage(stage: Stage) -> Iterator[Use]:
    if stage.agent:
        yield Use("agent", stage.agent.kind)
    for variable in stage.environment:
        yield from inside(variable.value)
    yield from named("option", stage.options)
    if stage.when:
        yield from named("condition", stage.when.conditions)
    if stage.input:
        yield Use("step", "input")
    yield from named("step", stage.steps or ())
    yield from afterwards(stage.post)
    for child in stage.children:
        yield from in_stage(child)


def afterwards(conditions: Iterable[PostCondition]) -> Iterator[Use]:
    for condition in conditions:
        yield from named("step", condition.steps)


def named(kind: str, calls: Iterable[Call]) -> Iterator[Use]:
    for call in calls:
        yield Use(kind, call.name, tuple(argument.name for argument in call.arguments if argument.name))
        for argument in call.arguments:
            yield from inside(argument.value)
        if call.code:
            yield from inside(call.code)
        yield from named(kind, call.body or ())


def inside(expression: Expression) -> Iterator[Use]:
    for use in find_calls(expression):
        if not use.is_method:
            yield Use("inside" if use.name in INSIDE else "step", use.name, use.argument_names)


def described(use: Use) -> dict[str, Any]:
    """Return what the controller says of something; {} if it knows none of that name."""
    return next((SYMBOLS[place][use.name] for place in PLACES[use.kind] if use.name in SYMBOLS[place]), {})


def provider(use: Use) -> str | None:
    """Name the plugin that provides something, or «core»."""
    return INSIDE[use.name] if use.kind == "inside" else described(use).get("plugin")


def jenkinsfiles() -> list[Path]:
    return [ROOT / "Jenkinsfile", *sorted((ROOT / "jenkins").glob("*.Jenkinsfile"))]


USED = sorted({use for path in jenkinsfiles() for use in used(parse(path.read_text(), path.name))})


class TestPins:
    def test_the_update_centre_has_each_at_its_version(self) -> None:
        assert {name: CENTER.plugins[name].version for name in PINNED if name in CENTER.plugins} == PINNED

    def test_what_each_needs_is_pinned_and_new_enough(self) -> None:
        needed = [(other, least) for name in PINNED for other, least in CENTER.plugins[name].needs.items()]
        assert not [(other, least) for other, least in needed if ordered(PINNED.get(other, "0")) < ordered(least)]

    def test_none_needs_a_newer_jenkins_than_there_is(self) -> None:
        assert not [name for name in PINNED if ordered(CENTER.plugins[name].core) > ordered(CENTER.core)]

    def test_none_is_deprecated(self) -> None:
        assert not [name for name in PINNED if CENTER.plugins[name].deprecated]

    def test_none_is_so_old_that_jenkins_adds_to_it_what_has_left_jenkins_since(self) -> None:
        assert not [name for name in PINNED if ordered(CENTER.plugins[name].core) < ordered(LAST_SPLIT)]

    def test_there_is_nothing_but_what_the_project_uses_and_what_that_needs(self) -> None:
        assert PINNED.keys() == CENTER.closure(OWN)

    def test_what_it_uses_itself_is_what_its_jenkinsfiles_name_and_what_they_cannot_name(self) -> None:
        assert OWN.keys() == NOT_IN_A_JENKINSFILE | {provider(use) for use in USED} - {"core"}

    def test_the_others_stand_in_the_order_of_the_alphabet(self) -> None:
        others = list(PINNED)[len(OWN) :]
        assert others == sorted(others)

    @pytest.mark.parametrize("line", ["git", "git:", "git:latest", "git:5.10.1 # why", "Git:5.10.1", "a:1\na:1"])
    def test_a_line_that_pins_nothing_is_refused(self, line: str) -> None:
        with pytest.raises(ValueError, match="is no pin"):
            pins(line)


class TestVersions:
    @pytest.mark.parametrize(
        ("older", "newer"),
        [
            ("1.9", "1.10"),
            ("1.45.0", "1.46.0.1"),
            ("2.504.3", "2.555.2"),
            ("2.555", "2.555.2"),
            ("3.7.1-3", "3.7.1-594.vb_3864f326cf0"),
            ("88.va_4187cb_eddf1", "94.vcc3065403257"),
            ("0.11.5-120.v0268cf544b_89", "0.13.0-141.vd58b_a_9592b_6c"),
        ],
    )
    def test_they_are_ordered_by_their_numbers(self, older: str, newer: str) -> None:
        assert ordered(older) < ordered(newer)

    def test_zeros_at_the_end_mean_nothing(self) -> None:
        assert ordered("1.46") == ordered("1.46.0")

    @pytest.mark.parametrize("version", ["1.0-beta-2", "latest", ""])
    def test_one_of_another_kind_is_refused(self, version: str) -> None:
        with pytest.raises(ValueError, match="unknown kind"):
            ordered(version)


class TestJenkinsfiles:
    @pytest.mark.parametrize("use", USED, ids=lambda use: f"{use.kind} {use.name}")
    def test_what_they_use_is_provided_by_jenkins_or_by_a_pinned_plugin(self, use: Use) -> None:
        assert provider(use) in {"core", *PINNED}

    @pytest.mark.parametrize(
        "use", [use for use in USED if use.kind != "inside"], ids=lambda use: f"{use.kind} {use.name}"
    )
    def test_it_takes_the_arguments_that_they_give_it(self, use: Use) -> None:
        assert set(use.arguments) <= {argument["name"] for argument in described(use)["parameters"]}

    def test_no_file_uses_a_tool_or_a_library(self) -> None:
        assert not [path for path in jenkinsfiles() if (found := parse(path.read_text())).tools or found.libraries]

    def test_whatever_a_jenkinsfile_can_use_is_found(self) -> None:
        text = """
        pipeline {
            agent { label 'x' }
            options { buildDiscarder(logRotator(numToKeepStr: '5')) }
            triggers { githubPush() }
            parameters { text(name: 'A') }
            environment { B = credentials('b') }
            stages {
                stage('One') {
                    when { not { anyOf { branch 'main'; expression { fileExists('c') } } } }
                    input { message 'Go on?' }
                    steps { retry(2) { withCredentials([string(credentialsId: 'd', variable: 'D')]) { cleanWs() } } }
                }
                stage('Two') {
                    parallel {
                        stage('Three') {
                            agent any
                            options { timestamps() }
                            steps { echo readFile('e').trim() }
                            post { always { mail to: 'f' } }
                        }
                    }
                }
            }
        }
        """
        assert {(use.kind, use.name): provider(use) for use in used(parse(text))} == {
            ("agent", "any"): "pipeline-model-definition",
            ("agent", "label"): "pipeline-model-definition",
            ("condition", "anyOf"): "pipeline-model-definition",
            ("condition", "branch"): "pipeline-model-definition",
            ("condition", "expression"): "pipeline-model-definition",
            ("condition", "not"): "pipeline-model-definition",
            ("inside", "credentials"): "credentials-binding",
            ("inside", "logRotator"): "core",
            ("inside", "string"): "credentials-binding",
            ("option", "buildDiscarder"): "core",
            ("option", "timestamps"): "timestamper",
            ("parameter", "text"): "core",
            ("step", "cleanWs"): "ws-cleanup",
            ("step", "echo"): "workflow-basic-steps",
            ("step", "fileExists"): "workflow-basic-steps",
            ("step", "input"): "pipeline-input-step",
            ("step", "mail"): "workflow-basic-steps",
            ("step", "readFile"): "workflow-basic-steps",
            ("step", "retry"): "workflow-basic-steps",
            ("step", "withCredentials"): "credentials-binding",
            ("trigger", "githubPush"): "github",
        }


@pytest.mark.skipif(not WHOLE.exists(), reason="the update centre's whole data is not on this machine")
def test_the_cut_is_what_the_whole_says_of_the_pinned() -> None:
    whole = json.loads(WHOLE.read_text())
    assert json.loads(CUT.read_text()) == update_center.cut(whole, PINNED)
