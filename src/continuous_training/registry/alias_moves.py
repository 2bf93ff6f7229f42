"""The two moves of a model's aliases: a version is promoted to champion, or rolled back.

Each move is written to the registry before it is made, so that any process can complete or revert it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pydantic import AliasChoices, Field

from continuous_training.documents import Hold, Value
from continuous_training.registry import holds, model_versions, runs

if TYPE_CHECKING:
    from mlflow import MlflowClient


@dataclass(frozen=True)
class Aliases:
    """The versions that a model's aliases name; None where the alias does not exist."""

    model: str
    champion: str | None
    previous: str | None


class Promotion(Value):
    """A version that is being promoted, and both aliases before the move. It is reverted unless it is confirmed."""

    version: str
    run_id: str
    champion: str | None
    previous: str | None
    confirmed: bool = Field(default=False, validation_alias=AliasChoices("confirmed", "confirmed"))

    @property
    def replaced_version(self) -> str | None:
        """The version that `previous` names after the move."""
        return self.previous if self.champion == self.version else self.champion

    def apply(self, client: MlflowClient, model: str) -> None:
        """Move the aliases, `champion` last. If the version is the champion already, do nothing."""
        if self.champion == self.version:
            return
        if self.champion is not None:
            client.set_registered_model_alias(model, model_versions.PREVIOUS, self.champion)
            client.set_model_version_tag(model, self.version, model_versions.REPLACED, self.champion)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        client.set_model_version_tag(model, self.version, model_versions.PROMOTED_AT, now)
        client.set_registered_model_alias(model, model_versions.CHAMPION, self.version)

    def resolve(self, client: MlflowClient, aliases: Aliases) -> str | None:
        """Complete a confirmed promotion; revert any other and return what was reverted.

        Aliases that a person has moved since stay as they are.
        """
        if self.confirmed:
            runs.set_outcome(client, self.run_id, runs.DEPLOYED)
            version = model_versions.by_number(client, aliases.model, self.version)
            if version and version.rollback_reason is not None:
                client.delete_model_version_tag(aliases.model, self.version, model_versions.ROLLED_BACK_BECAUSE)
            return None
        if self.champion == self.version:
            return None
        is_champion = aliases.champion == self.version
        if is_champion:
            _set_alias(client, aliases.model, model_versions.CHAMPION, self.champion)
        if self.champion is not None and aliases.previous == self.champion:
            _set_alias(client, aliases.model, model_versions.PREVIOUS, self.previous)
        if not is_champion:
            return None
        return f"version {self.champion} is champion again" if self.champion else "there is no champion again"


class Withdrawal(Value):
    """A version that is rolled back, both aliases after the move, and the hold that it ends with.

    It is always completed.
    """

    version: str
    run_id: str
    reason: str
    champion: str
    previous: str | None
    hold: Hold | None = None

    def resolve(self, client: MlflowClient, aliases: Aliases) -> str:
        """Put the model on hold, write the reason on the version, and give its alias to the version before it."""
        if self.hold:
            holds.write_if_none(client, aliases.model, self.hold)
        runs.set_outcome(client, self.run_id, runs.ROLLED_BACK)
        if model_versions.by_number(client, aliases.model, self.version):
            client.set_model_version_tag(aliases.model, self.version, model_versions.ROLLED_BACK_BECAUSE, self.reason)
        if aliases.champion == self.version:
            _set_alias(client, aliases.model, model_versions.CHAMPION, self.champion)
        if aliases.previous in {self.version, self.champion}:
            _set_alias(client, aliases.model, model_versions.PREVIOUS, self.previous)
        return f"version {self.version} is rolled back"


def set_champion(client: MlflowClient, model: str, number: str | None) -> None:
    """Make a version champion, or leave the model without one; a person does this where no rollback can.

    `previous` is removed, so that no rollback goes back to a version that is lost.
    """
    _set_alias(client, model, model_versions.PREVIOUS, None)
    _set_alias(client, model, model_versions.CHAMPION, number)


def _set_alias(client: MlflowClient, model: str, alias: str, number: str | None) -> None:
    """Point an alias at a version; delete the alias if that version no longer exists."""
    if number is None or model_versions.by_number(client, model, number) is None:
        client.delete_registered_model_alias(model, alias)
    else:
        client.set_registered_model_alias(model, alias, number)
