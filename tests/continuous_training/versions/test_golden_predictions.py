"""Golden predictions are compared in the type in which a version predicts: rounding is no difference, all else is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import orjson
import pandas as pd
import pytest

from continuous_training.errors import UserError
from continuous_training.versions.golden_predictions import (
    FILE,
    describe_difference,
    read_golden_predictions,
    write_golden_predictions,
)

ROWS = pd.DataFrame({"x": [1.0, 2.0, 3.0]})


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int64", "int8", "bool"])
def test_they_are_stored_and_read_exactly(dtype: str, tmp_path: Path) -> None:
    predictions = np.array([0.1, 5000.37, 1 / 3]).astype(dtype) if dtype[0] == "f" else np.array([1, 0, 1], dtype)
    write_golden_predictions(tmp_path, ROWS, predictions)
    _, golden = read_golden_predictions(tmp_path)
    assert golden.dtype == predictions.dtype
    assert (golden == predictions).all()


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_predictions_that_have_become_json_are_the_same(dtype: str) -> None:
    golden = np.array([5000.37, 1 / 3, 1.7e9], dtype)
    answer = orjson.loads(orjson.dumps(golden, option=orjson.OPT_SERIALIZE_NUMPY))
    assert describe_difference(answer, golden) is None


@pytest.mark.parametrize(
    ("dtype", "value", "noise", "is_rounding"),
    [
        ("float32", 5000.0, 1e-3, True),
        ("float32", 5000.0, 0.1, False),
        ("float32", 0.5, 1e-6, True),
        ("float32", 0.5, 1e-4, False),
        ("float64", 0.5, 1e-10, True),
        ("float64", 0.5, 1e-8, False),
        ("float64", 1e9, 0.1, True),
        ("float64", 1e9, 10.0, False),
        ("int64", 2**40, 1, False),
        ("int64", 2**60, 1, False),
    ],
)
def test_what_is_rounding_depends_on_the_type(dtype: str, value: float, noise: float, *, is_rounding: bool) -> None:
    golden = np.array([value, value], dtype)
    other = golden + np.array([0, noise], dtype)
    assert (describe_difference(other, golden) is None) == is_rounding


@pytest.mark.parametrize("predictions", [[1.0], [[1.0, 2.0]], [1.0, float("nan")], [None, 2.0]])
def test_other_shapes_and_missing_numbers_differ(predictions: list[object]) -> None:
    assert describe_difference(predictions, np.array([1.0, 2.0]))


@pytest.mark.parametrize("change", [{"dtype": "object"}, {"dtype": "U9"}, {"dtype": "x"}, {"predictions": ["a"]}])
def test_a_malformed_file_is_one_clear_error(change: dict[str, object], tmp_path: Path) -> None:
    write_golden_predictions(tmp_path, ROWS, np.array([1.0, 2.0, 3.0]))
    (tmp_path / FILE).write_text(json.dumps(json.loads((tmp_path / FILE).read_text()) | change))
    with pytest.raises(UserError, match="^golden.json cannot be read: [^\n]+$"):
        read_golden_predictions(tmp_path)


def test_the_message_says_how_far_of_how_large_a_number_and_what_is_allowed() -> None:
    golden = np.array([1.0, 5000.0], "float32")
    message = describe_difference(golden + np.array([0, 1], "float32"), golden)
    assert message == "5001.0 in place of 5000.0, a difference of 1, where float32 allows 0.038"
