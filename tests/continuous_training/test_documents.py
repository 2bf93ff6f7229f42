"""The documents between the stages: incomplete ones, and those of another run or kind, are rejected."""

from __future__ import annotations

from pathlib import Path

import pytest

from continuous_training.documents import COSTLY_FILES, Plan, Run, Stopwatch, Verdict
from continuous_training.errors import UserError
from toy import make_run


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def plan_document(build_tag: str = "ct-1") -> Plan:
    return Plan(decision="train", reason="new", fingerprint="f", parts={}, **Stopwatch(build_tag).stop())


def test_a_document_is_read_as_it_was_written() -> None:
    make_run().write()
    plan_document().write()
    assert Plan.read() == plan_document().model_copy(
        update={"started": Plan.read().started, "seconds": Plan.read().seconds}
    )


def test_the_error_for_a_missing_document_names_the_stage_to_run() -> None:
    with pytest.raises(UserError, match=r"build/plan.json is missing: run scripts/ct plan first"):
        Plan.read()


def test_a_document_of_another_run_is_rejected() -> None:
    make_run("ct-2").write()
    plan_document("ct-1").write()
    with pytest.raises(UserError, match="is of run ct-1, not ct-2"):
        Plan.read()


def test_a_restarted_build_has_its_own_identity_and_the_documents_of_the_builds_that_it_continues(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_run("ct-1").write()
    plan_document("ct-1").write()
    monkeypatch.setenv("BUILD_URL", "https://jenkins/4/")
    monkeypatch.setenv("BUILD_TAG", "ct-4")
    assert (Run.read().build_tag, Run.read().build_url) == ("ct-4", "https://jenkins/4/")
    assert Plan.read().build_tag == "ct-1"
    monkeypatch.setenv("BUILD_TAG", "ct-5")
    plan_document("ct-4").write()
    assert Plan.read().build_tag == "ct-4"
    assert Run.read().restarted_builds == ("ct-1", "ct-4")


def test_a_run_does_not_continue_at_another_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    make_run().model_copy(update={"commit": "a" * 40}).write()
    plan_document().write()
    monkeypatch.setenv("GIT_COMMIT", "a" * 40)
    assert Plan.read().decision == "train"
    monkeypatch.setenv("GIT_COMMIT", "b" * 40)
    with pytest.raises(UserError, match=r"began at commit aaaaaaaaaaaa and the work tree is at bbbbbbbbbbbb"):
        Plan.read()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"version": 2}',
        plan_document().model_dump_json().replace('"train"', '"dance"'),
        '{"decision": "train"}',
    ],
)
def test_an_invalid_document_is_rejected_in_one_line(text: str) -> None:
    Plan.path().parent.mkdir()
    Plan.path().write_text(text)
    with pytest.raises(UserError, match=r"build/plan.json is not a plan document"):
        Plan.read()


def test_the_jenkinsfile_can_find_the_decision_in_the_text() -> None:
    plan_document().write()
    assert '"decision": "train"' in Plan.path().read_text()


def test_a_stage_that_begins_again_removes_the_documents_of_itself_and_of_later_stages() -> None:
    run = make_run()
    for path in [*COSTLY_FILES, Path("build/run.json")]:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    Verdict.begin(run)
    documents = {path.name for path in Path("build").iterdir()}
    assert documents == {
        "run.json",
        "snapshot.json",
        "data_check.json",
        "plan.json",
        "candidate.json",
        "model_check.json",
    }


def test_writing_leaves_no_temporary_file() -> None:
    plan_document().write()
    assert [path.name for path in Path("build").iterdir()] == ["plan.json"]
