"""Model versions in MLflow's registry: the version in production is the one that the alias `champion` names.

MLflow's deprecated stages are not used, and there is no second database.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from continuous_training.errors import UserError
from continuous_training.registry.connection import clip, none_if_missing

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow import MlflowClient
    from mlflow.entities.model_registry import RegisteredModel

CHAMPION, CANDIDATE, PREVIOUS = "champion", "candidate", "previous"

REPLACED = "ct.replaced"  # on a version: the champion that it replaced
PROMOTED_AT = "ct.promoted_at"  # on a version: when it became champion, in ISO 8601
ROLLED_BACK_BECAUSE = "ct.rolled_back"  # on a version: the reason of its rollback


@dataclass(frozen=True)
class Version:
    """One version of a registered model.

    `run_id` is the MLflow run of the candidate that it was made from, `source` the address of the model with its files.
    """

    name: str
    number: str
    run_id: str
    tags: dict[str, str]
    source: str = ""

    @property
    def uri(self) -> str:
        """The URI from which MLflow loads the version."""
        return f"models:/{self.name}/{self.number}"

    @property
    def replaced_version(self) -> str | None:
        """The number of the champion that it replaced."""
        return self.tags.get(REPLACED)

    @property
    def promoted_at(self) -> datetime | None:
        """When it became champion; None if that is not known."""
        try:
            moment = datetime.fromisoformat(self.tags.get(PROMOTED_AT, ""))
        except ValueError:
            return None
        return moment if moment.tzinfo else None

    @property
    def rollback_reason(self) -> str | None:
        """Why it was rolled back; None if it was not."""
        return self.tags.get(ROLLED_BACK_BECAUSE)


def by_alias(client: MlflowClient, model: str, alias: str) -> Version | None:
    """Return the version that an alias names, or None if there is none."""
    return _version_or_none(
        client, model, lambda: client.get_model_version_by_alias(model, alias), f"the {alias} of {model}"
    )


def by_number(client: MlflowClient, model: str, number: str) -> Version | None:
    """Return a version by its number, or None if it no longer exists."""
    return _version_or_none(
        client, model, lambda: client.get_model_version(model, number), f"version {number} of {model}"
    )


def registered_model(client: MlflowClient, model: str) -> RegisteredModel | None:
    """Return the registered model, with its tags and aliases, or None if it has no version."""
    return none_if_missing(lambda: client.get_registered_model(model), f"of the model {model}")


def registry_identity(client: MlflowClient, model: str) -> str | None:
    """Return an identity that differs between registries with a model of the same name, whatever their addresses."""
    entity = registered_model(client, model)
    return identity_of(entity) if entity else None


def identity_of(model: RegisteredModel) -> str:
    """Return the identity of a registered model."""
    return f"{model.name}@{model.creation_timestamp}"


def by_run(client: MlflowClient, model: str, run_id: str) -> list[Version]:
    """Return the versions that were made from an MLflow run: its candidate, a refit of it, or both."""
    versions = client.search_model_versions(f"name = '{model}'")
    return [_version(entity) for entity in versions if entity.run_id == run_id]


def register(client: MlflowClient, model: str, run_id: str, model_uri: str, tags: dict[str, str]) -> Version:
    """Return the version made of a model of an MLflow run, which is created if needed. It becomes the `candidate`.

    A new version is created with its tags; an existing one gets those that it lacks.
    """
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, ErrorCode

    try:
        client.create_registered_model(model)
    except MlflowException as error:
        if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
            raise
    tags = {key: clip(value) for key, value in tags.items()}
    version = next((each for each in by_run(client, model, run_id) if each.source == model_uri), None)
    if version is None:
        model_id = model_uri.removeprefix("models:/")  # a server requires it, the embedded store does not
        version = _version(client.create_model_version(model, model_uri, run_id, tags=tags, model_id=model_id))
    for key, value in tags.items():
        if version.tags.get(key) != value:
            client.set_model_version_tag(model, version.number, key, value)
    client.set_registered_model_alias(model, CANDIDATE, version.number)
    return version


def run_tags(client: MlflowClient, version: Version) -> dict[str, str] | None:
    """Return the tags of the MLflow run that made a version; None if it no longer exists."""
    run = none_if_missing(lambda: client.get_run(version.run_id), f"MLflow run {version.run_id}")
    return dict(run.data.tags) if run else None


def _version_or_none(client: MlflowClient, model: str, call: Callable[[], Any], what: str) -> Version | None:
    """Return a version of a model, or None if it does not exist.

    For a model that does not exist, a server with authentication answers 'permission denied' to a request for its
    versions; a request for the model itself then tells.
    """
    try:
        entity = none_if_missing(call, what)
    except UserError as error:
        is_denied = getattr(error.__cause__, "error_code", None) == "PERMISSION_DENIED"
        if is_denied and registered_model(client, model) is None:
            return None
        raise
    return _version(entity) if entity else None


def _version(entity: Any) -> Version:  # noqa: ANN401 - MLflow has two classes with these attributes
    return Version(entity.name, str(entity.version), entity.run_id or "", dict(entity.tags), entity.source or "")
