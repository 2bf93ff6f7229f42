"""Parsing a Jenkinsfile."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jenkinsfile.syntax.model import JenkinsfileError
from jenkinsfile.syntax.parser import parse
from jenkinsfile.syntax.strings import unquote
from local_build import pipeline

SAMPLES = sorted((Path(__file__).parent / "samples").glob("*.Jenkinsfile"))


def steps(text: str):
    return parse(pipeline(text)).stages[0].steps


def error_message(text: str) -> str:
    with pytest.raises(JenkinsfileError) as error:
        parse(text)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.stem)
def test_a_sample_of_every_construct_is_parsed(sample):
    assert parse(sample.read_text(), sample.name).stages


def test_sections_are_in_the_element_that_contains_them():
    everything = parse((Path(__file__).parent / "samples/everything.Jenkinsfile").read_text())
    assert everything.agent.kind == "kubernetes"
    assert [variable.name for variable in everything.environment] == ["PLAIN", "JOINED", "SECRET", "ASKED"]
    assert [call.name for call in everything.parameters] == ["string", "text", "booleanParam", "choice", "password"]
    assert [call.name for call in everything.triggers] == ["cron", "pollSCM"]
    assert [call.name for call in everything.tools] == ["maven", "jdk"]
    assert [condition.name for condition in everything.post] == ["always", "failure", "cleanup"]
    build, checks, systems, release = everything.stages
    assert [call.name for call in build.steps] == ["checkout", "sh", "sh", "withCredentials", "script", "echo"]
    assert checks.fail_fast
    assert [stage.name for stage in checks.parallel] == ["Unit", "Style"]
    assert [call.name for call in systems.matrix.axes[0].settings] == ["name", "values"]
    assert len(systems.matrix.excludes) == 1
    assert release.when.before == {"beforeInput"}
    assert [call.name for call in release.when.conditions] == ["branch", "not", "expression"]
    assert [call.name for call in release.input.parameters] == ["choice"]


def test_elements_have_their_position():
    stage = parse(
        "pipeline {\n  agent any\n  stages {\n    stage('A') {\n      steps { sh 'x' }\n    }\n  }\n}"
    ).stages[0]
    assert (stage.position.line, stage.position.column) == (4, 5)
    assert (stage.steps[0].position.line, stage.steps[0].position.column) == (5, 15)
    assert stage.steps[0].arguments[0].value.position.column == 18


def test_arguments_can_have_parentheses_and_several_lines():
    plain, in_parentheses, multiline, expression = steps(
        "sh script: 'a', returnStatus: true\nsh(script: 'a', returnStatus: true)\n"
        "sh script: 'a',  // a comment\n   returnStatus: true\necho 'a' +\n 'b'"
    )
    for call in (plain, in_parentheses, multiline):
        assert [(argument.name, argument.value.text) for argument in call.arguments] == [
            ("script", "'a'"),
            ("returnStatus", "true"),
        ]
    assert expression.arguments[0].value.text == "'a' +\n 'b'"


def test_newlines_and_semicolons_separate_steps():
    assert [call.name for call in steps("sh 'a'; echo 'b' ;\n\n // c\n sh 'd' /* e */")] == ["sh", "echo", "sh"]


@pytest.mark.parametrize(
    "value",
    [
        '"a ${b("c}")} d"',
        "'''a ' ''b\n{'''",
        '"""x ${[a: "}"]["a"]} "y" """',
        "/a \\/ b{/",
        "$/a / b{/$",
        "[1, [a: 'b'], { it }]",
        "'it\\'s // no comment'",
        "x ? y : z",
        "a.b?.c('d')[0]",
    ],
)
def test_braces_and_quotes_in_a_value_belong_to_the_value(value):
    (call,) = steps(f"echo({value})")
    assert call.arguments[0].value.text == value


def test_spaces_at_the_end_of_a_line_are_ignored():
    parsed_pipeline = parse(
        pipeline("sh 'a' \t\n  \n sh 'b' // c  \n sh 'd' /* e */  \n", "options { timestamps() }   \n  ")
    )
    assert [call.name for call in parsed_pipeline.stages[0].steps] == ["sh", "sh", "sh"]


def test_the_code_of_a_script_block_is_unchanged():
    code = ' if (x =~ /}/) { y = "}" } // }\n  z '
    (call,) = steps(f"script {{{code}}}")
    assert call.code.text == code


def test_braces_may_be_on_the_next_line():
    assert parse("pipeline\n{\nagent any\nstages\n{\nstage('A')\n{\nsteps\n{\nsh 'x'\n}\n}\n}\n}").stages[0].name == "A"


def test_code_before_and_after_the_pipeline_is_ignored():
    before = "#!/usr/bin/env groovy\n@Library('a@b') _\nimport x.y.*\ndef f(a) { return a / 2 + \"pipeline {\" }\n"
    assert parse(f"{before}{pipeline('sh f(1)')}\ndef g() {{ pipeline {{ }} }}\n").stages


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "Jenkinsfile:1:1: the file has no pipeline {}"),
        ("node { sh 'x' }", "Jenkinsfile:1:16: the file has no pipeline {}"),
        ("pipeline {\n  agent any", "Jenkinsfile:2:12: the file ends before all braces and quotes are closed"),
        ("pipeline {\n  agnet any\n}", "Jenkinsfile:2:3: unknown section 'agnet'; expected: agent,"),
        (pipeline("stage('A') {\nstepz {\n}\n}"), "Jenkinsfile:5:1: unknown section 'stepz'; expected: agent,"),
        (
            pipeline("stage('A') {\nwhen { branch 'b' } steps { sh 'x' }\n}"),
            "Jenkinsfile:5:21: unexpected 'steps': start a new line",
        ),
        (pipeline("stage('A') {\nagent any\n}"), "Jenkinsfile:4:1: the stage 'A' has no 'steps'; write exactly one of"),
        (
            pipeline("stage('A') {\nsteps { sh 'a' }\nsteps { sh 'b' }\n}"),
            "Jenkinsfile:6:1: the stage 'A' has two 'steps'",
        ),
        ("pipeline {\nstages { stage('A') { steps { sh 'x' } } }\n}", "Jenkinsfile:1:1: the pipeline has no 'agent'"),
        (pipeline("sh 'a')"), "Jenkinsfile:6:7: unexpected ')'"),
    ],
)
def test_a_syntax_error_is_one_line_with_its_position(text, expected):
    assert error_message(text).startswith(expected)


@settings(max_examples=150)
@given(st.text(alphabet="ab{}()[]'\"/$\\\n;,: pipeline sh", max_size=60))
@example("pipeline { agent any; stages { stage('a') { steps { sh \"${' } } } }")
def test_text_that_is_not_a_pipeline_raises_only_a_jenkinsfile_error(text):
    for candidate in (text, pipeline(text)):
        with contextlib.suppress(JenkinsfileError):
            assert parse(candidate).stages


@settings(max_examples=100)
@given(st.text(max_size=40).filter(lambda text: "\r" not in text))
def test_unquote_is_the_inverse_of_quoting(text):
    escaped_text = text.replace("\\", "\\\\").replace("'", "\\'")
    (call,) = steps(f"echo '''{escaped_text}'''")
    assert unquote(call.arguments[0].value.text) == text
