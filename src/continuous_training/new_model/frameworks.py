"""The frameworks in which `ct new` can write a model.

A new one is a row of `FRAMEWORKS` and a template of its model.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


class Framework(NamedTuple):
    """A framework: the template of model.py, and the section `model` of training.yaml."""

    title: str
    template: str
    parameters: Mapping[str, Any]
    max_categories: int  # of a column: with more it cannot be a feature


FRAMEWORKS = {
    "scikit-learn": Framework(
        title="gradient boosting of scikit-learn",
        template="scikit_learn.py.j2",
        parameters={"learning_rate": 0.1, "max_iter": 100, "max_leaf_nodes": 15, "random_state": 0},
        max_categories=200,
    ),
}
