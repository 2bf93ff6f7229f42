"""MLflow: its tracking server and model registry, as this project uses them.

What a run leaves behind is found again by tags of the MLflow run, all under `ct.`; the model in production is the
version that the alias `champion` names. No deprecated stages, no second database.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from continuous_training.problem import Problem
from continuous_training.settings import STATE
from continuous_training.warehouse import without_password

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mlflow import MlflowClient
    from mlflow.entities import Run as TrackedRun
    from mlflow.entities.model_registry import RegisteredModel

    from continuous_training.documents import Run

Found = TypeVar("Found")

CHAMPION, CANDIDATE, PREVIOUS = "champion", "candidate", "previous"

FINGERPRINT = "ct.fingerprint"
TRIAL_OF = "ct.trial_of"  # the fingerprint, on each trial of a grid; only the best becomes its candidate
OUTCOME = "ct.outcome"  # how far a run got: set last, so a run without one was interrupted
DEPLOYED, REJECTED, HELD, UNAPPROVED = "deployed", "rejected", "held", "not approved"
ROLLED_BACK = "rolled back"
TRIGGER, REASON, AS_OF = "ct.trigger", "ct.reason", "ct.as_of"
EVIDENCE = "ct.evidence"  # where the monitor's is, on a run that it has asked for
TRAINED_UNTIL = "ct.trained_until"
TERMS = "ct.terms"  # hash of what the verdict was judged by

REPLACED = "ct.replaced"  # on a version: the champion whose place it took
ROLLED_BACK_BECAUSE = "ct.rolled_back"  # on a version: why it was rolled back

TAG_LENGTH = 5000  # MLflow says 100,000, but its column holds no more; PostgreSQL refuses what is longer


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


def trained(client: MlflowClient, model: str, fingerprint: str, outcome: str | None = None) -> TrackedRun | None:
    """Return the newest finished MLflow run that trained this fingerprint, or the newest with this outcome."""
    ended = f"tags.`{FINGERPRINT}` = '{fingerprint}' and attributes.status = 'FINISHED'"
    runs = client.search_runs(
        [experiment(client, model)],
        ended if outcome is None else f"{ended} and tags.`{OUTCOME}` = '{outcome}'",
        max_results=1,
        order_by=["attributes.start_time DESC"],
    )
    return runs[0] if runs else None


def answered(client: MlflowClient, run: Run, since: datetime) -> TrackedRun | None:
    """Return the newest MLflow run that was asked for in the same words since then, and has come to a verdict.

    Words of another day's data are other words: as_of counts days, and a ping may come just after midnight.
    """
    asked = f"tags.`{TRIGGER}` = '{run.trigger}' and attributes.start_time >= {since.timestamp() * 1000:.0f}"
    runs = client.search_runs(
        [experiment(client, run.model)],
        f"{asked} and attributes.status = 'FINISHED'",
        order_by=["attributes.start_time DESC"],
    )
    for found in runs:
        tags = found.data.tags
        judged = tags.get(OUTCOME) in {DEPLOYED, REJECTED, HELD, UNAPPROVED}
        apart = abs(datetime.fromisoformat(tags[AS_OF]) - run.as_of)
        if judged and tags.get(REASON, "") == clipped(run.reason) and apart <= timedelta(days=1):
            return found
    return None


def abandon(client: MlflowClient, model: str, fingerprint: str) -> None:
    """End the MLflow runs of this fingerprint that a killed or failed run left open, its trials among them."""
    for tag in (FINGERPRINT, TRIAL_OF):
        open_runs = f"tags.`{tag}` = '{fingerprint}' and attributes.status = 'RUNNING'"
        for found in client.search_runs([experiment(client, model)], open_runs):
            client.set_terminated(found.info.run_id, status="KILLED")


def fail(client: MlflowClient, run_id: str) -> None:
    """End an MLflow run as failed, if whoever filled it left it open."""
    if client.get_run(run_id).info.status == "RUNNING":
        client.set_terminated(run_id, status="FAILED")


def examine(uri: str, trusted: tuple[str, ...]) -> None:
    """See that a model was stored with skops and holds no types beyond those that training.yaml trusts.

    MLflow loads what the model itself asks for, so this must be asked before anything is loaded.

    Raises:
        Problem: it was stored otherwise, asks for more, or is gone.
    """
    from mlflow.models import Model

    try:
        flavor = Model.load(uri).flavors["sklearn"]
    except Exception as error:
        raise Problem(f"the model {uri} is registered but cannot be loaded: {error}") from error
    trust(flavor, trusted, f"the model {uri}")


def trust(flavor: Mapping[str, Any], trusted: Sequence[str], what: str) -> None:
    """See the same by what MLmodel says of the flavor sklearn.

    Raises:
        Problem: it was stored otherwise, or asks for more.
    """
    if flavor.get("serialization_format") != "skops":
        raise Problem(f"{what} was not stored with skops: it is not loaded")
    if strange := set(flavor.get("skops_trusted_types") or ()) - set(trusted):
        raise Problem(f"{what} asks for types that training.yaml does not trust: {', '.join(sorted(strange))}")


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
    """Return the version that an alias names, or None if there is none."""
    return _version_if_there(
        client, model, lambda: client.get_model_version_by_alias(model, alias), f"the {alias} of {model}"
    )


def find(client: MlflowClient, model: str, number: str) -> Version | None:
    """Return a version by its number, or None if it is not there any more."""
    return _version_if_there(
        client, model, lambda: client.get_model_version(model, number), f"version {number} of {model}"
    )


def registered(client: MlflowClient, model: str) -> RegisteredModel | None:
    """Return the registered model, with its tags and aliases, or None if no version of it was ever registered."""
    return if_there(lambda: client.get_registered_model(model), f"of the model {model}")


def identity(client: MlflowClient, model: str) -> str | None:
    """Return what tells one registry's model from another's of the same name, however the registry is reached."""
    found = registered(client, model)
    return identity_of(found) if found else None


def identity_of(found: RegisteredModel) -> str:
    """Return the same of a registered model that was asked for already."""
    return f"{found.name}@{found.creation_timestamp}"


def made_from(client: MlflowClient, model: str, run_id: str) -> Version | None:
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
    tags = {key: clipped(value) for key, value in tags.items()}
    version = made_from(client, model, run_id)
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


def conclude(client: MlflowClient, run_id: str, outcome: str) -> None:
    """Write down how far a run got, unless somebody has deleted it: that must not stop a rollback."""
    if_there(lambda: client.set_tag(run_id, OUTCOME, outcome), f"MLflow run {run_id}")


def reopen(client: MlflowClient, run_id: str) -> None:
    """Forget how far a run got, because it goes on: until it is concluded again, it counts as interrupted."""
    if OUTCOME in client.get_run(run_id).data.tags:
        client.delete_tag(run_id, OUTCOME)


def clipped(text: str, length: int = TAG_LENGTH) -> str:
    """Shorten a text to what a tag holds."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def if_there(call: Callable[[], Found], what: str) -> Found | None:
    """Call MLflow about something; return None if there is no such thing.

    Raises:
        Problem: MLflow does not answer; that is not the same as there being no champion.
    """
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, RESOURCE_DOES_NOT_EXIST, ErrorCode

    absent = {ErrorCode.Name(RESOURCE_DOES_NOT_EXIST), ErrorCode.Name(INVALID_PARAMETER_VALUE)}
    try:
        return call()
    except MlflowException as error:
        if error.error_code in absent:
            return None
        raise Problem(f"the registry does not tell {what}: {error.message.splitlines()[0]}") from error


def _version_if_there(client: MlflowClient, model: str, call: Callable[[], Any], what: str) -> Version | None:
    """Return a version of a model, or None if there is none.

    A server with passwords does not say that there is no such model but forbids to ask for versions of it, so then the
    model itself is asked for.
    """
    try:
        found = if_there(call, what)
    except Problem as problem:
        denied = getattr(problem.__cause__, "error_code", None) == "PERMISSION_DENIED"
        if denied and registered(client, model) is None:
            return None
        raise
    return _version(found) if found else None


def _version(found: Any) -> Version:  # noqa: ANN401 - two classes of MLflow's with these attributes
    return Version(found.name, str(found.version), found.run_id or "", dict(found.tags))
