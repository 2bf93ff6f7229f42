"""What a run does: its stages, their results, `when`, `post`, options and steps, as on a Jenkins."""

from __future__ import annotations

import getpass
import io
import json

import pytest

from jenkinsfile.execution.runner import OrderError
from jenkinsfile.parameters import ParameterError
from local_build import build, pipeline

PASSED = '<testsuite><testcase name="a"/><testcase name="b"><skipped/></testcase></testsuite>'
FAILED = '<testsuite><testcase name="a"/><testcase name="b"><failure>no</failure></testcase></testsuite>'
ALL_POST = "\n".join(
    f"{name} {{ echo 'post {name}' }}"
    for name in (
        *("cleanup", "unsuccessful", "unstable", "success", "failure"),
        *("aborted", "regression", "fixed", "changed", "always"),
    )
)


def posts(finished):
    return [line.removeprefix("post ") for line in finished.lines if line.startswith("post ")]


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
        ("timeout(time: 50, unit: 'MILLISECONDS') { sh 'sleep 20' }", "ABORTED", "ABORTED", 130),
        ("timeout(time: 50, unit: 'MILLISECONDS') { sleep 20 }", "ABORTED", "ABORTED", 130),
        (
            "catchError(buildResult: 'UNSTABLE') { timeout(time: 50, unit: 'MILLISECONDS') { sleep 20 } }",
            *["UNSTABLE"] * 2,
            0,
        ),
        ("unstable 'so so'\nerror 'no'", "FAILURE", "FAILURE", 1),
        ("sh(script: 'exit 3', returnStatus: true)", "SUCCESS", "SUCCESS", 0),
    ],
)
def test_what_a_step_does_to_its_stage_and_its_build(tmp_path, steps, result, stage, code):
    (tmp_path / "good.xml").write_text(PASSED)
    (tmp_path / "bad.xml").write_text(FAILED)
    finished = build(tmp_path, pipeline(steps))
    assert (finished.result, finished.stages["Only"], finished.code) == (result, stage, code)


def test_stages_after_a_failure_are_not_built_and_the_worst_result_is_the_builds(tmp_path):
    finished = build(
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
    assert finished.stages == {"A": "UNSTABLE", "B": "FAILURE", "C": "NOT_BUILT", "D": "NOT_BUILT"}
    assert finished.result == "FAILURE"
    assert "never" not in finished.lines


def test_a_stage_after_a_caught_failure_runs(tmp_path):
    finished = build(
        tmp_path, pipeline("stage('A') { steps { catchError { error 'no' } } }\nstage('B') { steps { echo 'b' } }")
    )
    assert finished.stages == {"A": "FAILURE", "B": "SUCCESS"}
    assert finished.result == "FAILURE"


def test_skip_stages_after_unstable(tmp_path):
    text = pipeline(
        "stage('A') { steps { unstable 'so so' } }\nstage('B') { steps { echo 'b' } }",
        "options { skipStagesAfterUnstable() }",
    )
    assert build(tmp_path, text).stages == {"A": "UNSTABLE", "B": "NOT_BUILT"}


def test_the_closing_table_and_the_log_tell_the_same(tmp_path):
    finished = build(tmp_path, pipeline("echo 'hello'"))
    table = finished.lines[finished.lines.index(next(line for line in finished.lines if line.startswith("stage "))) :]
    assert table[1].split()[:2] == ["Only", "SUCCESS"]
    assert finished.lines[-1] == "Finished: SUCCESS"
    assert (finished.folder / "log").read_text().splitlines() == finished.lines
    assert "\x1b" not in "".join(finished.lines)


# ---- parallel


def test_parallel_branches_run_at_the_same_time_and_lines_stay_whole(tmp_path):
    waits = "while ! test -e {other}; do sleep 0.05; done; set +x; printf one; sleep 0.1; echo two"
    finished = build(
        tmp_path,
        pipeline(
            f"""stage('Both') {{ parallel {{
                  stage('A') {{ steps {{ sh 'touch a; {waits.format(other="b")}' }} }}
                  stage('B') {{ steps {{ sh 'touch b; {waits.format(other="a")}' }} }}
                }} }}"""
        ),
    )
    assert finished.stages == {"Both": "SUCCESS", "A": "SUCCESS", "B": "SUCCESS"}
    assert "[A] onetwo" in finished.lines
    assert "[B] onetwo" in finished.lines


@pytest.mark.parametrize("how", ["failFast true", "option"])
def test_fail_fast_ends_the_other_branches(tmp_path, how):
    finished = build(
        tmp_path,
        pipeline(
            f"""stage('Both') {{
                  {how if how != "option" else ""}
                  parallel {{
                    stage('A') {{ steps {{ sh 'while ! test -e b; do sleep 0.05; done; false' }} }}
                    stage('B') {{
                      steps {{ sh 'touch b; sleep 60' }}
                      post {{ aborted {{ echo 'b was aborted' }} }}
                    }}
                  }} }}""",
            "options { parallelsAlwaysFailFast() }" if how == "option" else "",
        ),
    )
    assert finished.stages == {"Both": "FAILURE", "A": "FAILURE", "B": "ABORTED"}
    assert finished.result == "FAILURE"
    assert "[B] b was aborted" in finished.lines


def test_without_fail_fast_the_other_branches_go_on(tmp_path):
    text = (
        "stage('Both') { parallel {\nstage('A') { steps { error 'no' } }\nstage('B') { steps { sh 'sleep 0.3' } }\n} }"
    )
    assert build(tmp_path, pipeline(text)).stages == {"Both": "FAILURE", "A": "FAILURE", "B": "SUCCESS"}


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
        ("expression { false }\nexpression { error 'asked in vain' }", False),
        ("anyOf { expression { true }; expression { error 'asked in vain' } }", True),
    ],
)
def test_when(tmp_path, condition, runs):
    text = pipeline(
        f"stage('A') {{\nwhen {{\n{condition}\n}}\nsteps {{ echo 'ran' }}\n}}",
        "parameters { string(name: 'WHO', defaultValue: 'you') }",
        "environment { MODE = 'fast' }",
    )
    finished = build(tmp_path, text)
    assert finished.stages == {"A": "SUCCESS" if runs else "NOT_BUILT"}
    assert ("ran" in finished.lines) is runs
    assert finished.result == "SUCCESS"


@pytest.mark.parametrize(("moment", "asked"), [("beforeOptions", False), ("beforeInput", False), ("beforeAgent", True)])
def test_conditions_can_be_asked_before_the_question(tmp_path, monkeypatch, moment, asked):
    monkeypatch.setattr("sys.stdin", io.StringIO())
    when = f"when {{\n{moment} true\nbranch 'no'\n}}"
    stage = f"stage('A') {{\n{when}\ninput {{ message 'Go on?' }}\nsteps {{ echo 'a' }}\n}}"
    assert build(tmp_path, pipeline(stage)).stages == {"A": "ABORTED" if asked else "NOT_BUILT"}


def test_an_environment_that_cannot_be_made_fails_the_build(tmp_path):
    finished = build(
        tmp_path, pipeline("echo 'a'", "environment { A = sh(script: 'exit 4', returnStdout: true) }", post=ALL_POST)
    )
    assert (finished.result, finished.stages) == ("FAILURE", {"Only": "NOT_BUILT"})
    assert finished.lines.count("ERROR: script returned exit code 4") == 1
    assert posts(finished) == ["always", "changed", "failure", "unsuccessful", "cleanup"]


def test_the_whole_pipeline_can_be_retried(tmp_path):
    text = pipeline("sh 'echo x >> tries; test $(wc -l < tries) = 2'", "options { retry(2) }")
    assert build(tmp_path, text).stages == {"Only": "SUCCESS"}


def test_a_branch_pattern_does_not_cross_a_slash(tmp_path):
    text = pipeline("stage('A') {\nwhen { branch 'f*' }\nsteps { echo 'a' }\n}")
    assert build(tmp_path, text, branch="feature/x").stages == {"A": "NOT_BUILT"}
    assert build(tmp_path, text, branch="feature").stages == {"A": "SUCCESS"}


# ---- post


def test_post_conditions_run_in_jenkins_order_whatever_their_order_in_the_file(tmp_path):
    failing = pipeline("error 'no'", post=ALL_POST)
    assert posts(build(tmp_path, failing)) == ["always", "changed", "failure", "unsuccessful", "cleanup"]
    assert posts(build(tmp_path, failing)) == ["always", "failure", "unsuccessful", "cleanup"]
    good = pipeline("echo 'yes'", post=ALL_POST)
    assert posts(build(tmp_path, good)) == ["always", "changed", "fixed", "success", "cleanup"]
    assert posts(build(tmp_path, good)) == ["always", "success", "cleanup"]
    unstable = pipeline("unstable 'so so'", post=ALL_POST)
    assert posts(build(tmp_path, unstable)) == [
        "always",
        "changed",
        "regression",
        "unstable",
        "unsuccessful",
        "cleanup",
    ]


def test_a_stage_has_a_post_of_its_own_with_its_own_result(tmp_path):
    text = pipeline(
        """stage('A') { steps { unstable 'so so' } }
            stage('B') {
              steps { echo 'b' }
              post { success { echo 'post of B' } }
            }""",
    )
    assert posts(build(tmp_path, text)) == ["of B"]


def test_a_failure_in_post_fails_the_build_and_the_other_conditions_still_run(tmp_path):
    finished = build(
        tmp_path,
        pipeline("echo 'a'", post="always { error 'no' }\nsuccess { echo 'post s' }\ncleanup { echo 'post c' }"),
    )
    assert finished.result == "FAILURE"
    assert posts(finished) == ["c"]


def test_post_runs_after_a_timeout_of_the_whole_pipeline(tmp_path):
    finished = build(
        tmp_path, pipeline("sh 'sleep 60'", "options { timeout(time: 100, unit: 'MILLISECONDS') }", post=ALL_POST)
    )
    assert finished.result == "ABORTED"
    assert posts(finished) == ["always", "changed", "aborted", "unsuccessful", "cleanup"]


# ---- options, environment, parameters


def test_retry_tries_again_and_only_the_last_attempt_counts(tmp_path):
    script = "echo x >> tries; test $(wc -l < tries) = 3"
    assert build(tmp_path, pipeline(f"retry(3) {{ sh '{script}' }}")).result == "SUCCESS"
    (tmp_path / "tries").unlink()
    of_stage = f"stage('A') {{\noptions {{ retry(2) }}\nsteps {{ sh '{script}' }}\n}}"
    assert build(tmp_path, pipeline(of_stage)).stages == {"A": "FAILURE"}
    assert (tmp_path / "tries").read_text() == "x\nx\n"


def test_a_timeout_inside_retry_is_tried_again(tmp_path):
    steps = "retry(2) { timeout(time: 300, unit: 'MILLISECONDS') { sh 'test -e again || { touch again; sleep 60; }' } }"
    assert build(tmp_path, pipeline(steps)).result == "SUCCESS"


def test_a_stages_timeout_aborts_the_build(tmp_path):
    text = "stage('A') {\noptions { timeout(time: 100, unit: 'MILLISECONDS') }\nsteps { sh 'sleep 60' }\n}"
    finished = build(tmp_path, pipeline(text))
    assert (finished.result, finished.stages) == ("ABORTED", {"A": "ABORTED"})


def test_timestamps_stand_before_every_line_of_the_run(tmp_path):
    finished = build(tmp_path, pipeline("echo 'hello'", "options { timestamps() }"))
    assert any(line[2] == line[5] == ":" and line.endswith(" hello") for line in finished.lines if len(line) > 5)


def test_environment_sees_what_stands_before_it(tmp_path):
    finished = build(
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
    assert "123 A now true" in finished.lines
    assert "1234 /more" in finished.lines


def test_jenkins_variables_are_there(tmp_path):
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
    finished = build(tmp_path, pipeline(f"""sh 'echo {" ".join("$" + name for name in names)}'"""), branch="dev")
    assert f"1 1 ct-1 #1 ct dev true {tmp_path} {finished.folder.as_uri()}/" in finished.lines


PARAMETERS = """parameters {
    string(name: 'AS_OF', defaultValue: 'now')
    choice(name: 'SIZE', choices: ['small', 'large'])
    booleanParam(name: 'FORCE', defaultValue: false)
    password(name: 'KEY', defaultValue: '')
}"""


def test_parameters_have_their_defaults_and_take_values(tmp_path):
    text = pipeline('echo "${params.AS_OF} ${params.SIZE} ${params.FORCE}"', PARAMETERS)
    assert "now small false" in build(tmp_path, text).lines
    finished = build(tmp_path, text, "AS_OF=a=b", "SIZE=large", "FORCE=TRUE", "KEY=hidden-key")
    assert "a=b large true" in finished.lines
    assert finished.record["parameters"] == {"AS_OF": "a=b", "SIZE": "large", "FORCE": True, "KEY": "****"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("WHAT=1", "there is no parameter «WHAT»; there are: AS_OF, SIZE, FORCE, KEY"),
        ("SIZE=huge", "SIZE is one of small, large, not «huge»"),
        ("FORCE=maybe", "FORCE is true or false, not «maybe»"),
        ("AS_OF", "-P takes NAME=VALUE, not «AS_OF»"),
    ],
)
def test_a_wrong_parameter_is_an_error_before_anything_runs(tmp_path, given, message):
    with pytest.raises(ParameterError) as caught:
        build(tmp_path, pipeline("sh 'touch ran'", PARAMETERS), given)
    assert str(caught.value) == message
    assert not (tmp_path / ".ct").exists()


def test_restart_from_a_stage(tmp_path):
    text = pipeline("\n".join(f"stage('{name}') {{ steps {{ echo 'in {name}' }} }}" for name in "ABC"))
    with pytest.raises(OrderError, match="there is no build yet that could be restarted from B"):
        build(tmp_path, text, start="B")
    build(tmp_path, text)
    finished = build(tmp_path, text, start="B")
    assert finished.stages == {"A": "NOT_BUILT", "B": "SUCCESS", "C": "SUCCESS"}
    assert "in A" not in finished.lines
    with pytest.raises(OrderError, match="there is no stage «D» to start from; there are: A, B, C"):
        build(tmp_path, text, start="D")


def test_a_restart_has_the_parameters_of_the_build_that_it_restarts(tmp_path):
    text = pipeline(
        "stage('A') { steps { echo 'a' } }\nstage('B') { steps { echo \"as of ${params.AS_OF}\" } }", PARAMETERS
    )
    build(tmp_path, text, "AS_OF=2013-05-01")
    assert "as of 2013-05-01" in build(tmp_path, text, start="B").lines
    with pytest.raises(OrderError, match="a restart has the parameters of the last build: leave out -P"):
        build(tmp_path, text, "AS_OF=2013-06-01", start="B")


# ---- steps


def test_sh_traces_its_commands_and_stops_at_the_first_failure(tmp_path):
    finished = build(tmp_path, pipeline("sh '''\necho one\nfalse\necho two\n'''"))
    at = finished.lines.index("+ echo one")
    assert finished.lines[at : at + 4] == ["+ echo one", "one", "+ false", "ERROR: script returned exit code 1"]


def test_sh_with_an_interpreter_runs_that_one(tmp_path):
    assert "42" in build(tmp_path, pipeline("sh '''#!/usr/bin/env python3\nprint(6 * 7)\n'''")).lines


def test_files_and_directories(tmp_path):
    finished = build(
        tmp_path,
        pipeline(
            """writeFile file: 'made/here.txt', text: 'first'
               dir('made') {
                 echo "${readFile('here.txt')} ${fileExists('gone')} ${pwd().endsWith('/made')}"
                 stash name: 'kept', includes: '*.txt'
                 deleteDir()
               }
               echo "${fileExists('made')}"
               dir('again') { unstash 'kept' }
               deleteDir()
               cleanWs()"""
        ),
    )
    assert "first false true" in finished.lines
    assert "false" in finished.lines
    assert (tmp_path / "again/here.txt").read_text() == "first"  # the workspace is somebody's work tree: it stays


def test_reports_are_kept_with_the_build(tmp_path):
    for path, text in {
        "out/a.json": "{}",
        "out/deep/b.json": "{}",
        "out/page.html": "<p>",
        "junit/r.xml": PASSED,
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    finished = build(
        tmp_path,
        pipeline(
            """archiveArtifacts artifacts: 'out/*.json, none/*', allowEmptyArchive: true
               archiveArtifacts artifacts: 'out/**/b.json'
               junit 'junit/*.xml'
               publishHTML(target: [reportDir: 'out', reportFiles: 'page.html', reportName: 'The Page', keepAll: true])
               publishHTML([reportDir: 'none', reportFiles: 'x.html', reportName: 'No', allowMissing: true])"""
        ),
    )
    kept = {path.relative_to(finished.folder).as_posix() for path in finished.folder.rglob("*") if path.is_file()}
    assert {
        "archive/out/a.json",
        "archive/out/deep/b.json",
        "junit/junit/r.xml",
        "htmlreports/The_Page/page.html",
    } <= kept
    assert f"The Page: {(finished.folder / 'htmlreports/The_Page/page.html').as_uri()}" in finished.lines
    assert "2 tests: 0 failed, 1 skipped" in finished.lines


def test_current_build_tells_the_result_so_far(tmp_path):
    text = pipeline(
        "echo \"${currentBuild.result} ${currentBuild.currentResult} ${currentBuild.number}\"\nunstable 'x'",
        post='always { echo "${currentBuild.result} ${currentBuild.previousBuild?.result}" }',
    )
    assert {"null SUCCESS 1", "UNSTABLE null"} <= set(build(tmp_path, text).lines)
    assert {"null SUCCESS 2", "UNSTABLE UNSTABLE"} <= set(build(tmp_path, text).lines)


def test_a_script_block_may_describe_the_build(tmp_path):
    text = pipeline(
        "script {\ncurrentBuild.setDescription('started')\n}\necho \"it is ${currentBuild.description}\"",
        post='always { script { currentBuild.setDescription("${currentBuild.description}, done") } }',
    )
    finished = build(tmp_path, text)
    assert finished.record["description"] == "started, done"
    assert {"description: started", "it is started", "description: started, done"} <= set(finished.lines)


def test_a_local_run_is_started_by_whoever_is_here(tmp_path):
    text = pipeline(
        'echo "${currentBuild.getBuildCauses()[0].shortDescription}"\n'
        "echo \"${currentBuild.getBuildCauses('hudson.model.Cause$UserIdCause').size()} of a user, "
        "${currentBuild.getBuildCauses('hudson.triggers.TimerTrigger$TimerTriggerCause').size()} of the clock\""
    )
    assert {f"Started by user {getpass.getuser()}", "1 of a user, 0 of the clock"} <= set(build(tmp_path, text).lines)


# ---- records


def test_old_builds_are_discarded(tmp_path):
    text = pipeline("echo 'a'", "options { buildDiscarder(logRotator(numToKeepStr: '2')) }")
    for _ in range(4):
        build(tmp_path, text)
    assert sorted(one.name for one in (tmp_path / ".ct/builds").iterdir()) == ["3", "4"]


def test_the_record_says_how_it_went(tmp_path):
    finished = build(tmp_path, pipeline("echo 'a'"))
    record = json.loads((finished.folder / "build.json").read_text())
    assert record["number"] == 1
    assert (record["state"], record["result"]) == ("finished", "SUCCESS")
    assert record["stages"][0].keys() == {"name", "depth", "result", "seconds"}
    assert not (finished.folder / "tmp").exists()
