"""The follower: a thread that polls the registry, has versions opened, and writes the assignment for the workers.

There is one for all workers of a server, in the supervisor's process: a worker waits neither for the registry nor for
MLflow's import.
"""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from continuous_training.errors import UserError
from continuous_training.registry import model_versions
from continuous_training.serving.exposure import read_exposure
from continuous_training.serving.following.assignment import Assignment, VersionReference

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mlflow import MlflowClient
    from mlflow.entities.model_registry import RegisteredModel

    from continuous_training.serving.following.cache import VersionCache
    from continuous_training.serving.following.hosts import VersionHosts

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0
MAX_RETRY_SECONDS = 10.0  # the longest pause between two attempts while the registry fails
FIRST_RESPONSE_SECONDS = 10.0  # without a response of the registry for so long, the last version is served again


class Follower:
    """Keeps the assignment equal to the registry's champion; while the registry is unavailable, it stays as it is."""

    def __init__(
        self, connect: Callable[[], MlflowClient], model: str, cache: VersionCache, hosts: VersionHosts, folder: Path
    ) -> None:
        """Prepare to follow.

        Args:
            connect: opens the registry.
            model: the registered model.
            cache: stores the downloads.
            hosts: opens the versions.
            folder: where the workers read the assignment.
        """
        self.assignment = Assignment()
        self._connect = connect
        self._model = model
        self._cache = cache
        self._hosts = hosts
        self._champion: VersionReference | None = None
        self._previous: VersionReference | None = None  # the champion before
        self._folder = folder
        self._client: MlflowClient | None = None
        self._last_assignment: Assignment | None = None
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="follower", daemon=True)
        self._timeout = threading.Timer(FIRST_RESPONSE_SECONDS, self._fail, ["the registry has not responded yet"])
        self._timeout.daemon = True

    def start(self) -> None:
        """Start to follow, in the background."""
        self._timeout.start()
        self._thread.start()

    def stop(self) -> None:
        """Stop following, after the current poll."""
        self._timeout.cancel()
        self._stop.set()
        self._thread.join(timeout=MAX_RETRY_SECONDS)

    def poll(self) -> None:
        """Read the registry once and publish the assignment.

        Raises:
            UserError: the registry does not respond, or a version cannot be downloaded.
        """
        self._client = self._client or self._connect()
        model = model_versions.registered_model(self._client, self._model)
        self._timeout.cancel()
        identity = model_versions.identity_of(model) if model else None
        if model is None or model_versions.CHAMPION not in model.aliases:
            self._publish(Assignment(registry=identity))  # certain: a registry that does not respond is a UserError
            return
        champion = self._resolve(model, str(model.aliases[model_versions.CHAMPION]), self._champion)
        if champion != self._champion:
            if self._hosts.has(self._champion):
                self._previous = self._champion
            self._champion = champion
            # First of all: whatever else is wrong must not delay the champion
            self._publish(self._assign(identity, champion))
        self._open(champion)
        exposure, candidate = read_exposure(model.tags), None
        if exposure is not None and exposure.version != champion.number:
            candidate = self._resolve(model, exposure.version, self.assignment.candidate)
        assignment = self._assign(identity, champion)
        if candidate is not None:
            assignment = assignment.model_copy(update={"candidate": candidate, "exposure": exposure})
        self._publish(assignment)
        if candidate is not None:
            self._open(candidate)
        self._hosts.keep({version for version in (champion, candidate, self._previous) if version})

    def _open(self, version: VersionReference) -> None:
        """Download and open a version, unless it is open."""
        if not self._hosts.has(version):
            self._cache.download(version)
            self._hosts.open(version)

    def _assign(self, identity: str | None, champion: VersionReference) -> Assignment:
        """Assign the champion, or the version before it if the champion dies again and again."""
        failure, previous = self._hosts.why_unreliable(champion), self._previous
        if failure and previous and self._hosts.has(previous) and not self._hosts.why_unreliable(previous):
            failure = f"{failure}: version {previous.number} is served in its place"
            return Assignment(registry=identity, champion=previous, failure=failure)
        return Assignment(registry=identity, champion=champion, failure=failure)

    def _resolve(self, model: RegisteredModel, number: str, current: VersionReference | None) -> VersionReference:
        identity = model_versions.identity_of(model)
        if current is not None and (current.number, current.identity) == (number, identity):
            return current
        version = model_versions.by_number(self._client, self._model, number) if self._client else None
        if version is None:
            raise UserError(f"version {number} of {self._model} is not in the registry")
        return VersionReference(identity=identity, name=version.name, number=number, run_id=version.run_id)

    def _follow(self) -> None:
        pause = POLL_SECONDS
        while not self._stop.is_set():
            try:
                self.poll()
            except Exception as error:
                pause = min(2 * pause, MAX_RETRY_SECONDS)
                message = str(error).strip().partition("\n")[0] or type(error).__name__
                log.warning("Cannot follow the registry, next attempt in %.0f s: %s", pause, message)
                with suppress(OSError):  # the disk is full, which is in the log already
                    self._fail(message)
            else:
                pause = POLL_SECONDS
            self._stop.wait(pause)

    def _fail(self, message: str) -> None:
        self._publish(self.assignment.model_copy(update={"failure": message}))

    def _publish(self, assignment: Assignment) -> None:
        with self._lock:
            self.assignment = assignment
            if assignment != self._last_assignment:
                assignment.write(self._folder)
                self._last_assignment = assignment
