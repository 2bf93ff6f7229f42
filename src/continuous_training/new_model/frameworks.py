"""The frameworks in which `ct new` can write a model.

A new one is a row of `FRAMEWORKS`, and a template of its model.py if none of those here fits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT = "scikit-learn"


class Framework(NamedTuple):
    """A framework: the template of model.py with its library and estimators, and the parameters in training.yaml."""

    template: str
    library: str
    classifier: str
    regressor: str
    parameters: Mapping[str, Any]
    max_categories: int = 200  # of a column: with more it cannot be a feature


FRAMEWORKS = {
    DEFAULT: Framework(
        "scikit_learn.py.j2",
        "sklearn.ensemble",
        "HistGradientBoostingClassifier",
        "HistGradientBoostingRegressor",
        {"learning_rate": 0.1, "max_iter": 100, "max_leaf_nodes": 15, "random_state": 0},
    ),
    "lightgbm": Framework(
        "boosting.py.j2",
        "lightgbm",
        "LGBMClassifier",
        "LGBMRegressor",
        {"learning_rate": 0.1, "n_estimators": 100, "num_leaves": 15, "random_state": 0, "verbose": -1},
    ),
    "xgboost": Framework(
        "boosting.py.j2",
        "xgboost",
        "XGBClassifier",
        "XGBRegressor",
        {"learning_rate": 0.1, "n_estimators": 100, "max_depth": 4, "random_state": 0},
    ),
    "catboost": Framework(
        "boosting.py.j2",
        "catboost",
        "CatBoostClassifier",
        "CatBoostRegressor",
        {"learning_rate": 0.1, "n_estimators": 100, "depth": 4, "random_seed": 0, "verbose": 0},
    ),
}
