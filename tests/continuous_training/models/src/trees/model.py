"""The estimator."""

import numpy as np
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder


def build(categories, numbers, **parameters):
    """Build gradient boosting with categorical features."""
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan)
    columns = make_column_transformer((encoder, categories), ("passthrough", numbers))
    categorical = list(range(len(categories)))
    return make_pipeline(columns, HistGradientBoostingClassifier(categorical_features=categorical, **parameters))
