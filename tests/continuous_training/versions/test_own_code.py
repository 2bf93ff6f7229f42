"""The champion is compared with the code that it was made with, whatever the workspace has now."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline import Pipeline
from toy import change, events, import_again, store

pytestmark = pytest.mark.usefixtures("mlflow_workspace")

SOURCE = Path("src/toy/model.py")
LATER = "2020-03-20"
TRANSFORMER = """

from sklearn.preprocessing import FunctionTransformer


def prepared(frame):
    return frame


def build(categories, numbers, **parameters):
    return make_pipeline(FunctionTransformer(prepared), SimpleImputer(), LogisticRegression(**parameters))
"""


@pytest.fixture
def champion(mlflow_workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Pipeline:  # noqa: ARG001 - the current folder
    """Promote a model whose pipeline has a function of its package."""
    change("shade: {type: category", "shade: {feature: false, type: category")
    SOURCE.write_text(SOURCE.read_text() + TRANSFORMER)
    run = Pipeline(monkeypatch)
    run.promote(compare=False)
    return run


def change_function(monkeypatch: pytest.MonkeyPatch, new: str) -> None:
    """Change the function, as a commit before the next run does."""
    change("    return frame\n", f"    return {new}\n", SOURCE)
    import_again(monkeypatch)


@pytest.mark.usefixtures("champion")
@pytest.mark.parametrize("new", ["frame.assign(x=0.0)", 'frame.assign(x=-1.0 * (frame["x"] > 0.8))'])
def test_a_candidate_of_worse_code_does_not_replace_it(new: str, monkeypatch: pytest.MonkeyPatch) -> None:
    unchanged = Pipeline(monkeypatch, AS_OF=LATER, FORCE="true").compare()
    change_function(monkeypatch, new)
    verdict = Pipeline(monkeypatch, AS_OF=LATER).compare()
    assert verdict.decision == "reject"
    assert verdict.metrics[0].champion == unchanged.metrics[0].champion
    assert verdict.metrics[0].candidate < verdict.metrics[0].champion - 0.05


def test_a_category_that_is_null_in_all_fresh_rows_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    frame, random = events(), np.random.default_rng(1)
    frame["coupon"] = pd.Series(random.choice(["spring", "summer"], len(frame)), dtype=object)
    frame.loc[(random.random(len(frame)) < 0.9) | (frame["seen"] >= "2020-02-10"), "coupon"] = None
    store(frame)
    change("    x: {type: number", "    coupon: {type: category, max_null_share: 1}\n    x: {type: number")
    change("shade, x, y, late", "shade, coupon, x, y, late")
    run = Pipeline(monkeypatch)
    assert run.compare().decision == "promote"
