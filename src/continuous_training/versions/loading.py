"""Loading a stored model: only what was stored with skops and holds types that training.yaml trusts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from continuous_training.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def examine(uri: str, trusted: tuple[str, ...]) -> None:
    """Check that a model was stored with skops and needs no types other than those that training.yaml trusts.

    MLflow loads what the model's own metadata says, so this check must come before loading.

    Raises:
        UserError: it was stored in another way, needs other types, or cannot be read.
    """
    from mlflow.models import Model

    try:
        flavor = Model.load(uri).flavors["sklearn"]
    except Exception as error:
        raise UserError(f"the model {uri} is registered but cannot be loaded: {error}") from error
    examine_flavor(flavor, trusted, f"the model {uri}")


def examine_flavor(flavor: Mapping[str, Any], trusted: Sequence[str], what: str) -> None:
    """Check the same in the flavor `sklearn` of an MLmodel file.

    Raises:
        UserError: it was stored in another way, or needs other types.
    """
    if flavor.get("serialization_format") != "skops":
        raise UserError(f"{what} was not stored with skops: it is not loaded")
    if untrusted := set(flavor.get("skops_trusted_types") or ()) - set(trusted):
        raise UserError(f"{what} needs types that training.yaml does not trust: {', '.join(sorted(untrusted))}")


def load(uri: str, trusted: tuple[str, ...]) -> Any:  # noqa: ANN401 - any estimator
    """Load a scikit-learn estimator, after examining it.

    Raises:
        UserError: it is not trusted or cannot be read.
    """
    import mlflow.sklearn

    examine(uri, trusted)
    try:
        return mlflow.sklearn.load_model(uri)
    except Exception as error:
        raise UserError(f"the model {uri} is registered but cannot be loaded: {error}") from error
