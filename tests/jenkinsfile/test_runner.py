"""A whole build: its stages, their results, `when`, `post`, options and steps, as on Jenkins."""

from __future__ import annotations

import getpass
import io
import json

import pytest

from jenkinsfile.parameters import ParameterError
from local_build import pipeline, run_build

REPORT_WITHOUT_FAILURE = '<testsuite><testcase name="a"/><testcase name="b"><skipped/></testcase></testsuite>'
REPORT_WITH_FAILURE = '<testsuite><testcase name="a"/><testcase name="b"><failure>no</failure></testcase></testsuite>'
EVERY_POST_CONDITION = "\n".join(
    f"{name} {{ echo 'post {name}' }}"
    for name in (
        *("cleanup", "unsuccessful", "unstable", "success", "failure"),
        *("aborted", "regression", "fixed", "changed", "always"),
    )
)


def post_conditions(outcome):
    return [line.removeprefix("post ") for line in outcome.lines if line.startswith("post ")]


# ---- results


@pytest.mark.parametrize(
    ("steps", "result", "stage", "code"),
    [
        ("sh 'true'", "SUCCESS", "SUCCESS", 0),
        ("sh 'exit 3'", "FAILURE", "FAILURE", 1),
        ("error 'no'", "FAILURE", "FAILURE", 1),
        ('echo "${nobody}"', "FAILURE", "FAILURE", 1),
        ("unstable 'so so'", "UNSTABLE", "UNSTABLE", 0),
        ("junit 'good.xml'", "SUCCESS", "SUCCESS", 0),
        ("junit 'bad.xml'", "UNSTABLE", "UNSTABLE", 0),
        ("junit 'none.xml'", "FAILURE", "FAILURE", 1),
        ("junit testResults: 'none.xml', allowEmptyResults: true", "SUCCESS", "SUCCESS", 0),
        ("catchError { error 'no' }", "FAILURE", "FAILURE", 1),
        ("catchError(buildResult: 'UNSTABLE', stageResult: 'FAILURE') { error 'no' }", "UNSTABLE", "FAILURE", 0),
        ("catchError(buildResult: 'SUCCESS', stageResult: 'SUCCESS') { error 'no' }", "SUCCESS", "SUCCESS", 0),
        ("catchError(buildResult: 'NOT_BUILT', stageResult: 'NOT_BUILT') { error 'no' }", "NOT_BUILT", "NOT_BUILT", 1),
        ("warnError('oh') { sh 'false' }", "UNSTABLE", "UNSTABLE", 0),
        ("timeout(time: 50, unit: 'MILLISECONDS') { sh 'sleep 300' }", "ABORTED", "ABORTED", 130),
        ("timeout(time: 50, unit: 'MILLISECONDS') { sleep 300 }", "ABORTED", "ABORTED", 130),
        (
            "catchError(buildResult: 'UNSTABLE') { timeout(time: 50, unit: 'MILLISECONDS') { sleep 300 } }",
            *["UNSTABLE"] * 2,
            0,
        ),
        ("unstable 'so so'\nerror 'no'", "FAILURE", "FAILURE", 1),
        ("sh(script: 'exit 3', returnStatus: true)", "SUCCESS", "SUCCESS", 0),
    ],
)
def test_a_step_sets_the_result_of_its_stage_and_its_build(tmp_path, steps, result, stage, code):
    (tmp_path / "good.xml").write_text(REPORT_WITHOUT_FAILURE)
    (tmp_path / "bad.xml").write_text(REPORT_WITH_FAILURE)
    outcome = run_build(tmp_path, pipeline(steps))
    assert (outcome.result, outcome.stages["Only"], outcome.code) == (result, stage, code)


def test_stages_after_a_failure_are_not_built_and_the_build_has_the_worst_result(tmp_path):
    outcome = run_build(
        tmp_path,
        pipeline(
            """stage('A') { steps { unstable 'so so' } }
               stage('B') { steps { error 'no' } }
               stage('C') {
                 stages {
                   stage('D') { steps { echo 'never' } }
                 }
               }"""
        ),
    )
    assert outcome.stages == {"A": "UNSTABLE", "B": "FAILURE", "C": "NOT_BUILT", "D": "NOT_BUILT"}
    assert outcome.result == "FAILURE"
    assert "never" not in outcome.lines


def test_a_stage_after_a_caught_failure_runs(tmp_path):
    outcome = run_build(
        tmp_path, pipeline("stage('A') { steps { catchError { error 'no' } } }\nstage('B') { steps { echo 'b' } }")
    )
    assert outcome.stages == {"A": "FAILURE", "B": "SUCCESS"}
    assert outcome.result == "FAILURE"


def test_stages_after_an_unstable_one_are_skipped_with_skip_stages_after_unstable(tmp_path):
    text = pipeline(
        "stage('A') { steps { unstable 'so so' } }\nstage('B') { steps { echo 'b' } }",
        "options { skipStagesAfterUnstable() }",
    )
    assert run_build(tmp_path, text).stages == {"A": "UNSTABLE", "B": "NOT_BUILT"}


def test_the_console_ends_with_a_table_and_the_log_is_the_same(tmp_path):
    outcome = run_build(tmp_path, pipeline("echo 'hello'"))
    table = outcome.lines[outcome.lines.index(next(line for line in outcome.lines if line.startswith("stage "))) :]
    assert table[1].split()[:2] == ["Only", "SUCCESS"]
    assert outcome.lines[-1] == "Finished: SUCCESS"
    assert (outcome.folder / "log").read_text().splitlines() == outcome.lines
    assert "\x1b" not in "".join(outcome.lines)


# ---- parallel


def test_parallel_branches_run_at_the_same_time_and_lines_are_not_mixed(tmp_path):
    waits = "while ! test -e {other}; do sleep 0.05; done; set +x; printf one; echo two"
    outcome = run_build(
        tmp_path,
        pipeline(
            f"""stage('Both') {{ parallel {{
                  stage('A') {{ steps {{ sh 'touch a; {waits.format(other="b")}' }} }}
                  stage('B') {{ steps {{ sh 'touch b; {waits.format(other="a")}' }} }}
                }} }}"""
        ),
    )
    assert outcome.stages == {"Both": "SUCCESS", "A": "SUCCESS", "B": "SUCCESS"}
    assert "[A] onetwo" in outcome.lines
    assert "[B] onetwo" in outcome.lines


@pytest.mark.parametrize("setting", ["before", "after", "option"])
def test_fail_fast_interrupts_the_other_branches(tmp_path, setting):
    outcome = run_build(
        tmp_path,
        pipeline(
            f"""stage('Both') {{
                  {"failFast true" if setting == "before" else ""}
                  parallel {{
                    stage('A') {{ steps {{ sh 'while ! test -e b; do sleep 0.05; done; false' }} }}
                    stage('B') {{
                      steps {{ sh 'touch b; sleep 300' }}
                      post {{ aborted {{ echo 'b was aborted' }} }}
                    }}
                  }}
                  {"failFast true" if setting == "after" else ""}
                }}""",
            "options { parallelsAlwaysFailFast() }" if setting == "option" else "",
        ),
    )
    assert outcome.stages == {"Both": "FAILURE", "A": "FAILURE", "B": "ABORTED"}
    assert outcome.result == "FAILURE"
    assert "[B] b was aborted" in outcome.lines


def test_without_fail_fast_the_other_branches_continue(tmp_path):
    wait = "while ! grep -q FAILURE .ct/builds/1/build.json; do sleep 0.02; done; sleep 0.2; echo b continues"
    text = f"""stage('Both') {{ parallel {{
                 stage('A') {{ steps {{ error 'no' }} }}
                 stage('B') {{ steps {{ sh '{wait}' }} }}
               }} }}"""
    outcome = run_build(tmp_path, pipeline(text))
    assert outcome.stages == {"Both": "FAILURE", "A": "FAILURE", "B": "SUCCESS"}
    assert "[B] b continues" in outcome.lines


# ---- when


@pytest.mark.parametrize(
    ("condition", "runs"),
    [
        ("branch 'main'", True),
        ("branch 'release/*'", False),
        ("branch pattern: 'ma.*', comparator: 'REGEXP'", True),
        ("not { branch 'main' }", False),
        ("anyOf { branch 'other'; branch 'm*' }", True),
        ("allOf { branch 'other'; branch 'm*' }", False),
        ("environment name: 'MODE', value: 'fast'", True),
        ("environment name: 'MODE', value: 'slow'", False),
        ("equals expected: 2, actual: 1 + 1", True),
        ("expression { params.WHO == 'you' }", True),
        ("expression { return fileExists('nothing') }", False),
        ("expression { sh(script: 'test -d .', returnStatus: true) == 0 }", True),
        ("changeRequest()", False),
        ("tag 'v*'", False),
        ("buildingTag()", False),
        ("triggeredBy 'UserIdCause'", True),
        ("triggeredBy 'TimerTrigger'", False),
        ("isRestartedRun()", False),
        ("branch 'main'\nexpression { false }", False),
        ("expression { false }\nexpression { error 'must not be evaluated' }", False),
        ("anyOf { expression { true }; expression { error 'must not be evaluated' } }", True),
    ],
)
def test_a_stage_runs_if_its_when_conditions_are_met(tmp_path, condition, runs):
    text = pipeline(
        f"stage('A') {{\nwhen {{\n{condition}\n}}\nsteps {{ echo 'ran' }}\n}}",
        "parameters { string(name: 'WHO', defaultValue: 'you') }",
        "environment { MODE = 'fast' }",
    )
    outcome = run_build(tmp_path, text)
    assert outcome.stages == {"A": "SUCCESS" if runs else "NOT_BUILT"}
    assert ("ran" in outcome.lines) is runs
    assert outcome.result == "SUCCESS"


@pytest.mark.parametrize(("moment", "waits"), [("beforeOptions", False), ("beforeInput", False), ("beforeAgent", True)])
def test_conditions_can_be_evaluated_before_input(tmp_path, monkeypatch, moment, waits):
    monkeypatch.setattr("sys.stdin", io.StringIO())
    when = f"when {{\n{moment} true\nbranch 'no'\n}}"
    stage = f"stage('A') {{\n{when}\ninput {{ message 'Go on?' }}\nsteps {{ echo 'a' }}\n}}"
    assert run_build(tmp_path, pipeline(stage)).stages == {"A": "ABORTED" if waits else "NOT_BUILT"}


def test_an_environment_that_cannot_be_evaluated_fails_the_build(tmp_path):
    outcome = run_build(
        tmp_path,
        pipeline("echo 'a'", "environment { A = sh(script: 'exit 4', returnStdout: true) }", post=EVERY_POST_CONDITION),
    )
    assert (outcome.result, outcome.stages) == ("FAILURE", {"Only": "NOT_BUILT"})
    assert outcome.lines.count("ERROR: script returned exit code 4") == 1
    assert post_conditions(outcome) == ["always", "changed", "failure", "unsuccessful", "cleanup"]


def test_the_whole_pipeline_can_be_retried(tmp_path):
    text = pipeline("sh 'echo x >> tries; test $(wc -l < tries) = 2'", "options { retry(2) }")
    assert run_build(tmp_path, text).stages == {"Only": "SUCCESS"}


def test_a_branch_pattern_does_not_cross_a_slash(tmp_path):
    text = pipeline("stage('A') {\nwhen { branch 'f*' }\nsteps { echo 'a' }\n}")
    assert run_build(tmp_path, text, branch="feature/x").stages == {"A": "NOT_BUILT"}
    assert run_build(tmp_path, text, branch="feature").stages == {"A": "SUCCESS"}


# ---- post


def test_post_conditions_run_in_jenkins_order_whatever_their_order_in_the_file(tmp_path):
    failing = pipeline("error 'no'", post=EVERY_POST_CONDITION)
    assert post_conditions(run_build(tmp_path, failing)) == ["always", "changed", "failure", "unsuccessful", "cleanup"]
    assert post_conditions(run_build(tmp_path, failing)) == ["always", "failure", "unsuccessful", "cleanup"]
    good = pipeline("echo 'yes'", post=EVERY_POST_CONDITION)
    assert post_conditions(run_build(tmp_path, good)) == ["always", "changed", "fixed", "success", "cleanup"]
    assert post_conditions(run_build(tmp_path, good)) == ["always", "success", "cleanup"]
    unstable = pipeline("unstable 'so so'", post=EVERY_POST_CONDITION)
    assert post_conditions(run_build(tmp_path, unstable)) == [
        "always",
        "changed",
        "regression",
        "unstable",
        "unsuccessful",
        "cleanup",
    ]


def test_the_post_of_a_stage_sees_the_result_of_the_stage(tmp_path):
    text = pipeline(
        """stage('A') { steps { unstable 'so so' } }
            stage('B') {
              steps { echo 'b' }
              post { success { echo 'post of B' } }
            }""",
    )
    assert post_conditions(run_build(tmp_path, text)) == ["of B"]


def test_a_failure_in_post_fails_the_build_and_the_other_conditions_still_run(tmp_path):
    outcome = run_build(
        tmp_path,
        pipeline("echo 'a'", post="always { error 'no' }\nsuccess { echo 'post s' }\ncleanup { echo 'post c' }"),
    )
    assert outcome.result == "FAILURE"
    assert post_conditions(outcome) == ["c"]


def test_post_runs_after_a_timeout_of_the_whole_pipeline(tmp_path):
    outcome = run_build(
        tmp_path,
        pipeline("sh 'sleep 300'", "options { timeout(time: 100, unit: 'MILLISECONDS') }", post=EVERY_POST_CONDITION),
    )
    assert outcome.result == "ABORTED"
    assert post_conditions(outcome) == ["always", "changed", "aborted", "unsuccessful", "cleanup"]


# ---- options, environment, parameters


def test_retry_repeats_a_failure_and_only_the_last_attempt_counts(tmp_path):
    script = "echo x >> tries; test $(wc -l < tries) = 3"
    assert run_build(tmp_path, pipeline(f"retry(3) {{ sh '{script}' }}")).result == "SUCCESS"
    (tmp_path / "tries").unlink()
    text = f"stage('A') {{\noptions {{ retry(2) }}\nsteps {{ sh '{script}' }}\n}}"
    assert run_build(tmp_path, pipeline(text)).stages == {"A": "FAILURE"}
    assert (tmp_path / "tries").read_text() == "x\nx\n"


def test_retry_repeats_a_timeout(tmp_path):
    steps = (
        "retry(50) { timeout(time: 300, unit: 'MILLISECONDS') { sh 'test -e again || { touch again; sleep 300; }' } }"
    )
    assert run_build(tmp_path, pipeline(steps)).result == "SUCCESS"


def test_the_timeout_of_a_stage_aborts_the_build(tmp_path):
    text = "stage('A') {\noptions { timeout(time: 100, unit: 'MILLISECONDS') }\nsteps { sh 'sleep 300' }\n}"
    outcome = run_build(tmp_path, pipeline(text))
    assert (outcome.result, outcome.stages) == ("ABORTED", {"A": "ABORTED"})


def test_timestamps_precede_the_lines_of_the_run(tmp_path):
    outcome = run_build(tmp_path, pipeline("echo 'hello'", "options { timestamps() }"))
    assert any(line[2] == line[5] == ":" and line.endswith(" hello") for line in outcome.lines if len(line) > 5)


def test_variables_can_use_those_before_them(tmp_path):
    outcome = run_build(
        tmp_path,
        pipeline(
            """stage('A') {
                 environment { THREE = "${TWO}3" }
                 steps { sh 'echo $THREE $STAGE_NAME $AS_OF $FORCE'
                   withEnv(["FOUR=${THREE}4", 'PATH+MORE=/more']) { sh 'echo $FOUR ${PATH%%:*}' } }
               }""",
            "parameters { string name: 'AS_OF', defaultValue: 'now'; booleanParam name: 'FORCE', defaultValue: true }",
            'environment {\nONE = "1"\nTWO = "${ONE}2"\n}',
        ),
    )
    assert "123 A now true" in outcome.lines
    assert "1234 /more" in outcome.lines


def test_the_variables_of_jenkins_are_set(tmp_path):
    names = [
        "BUILD_NUMBER",
        "BUILD_ID",
        "BUILD_TAG",
        "BUILD_DISPLAY_NAME",
        "JOB_NAME",
        "BRANCH_NAME",
        "CI",
        "WORKSPACE",
        "BUILD_URL",
    ]
    outcome = run_build(tmp_path, pipeline(f"""sh 'echo {" ".join("$" + name for name in names)}'"""), branch="dev")
    assert f"1 1 ct-1 #1 ct dev true {tmp_path} {outcome.folder.as_uri()}/" in outcome.lines


PARAMETERS = """parameters {
    string(name: 'AS_OF', defaultValue: 'now')
    choice(name: 'SIZE', choices: ['small', 'large'])
    booleanParam(name: 'FORCE', defaultValue: false)
    password(name: 'KEY', defaultValue: '')
}"""


def test_parameters_have_their_defaults_and_take_values(tmp_path):
    text = pipeline('echo "${params.AS_OF} ${params.SIZE} ${params.FORCE}"', PARAMETERS)
    assert "now small false" in run_build(tmp_path, text).lines
    outcome = run_build(tmp_path, text, "AS_OF=a=b", "SIZE=large", "FORCE=TRUE", "KEY=hidden-key")
    assert "a=b large true" in outcome.lines
    assert outcome.record["parameters"] == {"AS_OF": "a=b", "SIZE": "large", "FORCE": True, "KEY": "****"}


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("WHAT=1", "there is no parameter 'WHAT'; the parameters are: AS_OF, SIZE, FORCE, KEY"),
        ("SIZE=huge", "SIZE must be one of small, large, not 'huge'"),
        ("FORCE=maybe", "FORCE must be true or false, not 'maybe'"),
        ("AS_OF", "-P takes NAME=VALUE, not 'AS_OF'"),
    ],
)
def test_a_wrong_parameter_is_an_error_before_anything_runs(tmp_path, assignment, message):
    with pytest.raises(ParameterError) as error:
        run_build(tmp_path, pipeline("sh 'touch ran'", PARAMETERS), assignment)
    assert str(error.value) == message
    assert not (tmp_path / ".ct").exists()


# ---- steps


def test_sh_prints_its_commands_and_stops_at_the_first_failure(tmp_path):
    outcome = run_build(tmp_path, pipeline("sh '''\necho one\nfalse\necho two\n'''"))
    start = outcome.lines.index("+ echo one")
    assert outcome.lines[start : start + 4] == ["+ echo one", "one", "+ false", "ERROR: script returned exit code 1"]


def test_sh_uses_the_interpreter_of_the_script(tmp_path):
    assert "42" in run_build(tmp_path, pipeline("sh '''#!/usr/bin/env python3\nprint(6 * 7)\n'''")).lines


def test_steps_for_files_and_directories(tmp_path):
    outcome = run_build(
        tmp_path,
        pipeline(
            """writeFile file: 'folder/here.txt', text: 'first'
               dir('folder') {
                 echo "${readFile('here.txt')} ${fileExists('gone')} ${pwd().endsWith('/folder')}"
                 stash name: 'files', includes: '*.txt'
                 deleteDir()
               }
               echo "${fileExists('folder')}"
               dir('again') { unstash 'files' }
               deleteDir()
               cleanWs()"""
        ),
    )
    assert "first false true" in outcome.lines
    assert "false" in outcome.lines
    assert (tmp_path / "again/here.txt").read_text() == "first"  # the workspace is a work tree: it is not deleted


def test_reports_are_stored_with_the_build(tmp_path):
    for path, text in {
        "out/a.json": "{}",
        "out/deep/b.json": "{}",
        "out/page.html": "<p>",
        "junit/r.xml": REPORT_WITHOUT_FAILURE,
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    outcome = run_build(
        tmp_path,
        pipeline(
            """archiveArtifacts artifacts: 'out/*.json, none/*', allowEmptyArchive: true
               archiveArtifacts artifacts: 'out/**/b.json'
               junit 'junit/*.xml'
               publishHTML(target: [reportDir: 'out', reportFiles: 'page.html', reportName: 'The Page', keepAll: true])
               publishHTML([reportDir: 'none', reportFiles: 'x.html', reportName: 'No', allowMissing: true])"""
        ),
    )
    files = {path.relative_to(outcome.folder).as_posix() for path in outcome.folder.rglob("*") if path.is_file()}
    assert {
        "archive/out/a.json",
        "archive/out/deep/b.json",
        "junit/junit/r.xml",
        "htmlreports/The_Page/page.html",
    } <= files
    assert f"The Page: {(outcome.folder / 'htmlreports/The_Page/page.html').as_uri()}" in outcome.lines
    assert "2 tests: 0 failed, 1 skipped" in outcome.lines


def test_current_build_has_the_result_so_far(tmp_path):
    text = pipeline(
        "echo \"${currentBuild.result} ${currentBuild.currentResult} ${currentBuild.number}\"\nunstable 'x'",
        post='always { echo "${currentBuild.result} ${currentBuild.previousBuild?.result}" }',
    )
    assert {"null SUCCESS 1", "UNSTABLE null"} <= set(run_build(tmp_path, text).lines)
    assert {"null SUCCESS 2", "UNSTABLE UNSTABLE"} <= set(run_build(tmp_path, text).lines)


def test_a_script_block_can_set_the_description(tmp_path):
    text = pipeline(
        "script {\ncurrentBuild.setDescription('started')\n}\necho \"it is ${currentBuild.description}\"",
        post='always { script { currentBuild.setDescription("${currentBuild.description}, done") } }',
    )
    outcome = run_build(tmp_path, text)
    assert outcome.record["description"] == "started, done"
    assert {"description: started", "it is started", "description: started, done"} <= set(outcome.lines)


def test_the_cause_of_a_local_run_is_the_user(tmp_path):
    text = pipeline(
        'echo "${currentBuild.getBuildCauses()[0].shortDescription}"\n'
        "echo \"${currentBuild.getBuildCauses('hudson.model.Cause$UserIdCause').size()} of a user, "
        "${currentBuild.getBuildCauses('hudson.triggers.TimerTrigger$TimerTriggerCause').size()} of the clock\""
    )
    assert {f"Started by user {getpass.getuser()}", "1 of a user, 0 of the clock"} <= set(
        run_build(tmp_path, text).lines
    )


# ---- records


def test_old_builds_are_discarded(tmp_path):
    text = pipeline("echo 'a'", "options { buildDiscarder(logRotator(numToKeepStr: '2')) }")
    for _ in range(4):
        run_build(tmp_path, text)
    assert sorted(path.name for path in (tmp_path / ".ct/builds").iterdir()) == ["3", "4"]


def test_the_record_has_state_result_and_stages(tmp_path):
    outcome = run_build(tmp_path, pipeline("echo 'a'"))
    record = json.loads((outcome.folder / "build.json").read_text())
    assert record["number"] == 1
    assert (record["state"], record["result"]) == ("finished", "SUCCESS")
    assert record["stages"][0].keys() == {"name", "depth", "result", "seconds", "skip_reason"}
    assert not (outcome.folder / "tmp").exists()
