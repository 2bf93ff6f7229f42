"""Green results of Lint and Test: reused for the same code, and never in a way that could hide a failure."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from continuous_training.stages import lint, result_cache
from continuous_training.stages import test as suites
from continuous_training.stages.test import Counts, Selection

SELECTION = Selection("toy", ("model",))
TWO_TESTS = "def test_a(): ...\ndef test_b(): ...\n"


@pytest.fixture(autouse=True)
def _model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Enter a workspace with a model and its tests, in run 12."""
    enter(tmp_path, monkeypatch)


def enter(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    for name, text in {
        "pyproject.toml": "[tool.pytest.ini_options]\ncache_dir = '.ct/pytest'\n",
        "requirements.lock": "numpy==2\n",
        "src/toy/model.py": "x = 1\n",
        "src/other/model.py": "x = 1\n",
        "tests/toy/test_model.py": TWO_TESTS,
        "tests/other/test_model.py": TWO_TESTS,
    }.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text)
    for name in ("FORCE", "PYTEST_ADDOPTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # pytest starts in a fifth of the time
    monkeypatch.setenv("BUILD_TAG", "ct-12")
    monkeypatch.setenv("BUILD_NUMBER", "12")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the results of a run that has passed in such a workspace."""
    folder = tmp_path_factory.mktemp("tested")
    with pytest.MonkeyPatch.context() as patch:
        enter(folder, patch)
        assert run() == (0, Counts(2, 0, 0, []))
    return folder / result_cache.FOLDER


@pytest.fixture
def stored(results: Path) -> Path:
    """Give the workspace the result of the same code; return its file."""
    shutil.copytree(results, result_cache.FOLDER)
    return result_cache.FOLDER / f"{SELECTION.name}.json"


def run(selection: Selection = SELECTION) -> tuple[int, Counts | None]:
    return suites.test(selection)


def runs_pytest(selection: Selection = SELECTION) -> bool:
    """Run the tests; return whether pytest ran, or a stored result was used."""
    selection.junit.unlink(missing_ok=True)
    run(selection)
    return selection.junit.exists()


@pytest.mark.usefixtures("stored")
def test_the_same_code_is_tested_once_and_the_result_names_the_first_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUILD_TAG", "ct-13")
    assert run() == (0, Counts(2, 0, 0, [], "run 12 (ct-12)"))
    assert not runs_pytest()


@pytest.mark.usefixtures("stored")
@pytest.mark.parametrize(
    "path", ["src/toy/model.py", "src/toy/new.py", "tests/toy/test_model.py", "pyproject.toml", "requirements.lock"]
)
def test_a_result_is_not_used_while_a_file_is_changed(path: str) -> None:
    before = Path(path).read_text() if Path(path).exists() else None
    Path(path).write_text((before or "") + "# changed\n")
    assert result_cache.find(SELECTION.name, SELECTION.hash_inputs()) is None
    if before is None:
        Path(path).unlink()
    else:
        Path(path).write_text(before)
    assert result_cache.find(SELECTION.name, SELECTION.hash_inputs())


@pytest.mark.usefixtures("stored")
def test_a_changed_file_runs_the_tests() -> None:
    Path("src/toy/model.py").write_text("x = 2\n")
    assert runs_pytest()


@pytest.mark.usefixtures("stored")
def test_the_tests_of_another_model_do_not_change_the_hash() -> None:
    Path("tests/other/test_model.py").write_text("def test_a(): assert False\n")
    assert not runs_pytest()
    assert runs_pytest(Selection("other", ("model",)))


def test_the_hash_includes_the_names_of_files_but_not_their_times_or_bytecode() -> None:
    before = SELECTION.hash_inputs()
    os.utime("src/toy/model.py", (1, 1))
    Path("src/toy/__pycache__").mkdir()
    Path("src/toy/__pycache__/model.pyc").write_text("bytes")
    assert SELECTION.hash_inputs() == before
    Path("src/toy/model.py").rename("src/toy/models.py")
    assert SELECTION.hash_inputs() != before
    Path("src/toy/models.py").rename("src/toy/model.py")
    with Path("src/other/model.py").open("a") as file:
        file.write("# changed\n")
    assert SELECTION.hash_inputs() != before


@pytest.mark.usefixtures("stored")
def test_force_tests_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE", "true")
    assert runs_pytest()


def test_a_failure_is_not_stored() -> None:
    Path("tests/toy/test_model.py").write_text("def test_a(): assert False\n")
    assert run()[0] == 1
    assert runs_pytest()


@pytest.mark.usefixtures("stored")
def test_a_failure_keeps_the_stored_success_of_other_code() -> None:
    Path("tests/toy/test_model.py").write_text("def test_a(): assert False\n")
    assert run()[0] == 1
    assert run()[0] == 1
    Path("tests/toy/test_model.py").write_text(TWO_TESTS)
    assert not runs_pytest()


def test_code_that_changes_while_it_is_tested_is_not_stored() -> None:
    Path("tests/toy/test_model.py").write_text(
        "from pathlib import Path\n\n\ndef test_a():\n    Path('src/toy/model.py').write_text('x = 3')\n"
    )
    assert run()[0] == 0
    assert runs_pytest()


def test_pytest_arguments_neither_use_a_result_nor_store_one() -> None:
    selection = Selection("toy", ("model",), arguments=("-k", "test_a"))
    assert run(selection)[0] == 0
    assert runs_pytest()
    assert runs_pytest(selection)


def test_pytest_addopts_neither_uses_a_result_nor_stores_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_ADDOPTS", "-k test_a")
    assert run() == (0, Counts(1, 0, 0, []))
    monkeypatch.delenv("PYTEST_ADDOPTS")
    assert runs_pytest()
    monkeypatch.setenv("PYTEST_ADDOPTS", "-k test_a")
    assert runs_pytest()


def test_outside_a_run_the_tests_always_run_and_store_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BUILD_TAG")
    run()
    assert not result_cache.FOLDER.exists()
    assert runs_pytest()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"inputs": 3}', '{"inputs": "a", "unknown": 1}', "\x00\xff"])
def test_an_unreadable_result_is_not_used(stored: Path, text: str) -> None:
    assert result_cache.find(SELECTION.name, SELECTION.hash_inputs())
    stored.write_text(text, encoding="latin-1")
    assert result_cache.find(SELECTION.name, SELECTION.hash_inputs()) is None


def test_an_unreadable_result_is_replaced(stored: Path) -> None:
    stored.write_text("{")
    assert runs_pytest()
    assert not runs_pytest()


def test_a_folder_in_place_of_a_result_is_not_used() -> None:
    Path(".ct/results/test-model-toy.json").mkdir(parents=True)
    assert result_cache.find("test-model-toy", SELECTION.hash_inputs()) is None


def test_a_check_is_pending_from_its_start_until_it_is_green() -> None:
    pending = Path(".ct/results/test-model-toy.pending")
    Path("tests/toy/test_model.py").write_text("def test_a(): assert False\n")
    run()
    assert pending.exists()
    Path("tests/toy/test_model.py").write_text(TWO_TESTS)
    run()
    assert not pending.exists()


def test_a_model_without_tests_passes_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    shutil.rmtree("tests/toy")
    assert run() == (0, Counts(0, 0, 0, []))
    assert "No tests of toy: write some in tests/toy/" in caplog.text


def test_the_code_of_this_repository_is_hashed_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """In 0.2 s of CPU time, in the best of five attempts."""
    monkeypatch.chdir(Path(__file__).parents[3])
    seconds = []
    for _ in range(5):
        start = time.thread_time()
        result_cache.hash_inputs(lint.INPUTS)
        seconds.append(time.thread_time() - start)
    assert min(seconds) < 0.2
