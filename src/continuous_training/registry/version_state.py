"""State that a program keeps between two runs, as JSON in a tag of a model version: there is no other database."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self

from pydantic import ValidationError

from continuous_training.documents import Value

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from continuous_training.registry.model_versions import Version


class VersionState(Value):
    """The state; `tag` is the name of the tag."""

    tag: ClassVar[str]

    @classmethod
    def of(cls, version: Version) -> Self:
        """Read the state from the version's tags; a malformed one counts as empty."""
        try:
            return cls.model_validate_json(version.tags.get(cls.tag, "{}"))
        except ValidationError:
            return cls()

    def write(self, client: MlflowClient, version: Version) -> None:
        """Write the state to the version."""
        text = self.model_dump_json(exclude_none=True)
        client.set_model_version_tag(version.name, version.number, self.tag, text)
