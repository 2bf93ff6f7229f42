"""`changeset`: the files that changed since the previous build, committed or not. A first build has no changes."""

from __future__ import annotations

import pytest

from git_repository import commit, create_repository
from jenkinsfile.builds.source_code import find_changed_files
from local_build import pipeline, run_build


@pytest.fixture
def repository(tmp_path):
    return create_repository(tmp_path, {".gitignore": ".ct/\n", "src/a/one.py": "1", "README.md": "text"})


def run(folder, condition="changeset 'src/**'"):
    return run_build(folder, pipeline(f"stage('A') {{\nwhen {{ {condition} }}\nsteps {{ echo 'a' }}\n}}")).stages["A"]


def test_a_build_without_changes_and_the_first_build_skip_the_stage(repository):
    assert [run(repository), run(repository)] == ["NOT_BUILT", "NOT_BUILT"]


@pytest.mark.parametrize("is_committed", [True, False], ids=["committed", "uncommitted"])
def test_a_changed_a_new_and_a_deleted_file_run_the_stage(repository, is_committed):
    run(repository)
    for change in (
        lambda: (repository / "src/a/one.py").write_text("2"),
        lambda: (repository / "src/a/two.py").write_text("3"),
        lambda: (repository / "src/a/one.py").unlink(),
    ):
        change()
        if is_committed:
            commit(repository)
        assert run(repository) == "SUCCESS"
        commit(repository)
        run(repository)
        assert run(repository) == "NOT_BUILT"


def test_a_change_of_another_path_skips_the_stage(repository):
    run(repository)
    (repository / "README.md").write_text("more")
    commit(repository)
    assert run(repository) == "NOT_BUILT"


@pytest.mark.parametrize(
    ("condition", "result"),
    [
        ("changeset 'SRC/**/*.PY'", "SUCCESS"),
        ("changeset pattern: 'SRC/**', caseSensitive: true", "NOT_BUILT"),
        ("changeset pattern: 'src/a/o.*', comparator: 'REGEXP'", "SUCCESS"),
        ("changeset 'src/*'", "NOT_BUILT"),
        ("anyOf { changeset 'docs/**'; changeset 'src/**' }", "SUCCESS"),
    ],
)
def test_the_pattern_is_compared_as_on_jenkins(repository, condition, result):
    run(repository)
    (repository / "src/a/one.py").write_text("2")
    commit(repository)
    assert run(repository, condition) == result


def test_a_workspace_without_git_has_no_changes(tmp_path):
    assert find_changed_files(tmp_path, None) == []
    assert find_changed_files(tmp_path, "0" * 40) == []


def test_without_the_commit_of_the_previous_build_uncommitted_changes_count(repository):
    (repository / "README.md").write_text("more")
    assert find_changed_files(repository, "0" * 40) == ["README.md"]
