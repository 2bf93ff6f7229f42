"""The assignment: the versions that a server's workers should have, as its follower read them from the registry.

It is one file, which is replaced atomically.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from continuous_training.documents import Value, write_atomically
from continuous_training.serving.exposure import Exposure

if TYPE_CHECKING:
    from pathlib import Path

FILE = "assignment.json"


class VersionReference(Value):
    """A version: the registered model's identity and name, the number, and the MLflow run that made it."""

    identity: str
    name: str
    number: str
    run_id: str

    @property
    def title(self) -> str:
        """What messages call it."""
        return f"version {self.number} of {self.name}"

    @property
    def uri(self) -> str:
        """The URI from which MLflow downloads it."""
        return f"models:/{self.name}/{self.number}"


class Assignment(Value):
    """The champion, an exposed candidate if there is one, and the follower's current failure.

    A version is assigned before it is downloaded and open: a worker that has it already switches at once.
    """

    registry: str | None = None
    champion: VersionReference | None = None
    candidate: VersionReference | None = None
    exposure: Exposure | None = None
    failure: str | None = None

    def write(self, folder: Path) -> None:
        """Write it for the workers."""
        write_atomically(folder / FILE, self.model_dump_json() + "\n")


def read_assignment(folder: Path) -> Assignment | None:
    """Read the assignment, or return None before the follower has written the first one."""
    try:
        return Assignment.model_validate_json((folder / FILE).read_bytes())
    except FileNotFoundError:
        return None
