"""Behaviour tests without an assertion are found, also if a helper function asserts."""

from pathlib import Path

import pytest

from continuous_training.stages.assertions import find_tests_without_assertion

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    "body",
    [
        "assert model",
        "np.testing.assert_allclose(1, model)",
        "pd.testing.assert_frame_equal(model, model)",
        "with pytest.raises(ValueError): model.predict()",
        "with raises(ValueError): model.predict()",
        "pytest.fail('no')",
        "helper(model)",
        "[indirect(row) for row in model]",
        "if model:\n        for row in model:\n            assert row",
    ],
)
def test_a_test_with_an_assertion_is_accepted(tmp_path: Path, body: str) -> None:
    path = tmp_path / "test_behaviour.py"
    helpers = "def helper(model):\n    assert model\n\ndef indirect(row):\n    helper(row)\n\n"
    path.write_text(f"{helpers}def test_it(model):\n    {body}\n")
    assert find_tests_without_assertion(path) == []


@pytest.mark.parametrize(
    "body",
    ["...", "print(model)", "assert True", "model.predict()", "other(model)", "parser.fail(model)", "unknown(model)"],
)
def test_a_test_without_an_assertion_is_reported(tmp_path: Path, body: str) -> None:
    path = tmp_path / "test_behaviour.py"
    path.write_text(f"def other(model):\n    return model\n\ndef test_it(model):\n    {body}\n")
    assert find_tests_without_assertion(path) == ["test_it"]


def test_methods_are_reported_with_their_class(tmp_path: Path) -> None:
    path = tmp_path / "test_behaviour.py"
    path.write_text(
        "class TestA:\n    def test_one(self):\n        self.same(1)\n\n    def test_two(self): ...\n\n"
        "    def same(self, x):\n        assert x\n\nclass TestB:\n    def test_one(self): ...\n"
    )
    assert find_tests_without_assertion(path) == ["TestA.test_two", "TestB.test_one"]


@pytest.mark.parametrize("path", sorted(ROOT.glob("tests/*/test_behaviour.py")), ids=lambda path: path.parent.name)
def test_all_behaviour_tests_of_this_checkout_have_assertions(path: Path) -> None:
    assert find_tests_without_assertion(path) == []
