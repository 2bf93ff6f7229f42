"""Exposure: a candidate beside the champion on the servers, for a share of the requests and until a set time.

A canary's answers go to the clients, a shadow's only to the predictions log. It is one tag of the registered model,
which the servers read with the champion's alias; it ends by itself, so that a deployment that is killed leaves none.
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
    """Which version stands beside the champion, as what, for which share of the requests, and until when."""

    version: str
    role: Literal["canary", "shadow"]
    share: float = Field(gt=0, le=1)
    until: AwareDatetime

    @property
    def over(self) -> bool:
        """Whether its time has passed."""
        return datetime.now(UTC) > self.until

    def begin(self, client: MlflowClient, model: str) -> None:
        """Have every server of the model take it up, in place of any other."""
        client.set_registered_model_tag(model, TAG, self.model_dump_json())


def end(client: MlflowClient, model: str) -> None:
    """Leave every server of the model with the champion alone."""
    client.delete_registered_model_tag(model, TAG)


def read(tags: Mapping[str, str]) -> Exposure | None:
    """Find the exposure among the tags of a registered model, if there is one whose time has not passed.

    Raises:
        UserError: somebody else has written that tag.
    """
    if TAG not in tags:
        return None
    try:
        found = Exposure.model_validate_json(tags[TAG])
    except ValidationError as error:
        raise UserError(
            f"remove the tag {TAG}, which tells of no canary and no shadow: {first_error(error)}"
        ) from error
    return None if found.over else found
