"""MLflow: its tracking server and model registry, as this project uses them.

What a run leaves behind is found again by tags of the MLflow run, all under `ct.`; the model in production is the
version that the alias `champion` names. No deprecated stages, no second database.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from continuous_training.problem import Problem
from continuous_training.settings import STATE
from continuous_training.warehouse import without_password

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run as TrackedRun

CHAMPION, CANDIDATE, PREVIOUS = "champion", "candidate", "previous"

FINGERPRINT = "ct.fingerprint"
OUTCOME = "ct.outcome"  # how far a run got: set last, so a run without one was interrupted
DEPLOYED, REJECTED, HELD, UNAPPROVED = "deployed", "rejected", "held", "not approved"


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


def tracking_uri() -> str:
    """Return MLFLOW_TRACKING_URI, or the embedded default: SQLite under .ct/."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(STATE / 'mlflow.db').resolve()}"


def open_client() -> MlflowClient:
    """Point MLflow at the tracking server and return a client of it.

    Requests end after 30 seconds and three tries, unless MLflow's own variables say otherwise.

    Raises:
        Problem: nothing answers there.
    """
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    import mlflow  # five seconds that only the stages which ask MLflow pay

    uri = tracking_uri()
    if uri.startswith("sqlite"):
        STATE.mkdir(exist_ok=True)
    mlflow.set_tracking_uri(uri)
    client = mlflow.MlflowClient()
    try:
        client.search_experiments(max_results=1)
    except Exception as error:
        said = str(error).strip().splitlines()[0]
        raise Problem(without_password(f"MLflow at {uri} cannot be used: {said}")) from error
    return client


def experiment(client: MlflowClient, model: str) -> str:
    """Return the id of the model's experiment; create it if this is its first run."""
    found = client.get_experiment_by_name(model)
    if found is not None:
        return str(found.experiment_id)
    embedded = tracking_uri().startswith("sqlite")
    artifacts = (STATE / "artifacts" / model).resolve().as_uri() if embedded else None
    return str(client.create_experiment(model, artifact_location=artifacts))


def trained(client: MlflowClient, model: str, fingerprint: str) -> TrackedRun | None:
    """Return the newest finished MLflow run that trained this fingerprint."""
    runs = client.search_runs(
        [experiment(client, model)],
        f"tags.`{FINGERPRINT}` = '{fingerprint}' and attributes.status = 'FINISHED'",
        max_results=1,
        order_by=["attributes.start_time DESC"],
    )
    return runs[0] if runs else None


def abandon(client: MlflowClient, model: str, fingerprint: str) -> None:
    """End the MLflow runs of this fingerprint that a killed run left open."""
    open_runs = f"tags.`{FINGERPRINT}` = '{fingerprint}' and attributes.status = 'RUNNING'"
    for found in client.search_runs([experiment(client, model)], open_runs):
        client.set_terminated(found.info.run_id, status="KILLED")


def examine(uri: str, trusted: tuple[str, ...]) -> None:
    """See that a model was stored with skops and holds no types beyond those that training.yaml trusts.

    MLflow loads what the model itself asks for, so this must be asked before anything is loaded.

    Raises:
        Problem: it was stored otherwise, asks for more, or is gone.
    """
    from mlflow.models import get_model_info

    try:
        flavor = get_model_info(uri).flavors["sklearn"]
    except Exception as error:
        raise Problem(f"the model {uri} is registered but cannot be loaded: {error}") from error
    if flavor.get("serialization_format") != "skops":
        raise Problem(f"the model {uri} was not stored with skops: it is not loaded")
    if strange := set(flavor.get("skops_trusted_types") or ()) - set(trusted):
        raise Problem(f"the model {uri} asks for types that training.yaml does not trust: {', '.join(sorted(strange))}")


def load(uri: str, trusted: tuple[str, ...]) -> Any:  # noqa: ANN401 - whatever estimator the team's model package builds
    """Load a scikit-learn estimator, after examining it.

    Raises:
        Problem: it is gone, is not to be trusted or cannot be read, which is not the same as not being there.
    """
    import mlflow.sklearn

    examine(uri, trusted)
    try:
        return mlflow.sklearn.load_model(uri)
    except Exception as error:
        raise Problem(f"the model {uri} is registered but cannot be loaded: {error}") from error


def holder(client: MlflowClient, model: str, alias: str) -> Version | None:
    """Return the version that an alias names, or None if there is none.

    Raises:
        Problem: the registry does not answer; that is not the same as there being no champion.
    """
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, RESOURCE_DOES_NOT_EXIST, ErrorCode

    absent = {ErrorCode.Name(RESOURCE_DOES_NOT_EXIST), ErrorCode.Name(INVALID_PARAMETER_VALUE)}
    try:
        return _version(client.get_model_version_by_alias(model, alias))
    except MlflowException as error:
        if error.error_code in absent:
            return None
        raise Problem(f"the registry does not tell the {alias} of {model}: {error.message.splitlines()[0]}") from error


def version(client: MlflowClient, model: str, number: str) -> Version:
    """Return a version by its number."""
    return _version(client.get_model_version(model, number))


def identity(client: MlflowClient, model: str) -> str | None:
    """Return what tells one registry's model from another's of the same name, however the registry is reached.

    None if no version of the model was ever registered.
    """
    found = client.search_registered_models(f"name = '{model}'", max_results=1)
    return f"{model}@{found[0].creation_timestamp}" if found else None


def register(client: MlflowClient, model: str, run_id: str, model_uri: str, tags: dict[str, str]) -> Version:
    """Return the version made from an MLflow run; make it if the run has none yet. It becomes the `candidate`."""
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, ErrorCode

    try:
        client.create_registered_model(model)
    except MlflowException as error:
        if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
            raise
    made = [found for found in client.search_model_versions(f"name = '{model}'") if found.run_id == run_id]
    version = _version(made[0] if made else client.create_model_version(model, model_uri, run_id, tags=tags))
    client.set_registered_model_alias(model, CANDIDATE, version.number)
    return version


def promote(client: MlflowClient, version: Version) -> Version | None:
    """Make a version the champion and keep the old one as `previous`; return what is `previous` now.

    The champion's alias moves last: a crash before it leaves the old champion in place, one after it leaves nothing to
    do, and calling again ends in the same state.
    """
    champion = holder(client, version.name, CHAMPION)
    if champion is not None and champion.number == version.number:
        return holder(client, version.name, PREVIOUS)
    if champion is not None:
        client.set_registered_model_alias(version.name, PREVIOUS, champion.number)
    client.set_registered_model_alias(version.name, CHAMPION, version.number)
    return champion


def restore(client: MlflowClient, model: str, champion: Version | None) -> None:
    """Give the champion's alias back to a version, or take it away if there was none."""
    if champion is None:
        client.delete_registered_model_alias(model, CHAMPION)
    else:
        client.set_registered_model_alias(model, CHAMPION, champion.number)


def _version(found: Any) -> Version:  # noqa: ANN401 - two classes of MLflow's with these attributes
    return Version(found.name, str(found.version), found.run_id, dict(found.tags))
