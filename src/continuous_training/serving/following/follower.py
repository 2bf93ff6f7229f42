"""Following the champion: a thread that reads the registry and downloads what the workers shall answer with.

There is one for all workers of a server, in the process that supervises them: a worker neither waits for the registry
nor for MLflow to be imported.
"""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from continuous_training.errors import UserError
from continuous_training.registry import model_versions
from continuous_training.serving import exposure
from continuous_training.serving.following.assignment import Copy, Wanted

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mlflow import MlflowClient
    from mlflow.entities.model_registry import RegisteredModel

    from continuous_training.serving.following.cache import Cache

log = logging.getLogger(__name__)

EVERY_SECONDS = 1.0
PATIENCE_SECONDS = 10.0  # the longest pause between two tries at a registry that fails
SILENCE_SECONDS = 10.0  # of a registry at the start, after which what served last serves again


class Follower:
    """Keeps `wanted` at the registry's champion; while the registry is away, what was wanted goes on being wanted."""

    def __init__(self, connect: Callable[[], MlflowClient], model: str, cache: Cache, folder: Path) -> None:
        """Prepare to follow.

        Args:
            connect: opens the registry.
            model: the registered model.
            cache: has the copies.
            folder: where the workers are told.
        """
        self.wanted = Wanted()
        self._connect = connect
        self._model = model
        self._cache = cache
        self._folder = folder
        self._client: MlflowClient | None = None
        self._told: Wanted | None = None
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="follower", daemon=True)
        self._silence = threading.Timer(SILENCE_SECONDS, self._fail, ["the registry has not answered yet"])
        self._silence.daemon = True

    def start(self) -> None:
        """Begin to follow, in the background."""
        self._silence.start()
        self._thread.start()

    def stop(self) -> None:
        """Stop following; waits for a step under way."""
        self._silence.cancel()
        self._stop.set()
        self._thread.join(timeout=PATIENCE_SECONDS)

    def step(self) -> None:
        """Look at the registry once, and tell the workers what they shall answer with.

        Raises:
            UserError: the registry does not tell, or a version cannot be had.
        """
        self._client = self._client or self._connect()
        found = model_versions.registered_model(self._client, self._model)
        self._silence.cancel()
        identity = model_versions.identity_of(found) if found else None
        if (
            found is None or model_versions.CHAMPION not in found.aliases
        ):  # on purpose: a silent registry is a UserError
            self._tell(Wanted(registry=identity))
            return
        known = self.wanted
        champion = self._copy(found, str(found.aliases[model_versions.CHAMPION]), known.champion)
        if champion != known.champion:  # before anything is read that could be wrong beside it
            self._tell(Wanted(registry=identity, champion=champion))
        self._cache.fetch(champion)  # each time: a worker that cannot load a copy removes it
        shown, beside = exposure.read(found.tags), None
        if shown is not None and shown.version != champion.number:
            beside = self._copy(found, shown.version, known.beside)
        self._tell(Wanted(registry=identity, champion=champion, beside=beside, exposure=shown if beside else None))
        if beside is not None:
            self._cache.fetch(beside)

    def _copy(self, model: RegisteredModel, number: str, known: Copy | None) -> Copy:
        identity = model_versions.identity_of(model)
        if known is not None and (known.number, known.identity) == (number, identity):
            return known
        version = model_versions.by_number(self._client, self._model, number) if self._client else None
        if version is None:
            raise UserError(f"version {number} of {self._model} is not in the registry")
        return Copy(identity=identity, name=version.name, number=number, run_id=version.run_id)

    def _watch(self) -> None:
        pause = EVERY_SECONDS
        while not self._stop.is_set():
            try:
                self.step()
            except Exception as error:
                pause = min(2 * pause, PATIENCE_SECONDS)
                message = str(error).strip().partition("\n")[0] or type(error).__name__
                log.warning("Not followed, trying again in %.0f s: %s", pause, message)
                with suppress(OSError):  # the disk is full: that is in the log
                    self._fail(message)
            else:
                pause = EVERY_SECONDS
            self._stop.wait(pause)

    def _fail(self, why: str) -> None:
        self._tell(self.wanted.model_copy(update={"failure": why}))

    def _tell(self, wanted: Wanted) -> None:
        with self._lock:
            self.wanted = wanted
            if wanted != self._told:
                wanted.write(self._folder)
                self._told = wanted
