"""The estimator."""

from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder


def build(categories, numbers, **parameters):
    """Build a logistic regression."""
    columns = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), categories), (SimpleImputer(keep_empty_features=True), numbers)
    )
    return make_pipeline(columns, LogisticRegression(**parameters))
