"""What a local run refuses, before anything has run, with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from jenkinsfile.syntax.parser import parse
from jenkinsfile.validation import examine
from local_build import ROOT, pipeline


def refusals(text: str, machine: dict[str, str] | None = None) -> list[str]:
    return [str(one) for one in examine(parse(text), machine or {}).refusals]


LATER = "is not supported by ct run; a Jenkins controller can run it"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (pipeline("docker 'x'"), f"Jenkinsfile:6: the step «docker» {LATER}"),
        (
            pipeline("echo 'a'\nscript {\ndef a = 1\necho a\n}"),
            f"Jenkinsfile:7: a «script» block of more than one expression {LATER}",
        ),
        (pipeline("echo 'a'\nscript { x.run() }"), f"Jenkinsfile:7: the method «run()» {LATER}"),
        (pipeline("retry(2) { mail to: 'a' }"), f"Jenkinsfile:6: the step «mail» {LATER}"),
        (pipeline("echo docker('x')"), f"Jenkinsfile:6: the step «docker» {LATER}"),
        (pipeline("echo 'a'.execute()"), f"Jenkinsfile:6: the method «execute()» {LATER}"),
        (
            pipeline("sh script: 'a', returnAll: true"),
            f"Jenkinsfile:6: the argument «returnAll» of the step «sh» {LATER}",
        ),
        (pipeline("echo 'a', 'b'"), "Jenkinsfile:6: the step «echo» takes one unnamed argument"),
        (pipeline("deleteDir('a')"), "Jenkinsfile:6: the step «deleteDir» takes no unnamed argument"),
        (pipeline("echo 'a' { echo 'b' }"), "Jenkinsfile:6: the step «echo» takes no body in braces"),
        (pipeline("dir('a')"), "Jenkinsfile:6: the step «dir» takes a body in braces"),
        (pipeline("checkout([$class: 'GitSCM'])"), f"Jenkinsfile:6: «checkout» of anything but «scm» {LATER}"),
        (
            pipeline("echo (\n[1].collect { it })"),
            "Jenkinsfile:7: the expression «[1].collect { it }» is not supported",
        ),
        (
            pipeline("echo 'a'", "options { gitLabConnection('x') }"),
            f"Jenkinsfile:3: the option «gitLabConnection» {LATER}",
        ),
        (
            pipeline("echo 'a'", "options { disableConcurrentBuilds(abortPrevious: true) }"),
            f"Jenkinsfile:3: the argument «abortPrevious» of the option «disableConcurrentBuilds» {LATER}",
        ),
        (pipeline("echo 'a'", "tools { maven 'x' }"), f"Jenkinsfile:3: the section «tools» {LATER}"),
        (pipeline("echo 'a'", "libraries { lib('x') }"), f"Jenkinsfile:3: the section «libraries» {LATER}"),
        (pipeline("echo 'a'", "parameters { file(name: 'x') }"), f"Jenkinsfile:3: the parameter «file» {LATER}"),
        (
            pipeline("echo 'a'", post="sometimes { echo 'a' }"),
            f"Jenkinsfile:11: the post condition «sometimes» {LATER}",
        ),
        (
            pipeline("stage('A') {\nagent { docker { image 'x' } }\nsteps { echo 'a' }\n}"),
            f"Jenkinsfile:5: the agent «docker» {LATER}",
        ),
        (
            pipeline("stage('A') {\nwhen { changelog 'fix' }\nsteps { echo 'a' }\n}"),
            f"Jenkinsfile:5: the when condition «changelog» {LATER}",
        ),
        (
            pipeline("stage('A') {\nwhen { environment name: 'X' }\nsteps { echo 'a' }\n}"),
            "Jenkinsfile:5: «environment» takes name and value",
        ),
        (pipeline("stage('A') {\nwhen { not { } }\nsteps { echo 'a' }\n}"), "Jenkinsfile:5: «not» takes one condition"),
        (
            pipeline("stage('A') {\ninput {\nmessage 'm'\nparameters { string(name: 'x') }\n}\nsteps { echo 'a' }\n}"),
            f"Jenkinsfile:7: a parameter of «input» {LATER}",
        ),
        (
            pipeline("input message: 'm', parameters: [string(name: 'x')]"),
            f"Jenkinsfile:6: the argument «parameters» of the step «input» {LATER}",
        ),
        (
            pipeline("echo 'a'", "environment { A = input(message: 'm', parameters: [string(name: 'x')]) }"),
            f"Jenkinsfile:3: the argument «parameters» of the step «input» {LATER}",
        ),
        (
            pipeline(
                "stage('A') { matrix {\naxes { axis { name 'X'; values 'a' } }\n"
                "stages { stage('B') { steps { echo 'a' } } }\n} }"
            ),
            f"Jenkinsfile:4: the section «matrix» {LATER}",
        ),
        (
            pipeline("echo 'a'", "environment { A = credentials('some-id') }"),
            "Jenkinsfile:3: the credential «some-id» is missing: set SOME_ID in the environment",
        ),
        (
            pipeline(
                "withCredentials([usernamePassword(credentialsId: 'x.y', usernameVariable: 'U',"
                " passwordVariable: 'P')]) { echo 'a' }"
            ),
            "Jenkinsfile:6: the credential «x.y» is missing: set X_Y_USR and X_Y_PSW, or X_Y as user:password",
        ),
    ],
)
def test_what_cannot_run_here_is_refused(text, message):
    found = refusals(text)
    assert len(found) == 1
    assert found[0].startswith(message)


def test_all_reasons_are_given_in_the_order_of_the_file():
    sample = (Path(__file__).parent / "samples/everything.Jenkinsfile").read_text()
    found = refusals(sample)
    lines = [int(one.split(":")[1]) for one in found]
    assert lines == sorted(lines)
    for construct in (
        "agent «kubernetes»",
        "«tools»",
        "«libraries»",
        "«script» block",
        "«matrix»",
        "step «mail»",
        "«greeting»",
    ):
        assert any(construct in one for one in found), construct


def test_a_credential_that_passes_on_a_variable_of_this_machine_may_be_missing():
    passed_on = "environment { SOME_ID = credentials('some-id') }"
    assert refusals(pipeline("echo 'a'", passed_on)) == []
    assert refusals(pipeline("echo 'a'", passed_on.replace("SOME_ID", "OTHER")))


def test_a_script_block_of_one_expression_is_accepted():
    assert refusals(pipeline("script {\ncurrentBuild.setDescription('a')\n}")) == []


def test_triggers_and_plain_agents_are_accepted():
    for agent in ("agent any", "agent none", "agent { label 'linux' }", "agent { node { label 'linux' } }"):
        assert refusals(pipeline("echo 'a'", "triggers { cron('H 2 * * *') }").replace("agent any", agent)) == []


def test_the_projects_own_jenkinsfile_can_run_here():
    everything = {"MLFLOW_TRACKING_URI": "http://localhost"}
    found = refusals((ROOT / "Jenkinsfile").read_text(), everything)
    assert [one for one in found if "credential" not in one] == []
