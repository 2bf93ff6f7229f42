"""Loading a stored model: only what was stored with skops and holds types that training.yaml trusts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from continuous_training.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def examine(uri: str, trusted: tuple[str, ...]) -> None:
    """See that a model was stored with skops and holds no types beyond those that training.yaml trusts.

    MLflow loads what the model itself asks for, so this must be asked before anything is loaded.

    Raises:
        UserError: it was stored otherwise, asks for more, or is gone.
    """
    from mlflow.models import Model

    try:
        flavor = Model.load(uri).flavors["sklearn"]
    except Exception as error:
        raise UserError(f"the model {uri} is registered but cannot be loaded: {error}") from error
    examine_flavor(flavor, trusted, f"the model {uri}")


def examine_flavor(flavor: Mapping[str, Any], trusted: Sequence[str], what: str) -> None:
    """See the same by what MLmodel says of the flavor sklearn.

    Raises:
        UserError: it was stored otherwise, or asks for more.
    """
    if flavor.get("serialization_format") != "skops":
        raise UserError(f"{what} was not stored with skops: it is not loaded")
    if strange := set(flavor.get("skops_trusted_types") or ()) - set(trusted):
        raise UserError(f"{what} asks for types that training.yaml does not trust: {', '.join(sorted(strange))}")


def load(uri: str, trusted: tuple[str, ...]) -> Any:  # noqa: ANN401 - whatever estimator the team's model package builds
    """Load a scikit-learn estimator, after examining it.

    Raises:
        UserError: it is gone, is not to be trusted or cannot be read, which is not the same as not being there.
    """
    import mlflow.sklearn

    examine(uri, trusted)
    try:
        return mlflow.sklearn.load_model(uri)
    except Exception as error:
        raise UserError(f"the model {uri} is registered but cannot be loaded: {error}") from error
