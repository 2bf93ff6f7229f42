"""Validation: elements that a local run does not support are errors with their line, before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from jenkinsfile.syntax.parser import parse
from jenkinsfile.validation import validate
from local_build import pipeline


def errors(text: str) -> list[str]:
    return [str(error) for error in validate(parse(text), {}).errors]


NOT_SUPPORTED = "is not supported by a local run; run it on a Jenkins controller"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (pipeline("docker 'x'"), f"Jenkinsfile:6: the step 'docker' {NOT_SUPPORTED}"),
        (
            pipeline("echo 'a'\nscript {\ndef a = 1\necho a\n}"),
            f"Jenkinsfile:7: a 'script' block of more than one expression {NOT_SUPPORTED}",
        ),
        (pipeline("echo 'a'\nscript { x.run() }"), f"Jenkinsfile:7: the method 'run()' {NOT_SUPPORTED}"),
        (pipeline("retry(2) { mail to: 'a' }"), f"Jenkinsfile:6: the step 'mail' {NOT_SUPPORTED}"),
        (pipeline("echo docker('x')"), f"Jenkinsfile:6: the step 'docker' {NOT_SUPPORTED}"),
        (pipeline("echo 'a'.execute()"), f"Jenkinsfile:6: the method 'execute()' {NOT_SUPPORTED}"),
        (
            pipeline("sh script: 'a', returnAll: true"),
            f"Jenkinsfile:6: the argument 'returnAll' of the step 'sh' {NOT_SUPPORTED}",
        ),
        (pipeline("echo 'a', 'b'"), "Jenkinsfile:6: the step 'echo' takes one unnamed argument"),
        (pipeline("deleteDir('a')"), "Jenkinsfile:6: the step 'deleteDir' takes no unnamed argument"),
        (pipeline("echo 'a' { echo 'b' }"), "Jenkinsfile:6: the step 'echo' takes no body in braces"),
        (pipeline("dir('a')"), "Jenkinsfile:6: the step 'dir' takes a body in braces"),
        (pipeline("checkout([$class: 'GitSCM'])"), f"Jenkinsfile:6: 'checkout' of anything but 'scm' {NOT_SUPPORTED}"),
        (
            pipeline("echo (\n[1].collect { it })"),
            "Jenkinsfile:7: the expression '[1].collect { it }' is not supported",
        ),
        (
            pipeline("echo 'a'", "options { gitLabConnection('x') }"),
            f"Jenkinsfile:3: the option 'gitLabConnection' {NOT_SUPPORTED}",
        ),
        (
            pipeline("echo 'a'", "options { disableConcurrentBuilds(abortPrevious: true) }"),
            f"Jenkinsfile:3: the argument 'abortPrevious' of the option 'disableConcurrentBuilds' {NOT_SUPPORTED}",
        ),
        (pipeline("echo 'a'", "tools { maven 'x' }"), f"Jenkinsfile:3: the section 'tools' {NOT_SUPPORTED}"),
        (pipeline("echo 'a'", "libraries { lib('x') }"), f"Jenkinsfile:3: the section 'libraries' {NOT_SUPPORTED}"),
        (
            pipeline("echo 'a'", "parameters { file(name: 'x') }"),
            f"Jenkinsfile:3: the parameter 'file' {NOT_SUPPORTED}",
        ),
        (
            pipeline("echo 'a'", post="sometimes { echo 'a' }"),
            f"Jenkinsfile:11: the post condition 'sometimes' {NOT_SUPPORTED}",
        ),
        (
            pipeline("stage('A') {\nagent { docker { image 'x' } }\nsteps { echo 'a' }\n}"),
            f"Jenkinsfile:5: the agent 'docker' {NOT_SUPPORTED}",
        ),
        (
            pipeline("stage('A') {\nwhen { changelog 'fix' }\nsteps { echo 'a' }\n}"),
            f"Jenkinsfile:5: the when condition 'changelog' {NOT_SUPPORTED}",
        ),
        (
            pipeline("stage('A') {\nwhen { environment name: 'X' }\nsteps { echo 'a' }\n}"),
            "Jenkinsfile:5: 'environment' takes name and value",
        ),
        (pipeline("stage('A') {\nwhen { not { } }\nsteps { echo 'a' }\n}"), "Jenkinsfile:5: 'not' takes one condition"),
        (
            pipeline("stage('A') {\ninput {\nmessage 'm'\nparameters { string(name: 'x') }\n}\nsteps { echo 'a' }\n}"),
            f"Jenkinsfile:7: a parameter of 'input' {NOT_SUPPORTED}",
        ),
        (
            pipeline("input message: 'm', parameters: [string(name: 'x')]"),
            f"Jenkinsfile:6: the argument 'parameters' of the step 'input' {NOT_SUPPORTED}",
        ),
        (
            pipeline("echo 'a'", "environment { A = input(message: 'm', parameters: [string(name: 'x')]) }"),
            f"Jenkinsfile:3: the argument 'parameters' of the step 'input' {NOT_SUPPORTED}",
        ),
        (
            pipeline(
                "stage('A') { matrix {\naxes { axis { name 'X'; values 'a' } }\n"
                "stages { stage('B') { steps { echo 'a' } } }\n} }"
            ),
            f"Jenkinsfile:4: the section 'matrix' {NOT_SUPPORTED}",
        ),
        (
            pipeline("echo 'a'", "environment { A = credentials('some-id') }"),
            "Jenkinsfile:3: the credential 'some-id' is missing: set SOME_ID in the environment",
        ),
        (
            pipeline(
                "withCredentials([usernamePassword(credentialsId: 'x.y', usernameVariable: 'U',"
                " passwordVariable: 'P')]) { echo 'a' }"
            ),
            "Jenkinsfile:6: the credential 'x.y' is missing: set X_Y_USR and X_Y_PSW, or X_Y as user:password",
        ),
    ],
)
def test_unsupported_elements_are_errors(text, message):
    messages = errors(text)
    assert len(messages) == 1
    assert messages[0].startswith(message)


def test_all_errors_are_listed_in_the_order_of_the_file():
    sample = (Path(__file__).parent / "samples/everything.Jenkinsfile").read_text()
    messages = errors(sample)
    lines = [int(message.split(":")[1]) for message in messages]
    assert lines == sorted(lines)
    for construct in (
        "agent 'kubernetes'",
        "'tools'",
        "'libraries'",
        "'script' block",
        "'matrix'",
        "step 'mail'",
        "'greeting'",
    ):
        assert any(construct in message for message in messages), construct


def test_a_credential_that_passes_a_variable_through_may_be_missing():
    environment = "environment { SOME_ID = credentials('some-id') }"
    assert errors(pipeline("echo 'a'", environment)) == []
    assert errors(pipeline("echo 'a'", environment.replace("SOME_ID", "OTHER")))


def test_a_script_block_of_one_expression_is_accepted():
    assert errors(pipeline("script {\ncurrentBuild.setDescription('a')\n}")) == []


def test_triggers_and_plain_agents_are_accepted():
    for agent in ("agent any", "agent none", "agent { label 'linux' }", "agent { node { label 'linux' } }"):
        assert errors(pipeline("echo 'a'", "triggers { cron('H 2 * * *') }").replace("agent any", agent)) == []
