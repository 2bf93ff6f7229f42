"""Following the champion: a thread that loads each new version beside the old one and then swaps them."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import mlflow.pyfunc

from continuous_training import registry

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.pyfunc import PyFuncModel

    from continuous_training.registry import Version

log = logging.getLogger(__name__)

EVERY_SECONDS = 1.0
PATIENCE_SECONDS = 60.0  # the longest pause between two tries at a registry or a version that fails


@dataclass(frozen=True)
class Served:
    """A version in memory, ready to answer."""

    version: Version
    model: PyFuncModel


class Follower:
    """Keeps `served` at the registry's champion; whatever fails, the version that serves goes on serving.

    `served` is replaced as a whole, so a request that took it keeps one version from its first line to its last.
    """

    def __init__(self, client: MlflowClient, model: str, trusted: tuple[str, ...]) -> None:
        self.model = model
        self.trusted = trusted
        self.served: Served | None = None
        self.registry: str | None = None
        self.failure: str | None = None
        self._client = client
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="follower", daemon=True)

    def start(self) -> None:
        """Begin to follow, in the background."""
        self._thread.start()

    def stop(self) -> None:
        """Stop following; waits for a step under way."""
        self._stop.set()
        self._thread.join(timeout=PATIENCE_SECONDS)

    def step(self) -> None:
        """Look at the registry once, and load and swap in its champion if that is a new one."""
        self.registry = registry.identity(self._client, self.model)
        champion = registry.holder(self._client, self.model, registry.CHAMPION)
        if champion is None:  # it was taken away on purpose: a registry that does not answer is a Problem instead
            self.served = None
            return
        if self.served and self.served.version.number == champion.number:
            return
        registry.examine(champion.uri, self.trusted)
        self.served = Served(champion, mlflow.pyfunc.load_model(champion.uri))
        log.info("Version %s of %s serves", champion.number, champion.name)

    def _watch(self) -> None:
        pause = EVERY_SECONDS
        while not self._stop.is_set():
            try:
                self.step()
            except Exception as error:
                pause = min(2 * pause, PATIENCE_SECONDS)
                self.failure = str(error).strip().splitlines()[0]
                log.warning("Not followed, trying again in %.0f s: %s", pause, self.failure)
            else:
                pause, self.failure = EVERY_SECONDS, None
            self._stop.wait(pause)
