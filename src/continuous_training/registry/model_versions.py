"""Model versions in MLflow's registry: the version in production is the one that the alias `champion` names.

MLflow's deprecated stages are not used, and there is no second database.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from continuous_training.errors import UserError
from continuous_training.registry.connection import clip, if_there
from continuous_training.registry.runs import TRAINED_UNTIL

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow import MlflowClient
    from mlflow.entities.model_registry import RegisteredModel

CHAMPION, CANDIDATE, PREVIOUS = "champion", "candidate", "previous"

REPLACED = "ct.replaced"  # on a version: the champion whose place it took
ROLLED_BACK_BECAUSE = "ct.rolled_back"  # on a version: why it was rolled back


@dataclass(frozen=True)
class Version:
    """One version of a registered model."""

    name: str
    number: str
    run_id: str
    tags: dict[str, str]

    @property
    def uri(self) -> str:
        """The address by which MLflow loads it."""
        return f"models:/{self.name}/{self.number}"

    @property
    def replaced(self) -> str | None:
        """The number of the champion whose place it took."""
        return self.tags.get(REPLACED)

    @property
    def rolled_back(self) -> str | None:
        """Why it was rolled back, if it was."""
        return self.tags.get(ROLLED_BACK_BECAUSE)


def by_alias(client: MlflowClient, model: str, alias: str) -> Version | None:
    """Return the version that an alias names, or None if there is none."""
    return _version_if_there(
        client, model, lambda: client.get_model_version_by_alias(model, alias), f"the {alias} of {model}"
    )


def by_number(client: MlflowClient, model: str, number: str) -> Version | None:
    """Return a version by its number, or None if it is not there any more."""
    return _version_if_there(
        client, model, lambda: client.get_model_version(model, number), f"version {number} of {model}"
    )


def registered_model(client: MlflowClient, model: str) -> RegisteredModel | None:
    """Return the registered model, with its tags and aliases, or None if no version of it was ever registered."""
    return if_there(lambda: client.get_registered_model(model), f"of the model {model}")


def identity(client: MlflowClient, model: str) -> str | None:
    """Return what tells one registry's model from another's of the same name, however the registry is reached."""
    found = registered_model(client, model)
    return identity_of(found) if found else None


def identity_of(model: RegisteredModel) -> str:
    """Return the same of a registered model that was asked for already."""
    return f"{model.name}@{model.creation_timestamp}"


def by_run(client: MlflowClient, model: str, run_id: str) -> Version | None:
    """Return the version that was made from an MLflow run."""
    versions = client.search_model_versions(f"name = '{model}'")
    return next((_version(found) for found in versions if found.run_id == run_id), None)


def register(client: MlflowClient, model: str, run_id: str, model_uri: str, tags: dict[str, str]) -> Version:
    """Return the version made from an MLflow run; make it if the run has none yet. It becomes the `candidate`.

    The tags are on it from its first moment; a version that an earlier run has made gets those that are new.
    """
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, ErrorCode

    try:
        client.create_registered_model(model)
    except MlflowException as error:
        if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
            raise
    tags = {key: clip(value) for key, value in tags.items()}
    version = by_run(client, model, run_id)
    if version is None:
        model_id = model_uri.removeprefix("models:/")  # a server takes no version without it, the embedded store does
        version = _version(client.create_model_version(model, model_uri, run_id, tags=tags, model_id=model_id))
    for key, value in tags.items():
        if version.tags.get(key) != value:
            client.set_model_version_tag(model, version.number, key, value)
    client.set_registered_model_alias(model, CANDIDATE, version.number)
    return version


def trained_until(client: MlflowClient, version: Version) -> datetime | None:
    """Return the moment before which all rows lie that a version was trained on; None if nothing tells."""
    found = if_there(lambda: client.get_run(version.run_id), f"MLflow run {version.run_id}")
    told = found.data.tags.get(TRAINED_UNTIL) if found else None
    return datetime.fromisoformat(told) if told else None


def _version_if_there(client: MlflowClient, model: str, call: Callable[[], Any], what: str) -> Version | None:
    """Return a version of a model, or None if there is none.

    A server with passwords does not say that there is no such model but forbids to ask for versions of it, so then the
    model itself is asked for.
    """
    try:
        found = if_there(call, what)
    except UserError as problem:
        denied = getattr(problem.__cause__, "error_code", None) == "PERMISSION_DENIED"
        if denied and registered_model(client, model) is None:
            return None
        raise
    return _version(found) if found else None


def _version(found: Any) -> Version:  # noqa: ANN401 - two classes of MLflow's with these attributes
    return Version(found.name, str(found.version), found.run_id or "", dict(found.tags))
