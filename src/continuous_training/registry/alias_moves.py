"""The two moves of a model's aliases: a version becomes champion, or is taken back.

Each is written down before it is made, and can be settled by whoever finds it: made whole, or as if it had never been.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from continuous_training.documents import Value
from continuous_training.registry import model_versions, runs

if TYPE_CHECKING:
    from mlflow import MlflowClient


@dataclass(frozen=True)
class Aliases:
    """The versions that a model's aliases name; None where there is no such alias."""

    model: str
    champion: str | None
    previous: str | None


class Promotion(Value):
    """A version on its way to champion, and both aliases as they were before: it is undone unless it is proven."""

    version: str
    run_id: str
    champion: str | None
    previous: str | None
    proven: bool = False

    @property
    def kept(self) -> str | None:
        """The version that is `previous` once the move is made."""
        return self.previous if self.champion == self.version else self.champion

    def make(self, client: MlflowClient, model: str) -> None:
        """Move the aliases, the champion's last; a version that is champion already keeps them."""
        if self.champion == self.version:
            return
        if self.champion is not None:
            client.set_registered_model_alias(model, model_versions.PREVIOUS, self.champion)
            client.set_model_version_tag(model, self.version, model_versions.REPLACED, self.champion)
        client.set_registered_model_alias(model, model_versions.CHAMPION, self.version)

    def settle(self, client: MlflowClient, now: Aliases) -> str | None:
        """Keep the version if it is proven, else put back what was moved and say so; what a person moved stays."""
        if self.proven:
            runs.set_outcome(client, self.run_id, runs.DEPLOYED)
            version = model_versions.by_number(client, now.model, self.version)
            if version and version.rolled_back is not None:
                client.delete_model_version_tag(now.model, self.version, model_versions.ROLLED_BACK_BECAUSE)
            return None
        if self.champion == self.version:
            return None
        moved = now.champion == self.version
        if moved:
            _point(client, now.model, model_versions.CHAMPION, self.champion)
        if self.champion is not None and now.previous == self.champion:
            _point(client, now.model, model_versions.PREVIOUS, self.previous)
        if not moved:
            return None
        return f"version {self.champion} is champion again" if self.champion else "there is no champion again"


class Withdrawal(Value):
    """A version that is rolled back, and both aliases as they will be after: it is always finished."""

    version: str
    run_id: str
    reason: str
    champion: str
    previous: str | None

    def settle(self, client: MlflowClient, now: Aliases) -> str:
        """Say on the version why it is rolled back, and give the place that it holds to the one before it."""
        runs.set_outcome(client, self.run_id, runs.ROLLED_BACK)
        if model_versions.by_number(client, now.model, self.version):
            client.set_model_version_tag(now.model, self.version, model_versions.ROLLED_BACK_BECAUSE, self.reason)
        if now.champion == self.version:
            _point(client, now.model, model_versions.CHAMPION, self.champion)
        if now.previous in {self.version, self.champion}:
            _point(client, now.model, model_versions.PREVIOUS, self.previous)
        return f"version {self.version} is rolled back"


def _point(client: MlflowClient, model: str, alias: str, number: str | None) -> None:
    """Let an alias name a version, or none if there is no such version any more."""
    if number is None or model_versions.by_number(client, model, number) is None:
        client.delete_registered_model_alias(model, alias)
    else:
        client.set_registered_model_alias(model, alias, number)
