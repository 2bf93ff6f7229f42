"""The controller's plugins: the pins of plugins.txt exist, are compatible, and are those that the Jenkinsfiles use."""

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
from update_center import COMPLETE, DEPENDENCIES, PINS, REDUCED, pins, read, version_key

CENTER = read(COMPLETE if COMPLETE.exists() else REDUCED)
PROJECT_PINS = pins(PINS.read_text())
OWN = pins(PINS.read_text().partition(DEPENDENCIES)[0])
LAST_SPLIT = "2.356"  # the last version of Jenkins of which a part became a plugin (instance-identity)

SYMBOLS = read_symbols()
# Symbols inside of arguments, which the controller's list lacks
ARGUMENT_SYMBOLS = {"credentials": "credentials-binding", "logRotator": "core", "string": "credentials-binding"}
# The lists of the controller for each kind of use
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
    """A symbol that a plugin must provide: how it is used, its name, and its named arguments."""

    kind: str
    name: str
    arguments: tuple[str, ...] = ()


def find_uses(pipeline: Pipeline) -> Iterator[Use]:
    yield Use("agent", pipeline.agent.kind)
    for variable in pipeline.environment:
        yield from uses_in_expression(variable.value)
    yield from uses_of_calls("option", pipeline.options)
    yield from uses_of_calls("trigger", pipeline.triggers)
    yield from uses_of_calls("parameter", pipeline.parameters)
    yield from uses_in_post(pipeline.post)
    for stage in pipeline.stages:
        yield from uses_in_stage(stage)


def uses_in_stage(stage: Stage) -> Iterator[Use]:
    if stage.agent:
        yield Use("agent", stage.agent.kind)
    for variable in stage.environment:
        yield from uses_in_expression(variable.value)
    yield from uses_of_calls("option", stage.options)
    if stage.when:
        yield from uses_of_calls("condition", stage.when.conditions)
    if stage.input:
        yield Use("step", "input")
    yield from uses_of_calls("step", stage.steps or ())
    yield from uses_in_post(stage.post)
    for child in stage.children:
        yield from uses_in_stage(child)


def uses_in_post(conditions: Iterable[PostCondition]) -> Iterator[Use]:
    for condition in conditions:
        yield from uses_of_calls("step", condition.steps)


def uses_of_calls(kind: str, calls: Iterable[Call]) -> Iterator[Use]:
    for call in calls:
        yield Use(kind, call.name, tuple(argument.name for argument in call.arguments if argument.name))
        for argument in call.arguments:
            yield from uses_in_expression(argument.value)
        if call.code:
            yield from uses_in_expression(call.code)
        yield from uses_of_calls(kind, call.body or ())


def uses_in_expression(expression: Expression) -> Iterator[Use]:
    for use in find_calls(expression):
        if not use.is_method:
            yield Use("inside" if use.name in ARGUMENT_SYMBOLS else "step", use.name, use.argument_names)


def controller_entry(use: Use) -> dict[str, Any]:
    """Return the entry of a symbol in the controller's lists; {} if there is none."""
    return next((SYMBOLS[place][use.name] for place in PLACES[use.kind] if use.name in SYMBOLS[place]), {})


def provider(use: Use) -> str | None:
    """Return the plugin that provides a symbol, or «core»."""
    return ARGUMENT_SYMBOLS[use.name] if use.kind == "inside" else controller_entry(use).get("plugin")


def jenkinsfiles() -> list[Path]:
    return [ROOT / "Jenkinsfile", *sorted((ROOT / "jenkins").glob("*.Jenkinsfile"))]


USES = sorted({use for path in jenkinsfiles() for use in find_uses(parse(path.read_text(), path.name))})


class TestPins:
    def test_every_pin_is_a_version_of_the_update_centre(self) -> None:
        assert {name: CENTER.plugins[name].version for name in PROJECT_PINS if name in CENTER.plugins} == PROJECT_PINS

    def test_all_dependencies_are_pinned_and_new_enough(self) -> None:
        dependencies = [item for name in PROJECT_PINS for item in CENTER.plugins[name].dependencies.items()]
        assert not [
            (name, minimum)
            for name, minimum in dependencies
            if version_key(PROJECT_PINS.get(name, "0")) < version_key(minimum)
        ]

    def test_no_plugin_needs_a_newer_jenkins(self) -> None:
        assert not [name for name in PROJECT_PINS if version_key(CENTER.plugins[name].core) > version_key(CENTER.core)]

    def test_no_plugin_is_deprecated(self) -> None:
        assert not [name for name in PROJECT_PINS if CENTER.plugins[name].deprecated]

    def test_no_plugin_is_older_than_the_last_split_of_jenkins(self) -> None:
        assert not [name for name in PROJECT_PINS if version_key(CENTER.plugins[name].core) < version_key(LAST_SPLIT)]

    def test_only_the_projects_plugins_and_their_dependencies_are_pinned(self) -> None:
        assert PROJECT_PINS.keys() == CENTER.closure(OWN)

    def test_the_projects_plugins_are_those_of_the_jenkinsfiles_and_some_others(self) -> None:
        assert OWN.keys() == NOT_IN_A_JENKINSFILE | {provider(use) for use in USES} - {"core"}

    def test_dependencies_are_in_alphabetical_order(self) -> None:
        others = list(PROJECT_PINS)[len(OWN) :]
        assert others == sorted(others)

    @pytest.mark.parametrize("line", ["git", "git:", "git:latest", "git:5.10.1 # why", "Git:5.10.1", "a:1\na:1"])
    def test_a_line_without_a_pin_is_rejected(self, line: str) -> None:
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
    def test_versions_are_ordered_by_their_numbers(self, older: str, newer: str) -> None:
        assert version_key(older) < version_key(newer)

    def test_zeros_at_the_end_are_ignored(self) -> None:
        assert version_key("1.46") == version_key("1.46.0")

    @pytest.mark.parametrize("version", ["1.0-beta-2", "latest", ""])
    def test_an_unknown_format_is_rejected(self, version: str) -> None:
        with pytest.raises(ValueError, match="unknown format"):
            version_key(version)


class TestJenkinsfiles:
    @pytest.mark.parametrize("use", USES, ids=lambda use: f"{use.kind} {use.name}")
    def test_every_symbol_is_provided_by_jenkins_or_a_pinned_plugin(self, use: Use) -> None:
        assert provider(use) in {"core", *PROJECT_PINS}

    @pytest.mark.parametrize(
        "use", [use for use in USES if use.kind != "inside"], ids=lambda use: f"{use.kind} {use.name}"
    )
    def test_every_symbol_has_these_arguments(self, use: Use) -> None:
        assert set(use.arguments) <= {argument["name"] for argument in controller_entry(use)["parameters"]}

    def test_no_file_uses_a_tool_or_a_library(self) -> None:
        assert not [
            path for path in jenkinsfiles() if (pipeline := parse(path.read_text())).tools or pipeline.libraries
        ]

    def test_uses_are_found_everywhere_in_a_jenkinsfile(self) -> None:
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
        assert {(use.kind, use.name): provider(use) for use in find_uses(parse(text))} == {
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


@pytest.mark.skipif(not COMPLETE.exists(), reason="the update centre's whole data is not on this machine")
def test_the_reduced_data_are_those_of_the_update_centre() -> None:
    whole = json.loads(COMPLETE.read_text())
    assert json.loads(REDUCED.read_text()) == update_center.reduce_data(whole, PROJECT_PINS)
