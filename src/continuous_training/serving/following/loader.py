"""The versions in a worker's memory: each assigned version is loaded and checked first, and then swapped in."""

from __future__ import annotations

import logging
import math
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from continuous_training.serving.following.assignment import Assignment, read_assignment
from continuous_training.serving.following.hosted_version import SOCKET, HostedVersion, host_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from continuous_training.serving.exposure import Exposure
    from continuous_training.serving.following.assignment import VersionReference
    from continuous_training.serving.following.cache import VersionCache

log = logging.getLogger(__name__)

POLL_SECONDS = 0.1
MAX_RETRY_SECONDS = 10.0  # the longest pause between two attempts to load a version


@dataclass(frozen=True, slots=True)
class ExposedVersion:
    """A candidate in memory, and its exposure."""

    version: HostedVersion
    exposure: Exposure


class VersionLoader:
    """Keeps `champion` and `candidate` as assigned; if anything fails, the current champion stays.

    `champion` is replaced in one assignment, so a request that has read it uses one version from start to end. The
    version before stays in memory until the next one arrives, so that a rollback is a swap.
    """

    def __init__(
        self,
        folder: Path,
        cache: VersionCache,
        keys: Sequence[str],
        on_change: Callable[[dict[str, Any]], None],
    ) -> None:
        """Create a loader without any version.

        Args:
            folder: where the follower writes the assignment, and where the hosts of versions are.
            cache: the downloads.
            keys: the key columns that requests may have beside the model's columns.
            on_change: is called with this worker's status when it changes, from the loader's thread.
        """
        self.champion: HostedVersion | None = None
        self.candidate: ExposedVersion | None = None
        self.initialized = threading.Event()  # the first assignment is loaded, or cannot be
        self._folder = folder
        self._cache = cache
        self._keys = keys
        self._on_change = on_change
        self._last_status: dict[str, Any] | None = None
        self._assignment = Assignment()
        self._failure: str | None = None
        self._pause, self._next_attempt = POLL_SECONDS, 0.0
        self._previous: HostedVersion | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="loader", daemon=True)

    def start(self) -> None:
        """Start to load what is assigned, in the background."""
        self._thread.start()

    def stop(self) -> None:
        """Stop, after a version that is being loaded, and release the versions' processes."""
        self._stop.set()
        self._thread.join(timeout=MAX_RETRY_SECONDS)
        self.champion = self.candidate = self._previous = None

    def status(self) -> dict[str, Any]:
        """Return the champion in memory, the exposed candidate, and what keeps this worker from its assignment."""
        champion, candidate = self.champion, self.candidate
        return {
            "model_version": champion.number if champion else None,
            "run_id": champion.reference.run_id if champion else None,
            "registry": self._assignment.registry,
            "beside": {"version": candidate.version.number, "role": candidate.exposure.role} if candidate else None,
            "failure": self._failure or self._assignment.failure,
        }

    def _run(self) -> None:
        while not self._stop.wait(POLL_SECONDS):
            try:
                assignment = read_assignment(self._folder)
                if assignment is not None and (
                    assignment != self._assignment or time.monotonic() >= self._next_attempt
                ):
                    self._follow(assignment)
                self._publish_status()
            except OSError as error:  # a full disk, which must not end this thread
                log.warning("Cannot write this worker's status: %s", error)

    def _follow(self, assignment: Assignment) -> None:
        """Try to load what is assigned; after a failure, retry with growing pauses."""
        versions = (self._assignment.champion, self._assignment.candidate)
        if (assignment.champion, assignment.candidate) != versions:
            self._pause, self._failure = POLL_SECONDS, None
        self._assignment, self._next_attempt, complete = assignment, 0.0, False
        try:
            complete = self._load_assignment(assignment)
        except Exception as error:
            self._pause = min(2 * self._pause, MAX_RETRY_SECONDS)
            self._next_attempt = time.monotonic() + self._pause
            self._failure = str(error).strip().partition("\n")[0] or type(error).__name__
            log.warning("Cannot load the assigned version, next attempt in %.1f s: %s", self._pause, self._failure)
        if complete:
            self._pause, self._next_attempt, self._failure = POLL_SECONDS, math.inf, None
        if self.champion is None and (assignment.failure or self._failure):
            self._load_last_version()
        if self.champion is not None or complete:
            self.initialized.set()

    def _load_assignment(self, assignment: Assignment) -> bool:
        """Swap in what is assigned; return whether it is complete, or a download is still missing."""
        if assignment.champion is None:
            if assignment.failure is None:
                self.champion = self.candidate = None
            return True
        if self.champion is None or self.champion.reference != assignment.champion:
            champion = self._load(assignment.champion)
            if champion is None:
                return False
            self._previous, self.champion = self.champion, champion
            number = champion.number
            log.info("Serving version %s of %s", number, assignment.champion.name, extra={"model_version": number})
        if assignment.candidate is None or assignment.exposure is None:
            self.candidate = None
        elif self.candidate is None or self.candidate.exposure != assignment.exposure:
            candidate = self._load(assignment.candidate)
            if candidate is None:
                return False
            self.candidate = ExposedVersion(candidate, assignment.exposure)
            role, share = assignment.exposure.role, assignment.exposure.share
            log.info("Version %s is %s for a share %g of the requests", candidate.number, role, share)
        if self._cache.read_last_version() != assignment.champion:  # the last step, because a full disk prevents it
            self._cache.record_last_version(assignment.champion)
        return True

    def _load_last_version(self) -> None:
        """Serve the version that was served last, while the assignment is unknown or cannot be loaded."""
        last = self._cache.read_last_version()
        if last is None:
            return
        try:
            self.champion = self._load(last)
        except Exception as error:
            log.warning("Cannot load version %s, which was served last: %s", last.number, error)
            return
        if self.champion is not None:
            log.info("Serving version %s, which was served last", last.number)

    def _load(self, reference: VersionReference) -> HostedVersion | None:
        """Return a version that this worker has, or connect to its host; None if it has no host yet.

        Raises:
            UserError: its host has died, or it predicts other values than offline.
        """
        versions = (self.champion, self._previous, self.candidate.version if self.candidate else None)
        if match := next(
            (version for version in versions if version is not None and version.reference == reference), None
        ):
            return match
        folder = host_folder(self._folder, reference)
        if not (folder / SOCKET).exists():
            return None
        version = HostedVersion(reference, folder, self._keys)
        version.check_golden_predictions()
        return version

    def _publish_status(self) -> None:
        status = self.status()
        if status != self._last_status:
            self._on_change(status)
            self._last_status = status
