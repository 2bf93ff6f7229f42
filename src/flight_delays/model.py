"""The estimator. The query in training.yaml computes its features."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OrdinalEncoder


def build(categories: list[str], numbers: list[str], **parameters: Any) -> Pipeline:
    """Build the unfitted estimator.

    Args:
        categories: names of the text features.
        numbers: names of the numeric features, with nulls as NaN.
        parameters: those of HistGradientBoostingClassifier, from training.yaml.

    Returns:
        A pipeline for a DataFrame with these columns; unknown categories are treated as missing ones.
    """
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan, encoded_missing_value=np.nan)
    features = make_column_transformer((encoder, categories), ("passthrough", numbers))
    trees = HistGradientBoostingClassifier(categorical_features=list(range(len(categories))), **parameters)
    return make_pipeline(features, trees)
