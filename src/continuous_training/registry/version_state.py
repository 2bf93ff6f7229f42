"""What a program remembers of a version from one look at it to the next, in a tag of it: there is no other database."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self

from pydantic import ValidationError

from continuous_training.documents import Value

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from continuous_training.registry.model_versions import Version


class Remembered(Value):
    """What is remembered; `tag` names where."""

    tag: ClassVar[str]

    @classmethod
    def of(cls, version: Version) -> Self:
        """Read it from the version's tags; what cannot be read is forgotten."""
        try:
            return cls.model_validate_json(version.tags.get(cls.tag, "{}"))
        except ValidationError:
            return cls()

    def write(self, client: MlflowClient, version: Version) -> None:
        """Write it to the version."""
        written = self.model_dump_json(exclude_none=True)
        client.set_model_version_tag(version.name, version.number, self.tag, written)
