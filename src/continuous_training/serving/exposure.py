"""Exposure: a candidate gets a share of the servers' requests beside the champion, until a set time.

A canary's predictions go to the clients, a shadow's only to the predictions log. The exposure is a tag of the
registered model, which servers read together with the champion's alias. It expires, so that a deployment that is killed
leaves none behind.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from pydantic import AwareDatetime, Field, ValidationError

from continuous_training.documents import Value, first_error
from continuous_training.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlflow import MlflowClient

TAG = "ct.exposure"


class Exposure(Value):
    """Which version is exposed, in which role, to which share of the requests, and until when."""

    version: str
    role: Literal["canary", "shadow"]
    share: float = Field(gt=0, le=1)
    until: AwareDatetime

    @property
    def expired(self) -> bool:
        """Whether its time has passed."""
        return datetime.now(UTC) > self.until

    def publish(self, client: MlflowClient, model: str) -> None:
        """Set it on a registered model, in place of any other; the model's servers read it within a second."""
        client.set_registered_model_tag(model, TAG, self.model_dump_json())


def end_exposure(client: MlflowClient, model: str) -> None:
    """Remove the exposure from a registered model: its servers use the champion alone."""
    client.delete_registered_model_tag(model, TAG)


def read_exposure(tags: Mapping[str, str]) -> Exposure | None:
    """Read the exposure from the tags of a registered model; None if there is none, or it has expired.

    Raises:
        UserError: the tag's value is not an exposure.
    """
    if TAG not in tags:
        return None
    try:
        exposure = Exposure.model_validate_json(tags[TAG])
    except ValidationError as error:
        raise UserError(f"the tag {TAG} is not a valid exposure: remove it ({first_error(error)})") from error
    return None if exposure.expired else exposure
