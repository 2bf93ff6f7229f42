"""What is wanted of a server's workers, as its follower read it in the registry: one file, which is always whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

from continuous_training.documents import Value, write_atomically
from continuous_training.serving.exposure import Exposure

if TYPE_CHECKING:
    from pathlib import Path

FILE = "wanted.json"


class Copy(Value):
    """A version of which this machine has a copy: of which registry's model, which number, from which MLflow run."""

    identity: str
    name: str
    number: str
    run_id: str

    @property
    def uri(self) -> str:
        """The address by which MLflow downloads it."""
        return f"models:/{self.name}/{self.number}"


class Wanted(Value):
    """Who shall answer, who shall stand beside, and what keeps the follower from knowing better.

    A copy is named before it has arrived: a worker that has the version in memory needs none.
    """

    registry: str | None = None
    champion: Copy | None = None
    beside: Copy | None = None
    exposure: Exposure | None = None
    failure: str | None = None

    def write(self, folder: Path) -> None:
        """Let the workers know."""
        write_atomically(folder / FILE, self.model_dump_json() + "\n")


def read(folder: Path) -> Wanted | None:
    """Return what is wanted, or None before the follower knows."""
    try:
        return Wanted.model_validate_json((folder / FILE).read_bytes())
    except FileNotFoundError:
        return None
