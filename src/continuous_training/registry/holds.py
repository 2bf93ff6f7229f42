"""The hold of a model: a tag of the registered model, with a JSON object. A hold that has ended counts as none."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from pydantic import ValidationError

from continuous_training.documents import Hold, first_error
from continuous_training.errors import UserError
from continuous_training.registry import model_versions

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)

TAG = "ct.hold"


class MalformedHoldError(UserError):
    """The tag is there, but it is not a hold."""


def find(client: MlflowClient, model: str) -> Hold | None:
    """Return the model's hold, if it has one that has not ended.

    Raises:
        MalformedHoldError: the tag is not a hold, so nobody knows whether the model may be promoted.
        UserError: the registry does not answer.
    """
    registered = model_versions.registered_model(client, model)
    text = registered.tags.get(TAG) if registered else None
    if text is None:
        return None
    try:
        hold = Hold.model_validate_json(text)
    except ValidationError as error:
        raise MalformedHoldError(
            f"the tag {TAG} of {model} is not a hold ({first_error(error)}): scripts/ct release removes it, "
            f"scripts/ct hold replaces it"
        ) from error
    return hold if hold.is_active else None


def find_if_readable(client: MlflowClient, model: str) -> Hold | None:
    """Return the model's hold; a tag that is not a hold counts as none, and the log says so."""
    try:
        return find(client, model)
    except MalformedHoldError as error:
        log.warning("%s", error)
        return None


def write(client: MlflowClient, model: str, hold: Hold) -> None:
    """Put a model on hold; the hold replaces any other."""
    client.set_registered_model_tag(model, TAG, hold.model_dump_json())


def write_if_none(client: MlflowClient, model: str, hold: Hold) -> None:
    """Put a model on hold unless it is; a tag that is not a hold is replaced."""
    if find_if_readable(client, model) is None:
        write(client, model, hold)


def remove(client: MlflowClient, model: str) -> None:
    """Remove the hold, or whatever the tag holds."""
    registered = model_versions.registered_model(client, model)
    if registered and TAG in registered.tags:
        client.delete_registered_model_tag(model, TAG)
