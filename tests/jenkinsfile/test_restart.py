"""`--from`: a restart continues the last build with its parameters, and never skips a stage that has not passed."""

from __future__ import annotations

import shutil

import pytest

from git_repository import commit, create_repository, git
from jenkinsfile.builds.source_code import SourceCode, read_source_code
from jenkinsfile.execution.restart import RestartError
from jenkinsfile.parameters import ParameterError
from local_build import pipeline, run_build

PARAMETERS = "parameters {\nstring(name: 'AS_OF', defaultValue: 'now')\npassword(name: 'KEY', defaultValue: '')\n}"
STAGES = "\n".join(
    f"stage('{name}') {{ steps {{ sh 'echo in {name} $AS_OF; test ! -e fail-{name}' }} }}" for name in "ABC"
)
TEXT = pipeline(STAGES, PARAMETERS)


@pytest.fixture
def repository(tmp_path):
    ignored = "fail-*\nignored/\n.ct/\n"
    return create_repository(tmp_path, {".gitignore": ignored, "code.py": "1", "folder/more.py": "2"})


def error_message(folder, stage="B", *assignments, text=TEXT, branch=None) -> str:
    builds = len([*folder.glob(".ct/builds/*")])
    with pytest.raises(RestartError) as error:
        run_build(folder, text, *assignments, start_stage=stage, branch=branch)
    assert len([*folder.glob(".ct/builds/*")]) == builds
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_restart_runs_the_stage_and_those_after_it(tmp_path):
    run_build(tmp_path, TEXT)
    outcome = run_build(tmp_path, TEXT, start_stage="B")
    assert outcome.stages == {"A": "NOT_BUILT", "B": "SUCCESS", "C": "SUCCESS"}
    assert "in A now" not in outcome.lines
    assert "stage A skipped: it belongs to build 1" in outcome.lines


def test_there_must_be_a_build_and_a_stage(tmp_path):
    assert error_message(tmp_path).startswith("there is no build to restart from stage 'B'")
    run_build(tmp_path, TEXT)
    assert error_message(tmp_path, "D") == "there is no stage 'D' to start from; the stages are: A, B, C"


def test_a_restart_has_the_parameters_of_its_origin_and_assignments_override_them(tmp_path):
    run_build(tmp_path, TEXT, "AS_OF=2013-05-01")
    assert "in B 2013-05-01" in run_build(tmp_path, TEXT, start_stage="B").lines
    outcome = run_build(tmp_path, TEXT, "AS_OF=2013-06-01", start_stage="B")
    assert "in B 2013-06-01" in outcome.lines
    assert outcome.record["parameters"]["AS_OF"] == "2013-06-01"
    with pytest.raises(ParameterError, match="there is no parameter 'SIZE'"):
        run_build(tmp_path, TEXT, "SIZE=1", start_stage="B")


def test_a_masked_parameter_is_not_read_from_the_record(tmp_path):
    text = pipeline('sh \'test "$KEY" = "$EXPECTED"\'', PARAMETERS)
    run_build(tmp_path, text, "KEY=hidden-key", environment={"EXPECTED": "hidden-key"})
    assert run_build(tmp_path, text, start_stage="Only", environment={"EXPECTED": ""}).result == "SUCCESS"


def test_the_record_the_cause_and_the_console_have_the_origin(tmp_path):
    causes = "${currentBuild.getBuildCauses().size()} causes, ${currentBuild.getBuildCauses()[-1].shortDescription}"
    text = pipeline(f'echo "{causes}"')
    assert run_build(tmp_path, text).record["origin_build"] is None
    outcome = run_build(tmp_path, text, start_stage="Only")
    assert (outcome.record["origin_build"], outcome.record["origin_stage"]) == (1, "Only")
    assert "2 causes, Restarted from build #1, stage Only" in outcome.lines
    assert any(line.endswith("continues build 1 from stage 'Only'") for line in outcome.lines)


# ---- the stages before


def test_a_failed_stage_can_be_restarted_but_not_skipped(tmp_path):
    (tmp_path / "fail-B").touch()
    run_build(tmp_path, TEXT)
    assert (
        error_message(tmp_path, "C") == "stage 'B' ended with FAILURE in build 1: run everything again, without --from"
    )
    (tmp_path / "fail-B").unlink()
    assert run_build(tmp_path, TEXT, start_stage="B").result == "SUCCESS"


def test_a_restart_of_a_restart_relies_on_the_stages_of_the_first_build(tmp_path):
    run_build(tmp_path, TEXT)
    run_build(tmp_path, TEXT, start_stage="B")
    outcome = run_build(tmp_path, TEXT, start_stage="C")
    assert outcome.record["origin_build"] == 2
    assert outcome.stages == {"A": "NOT_BUILT", "B": "NOT_BUILT", "C": "SUCCESS"}
    (tmp_path / "fail-C").touch()
    run_build(tmp_path, TEXT, start_stage="B")
    assert run_build(tmp_path, TEXT, start_stage="B").record["origin_build"] == 4


def test_a_stage_that_did_not_run_cannot_be_skipped(tmp_path):
    (tmp_path / "fail-A").touch()
    run_build(tmp_path, TEXT)
    assert error_message(tmp_path, "C").startswith("stage 'A' ended with FAILURE in build 1")
    text = pipeline(STAGES, PARAMETERS, "environment { X = sh(script: 'test ! -e broken', returnStdout: true) }")
    (tmp_path / "broken").touch()
    run_build(tmp_path, text)
    assert error_message(tmp_path, "B", text=text).startswith("stage 'A' did not run in build 2")


def test_a_failed_parallel_branch_counts_as_a_failed_stage(tmp_path):
    lint, test = "stage('Lint') { steps { error 'no' } }", "stage('Test') { steps { echo 'a' } }"
    checks = f"stage('Checks') {{ parallel {{\n{lint}\n{test}\n}} }}"
    text = pipeline(f"{checks}\nstage('Train') {{ steps {{ echo 'trained' }} }}")
    run_build(tmp_path, text)
    assert error_message(tmp_path, "Train", text=text).startswith("stage 'Checks' ended with FAILURE in build 1")


def test_a_stage_that_did_not_meet_its_conditions_and_an_unstable_one_can_be_skipped(tmp_path):
    text = pipeline(
        "stage('Never') {\nwhen { branch 'other' }\nsteps { echo 'a' }\n}\n"
        "stage('Shaky') { steps { unstable 'so so' } }\nstage('Last') { steps { echo 'b' } }"
    )
    run_build(tmp_path, text)
    assert run_build(tmp_path, text, start_stage="Last").stages["Last"] == "SUCCESS"


def test_a_stage_that_was_skipped_because_the_build_is_unstable_cannot_be_restarted(tmp_path):
    text = pipeline(
        "stage('Shaky') { steps { unstable 'so so' } }\nstage('Last') { steps { echo 'b' } }",
        "options { skipStagesAfterUnstable() }",
    )
    run_build(tmp_path, text)
    assert error_message(tmp_path, "Last", text=text).startswith("stage 'Last' was skipped because build 1 is unstable")


def test_a_restart_has_the_branch_of_its_origin(tmp_path):
    run_build(tmp_path, TEXT, branch="feature")
    assert run_build(tmp_path, TEXT, start_stage="B").record["branch"] == "feature"
    assert error_message(tmp_path, branch="main") == "build 2 is one of branch 'feature': leave out --branch"


# ---- the code


def test_the_record_and_the_environment_have_the_commit(repository):
    text = pipeline(
        "sh 'echo $GIT_COMMIT $GIT_BRANCH ${GIT_PREVIOUS_COMMIT-none} ${GIT_PREVIOUS_SUCCESSFUL_COMMIT-none}'"
    )
    first = run_build(repository, text)
    code = SourceCode(first.record["commit"], first.record["tree"])
    assert code.commit
    assert code.tree
    assert code == read_source_code(repository)
    assert f"{code.commit} main none none" in first.lines
    (repository / "code.py").write_text("2")
    commit(repository)
    second = run_build(repository, text)
    assert f"{second.record['commit']} main {code.commit} {code.commit}" in second.lines
    assert second.record["commit"] != code.commit


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "code.py").write_text("3"),
        lambda folder: (folder / "new.py").write_text("3"),
        lambda folder: (folder / "folder/more.py").unlink(),
        lambda folder: (folder / "code.py").chmod(0o755),
    ],
    ids=["changed", "new", "deleted", "executable"],
)
def test_a_restart_with_other_code_is_rejected_committed_or_not(repository, change):
    run_build(repository, TEXT)
    change(repository)
    message = (
        "the code is not that of build 1 (files in the work tree have changed): run everything again, without --from"
    )
    assert error_message(repository) == message
    commit(repository)
    assert error_message(repository).startswith("the code is not that of build 1 (commit ")


@pytest.mark.parametrize("state_pattern", ["", ".ct/", ".ct/*", ".ct/builds"])
def test_ignored_files_and_the_state_folder_are_not_code(tmp_path, state_pattern):
    create_repository(tmp_path, {".gitignore": f"ignored/\n{state_pattern}\n", "code.py": "1"})
    tree = run_build(tmp_path, TEXT).record["tree"]
    assert tree == git(tmp_path, "rev-parse", "HEAD^{tree}").strip()
    (tmp_path / "ignored").mkdir()
    (tmp_path / "ignored/file").write_text("4")
    assert run_build(tmp_path, TEXT, start_stage="B").result == "SUCCESS"


def test_a_commit_of_the_same_content_is_other_code(repository):
    """Otherwise the record of the new build would have another commit than its origin."""
    run_build(repository, TEXT)
    commit(repository)
    assert error_message(repository).startswith("the code is not that of build 1 (commit ")


def test_the_tree_is_that_of_a_commit_and_git_is_unchanged(repository):
    (repository / "code.py").write_text("5")
    (repository / "new.py").write_text("6")
    before = {path: path.read_bytes() for path in (repository / ".git").rglob("*") if path.is_file()}
    tree = read_source_code(repository).tree
    assert {path: path.read_bytes() for path in (repository / ".git").rglob("*") if path.is_file()} == before
    commit(repository)
    assert read_source_code(repository).tree == tree


def test_outside_a_repository_nothing_is_compared(tmp_path):
    outcome = run_build(tmp_path, TEXT)
    assert (outcome.record["commit"], outcome.record["tree"]) == (None, None)
    (tmp_path / "code.py").write_text("3")
    assert run_build(tmp_path, TEXT, start_stage="B").result == "SUCCESS"


def test_a_deleted_repository_is_other_code(repository):
    run_build(repository, TEXT)
    shutil.rmtree(repository / ".git")
    assert error_message(repository).startswith("the code is not that of build 1")


def test_a_work_tree_that_git_cannot_read_is_an_error(repository):
    run_build(repository, TEXT)
    git(repository, "init", "nested")  # a repository without a commit, which cannot be added
    assert read_source_code(repository).tree is None
    assert error_message(repository).startswith("git cannot read the work tree")
