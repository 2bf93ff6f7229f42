"""The versions in a worker's memory: each that is wanted is loaded beside the old one, tried, and then swapped in."""

from __future__ import annotations

import logging
import math
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from continuous_training.serving.following import assignment as wanted
from continuous_training.serving.following.assignment import Wanted
from continuous_training.serving.following.loaded_version import Served

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from continuous_training.serving.exposure import Exposure
    from continuous_training.serving.following.assignment import Copy
    from continuous_training.serving.following.cache import Cache

log = logging.getLogger(__name__)

EVERY_SECONDS = 0.1
PATIENCE_SECONDS = 10.0  # the longest pause between two tries at a version that fails


@dataclass(frozen=True, slots=True)
class Beside:
    """A candidate in memory beside the champion, and what it is there for."""

    served: Served
    exposure: Exposure


class Memory:
    """Keeps `served` and `beside` at what is wanted; whatever fails, the version that serves goes on serving.

    `served` is replaced as a whole, so a request that took it keeps one version from its first line to its last. The
    version before stays until the next one comes, so that a rollback is a swap.
    """

    def __init__(
        self,
        folder: Path,
        cache: Cache,
        trusted: Sequence[str],
        keys: Sequence[str],
        message: Callable[[dict[str, Any]], None],
    ) -> None:
        """Begin with nothing.

        Args:
            folder: where the follower says what is wanted.
            cache: has the copies.
            trusted: the types that skops may load.
            keys: columns that name a row, which requests may have beside the model's.
            message: told the status of this worker whenever it changes, from the loading thread.
        """
        self.served: Served | None = None
        self.beside: Beside | None = None
        self.settled = threading.Event()  # what was wanted first is there, or cannot be had
        self._folder = folder
        self._cache = cache
        self._trusted, self._keys = trusted, keys
        self._said = message
        self._status: dict[str, Any] | None = None
        self._wanted = Wanted()
        self._failure: str | None = None
        self._pause, self._again = EVERY_SECONDS, 0.0  # between tries, and when the next is due
        self._before: Served | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="memory", daemon=True)

    def start(self) -> None:
        """Begin to load what is wanted, in the background."""
        self._thread.start()

    def stop(self) -> None:
        """Stop; waits for a version that is being loaded."""
        self._stop.set()
        self._thread.join(timeout=PATIENCE_SECONDS)

    def status(self) -> dict[str, Any]:
        """Say which version answers, what stands beside it, and what keeps this worker from what is wanted."""
        served, beside = self.served, self.beside
        return {
            "model_version": served.number if served else None,
            "run_id": served.copy.run_id if served else None,
            "registry": self._wanted.registry,
            "beside": {"version": beside.served.number, "role": beside.exposure.role} if beside else None,
            "failure": self._failure or self._wanted.failure,
        }

    def _watch(self) -> None:
        while not self._stop.wait(EVERY_SECONDS):
            try:
                now = wanted.read(self._folder)
                if now is not None and (now != self._wanted or time.monotonic() >= self._again):
                    self._follow(now)
                self._tell()
            except OSError as error:  # a full disk, which must not end this thread
                log.warning("The other workers cannot be told: %s", error)

    def _follow(self, now: Wanted) -> None:
        """Try to get what is wanted; what fails is tried again, after longer and longer pauses."""
        if (now.champion, now.beside) != (self._wanted.champion, self._wanted.beside):
            self._pause, self._failure = EVERY_SECONDS, None
        self._wanted, self._again, done = now, 0.0, False
        try:
            done = self._take_up(now)
        except Exception as error:
            self._pause = min(2 * self._pause, PATIENCE_SECONDS)
            self._again = time.monotonic() + self._pause
            self._failure = str(error).strip().partition("\n")[0] or type(error).__name__
            log.warning("Not loaded, trying again in %.1f s: %s", self._pause, self._failure)
        if done:
            self._pause, self._again, self._failure = EVERY_SECONDS, math.inf, None
        if self.served is None and (now.failure or self._failure):
            self._restore()
        if self.served is not None or done:
            self.settled.set()

    def _take_up(self, now: Wanted) -> bool:
        """Swap in what is wanted; say whether it is all there, or a copy has not arrived yet."""
        if now.champion is None:
            if now.failure is None:
                self.served = self.beside = None
            return True
        if self.served is None or self.served.copy != now.champion:
            champion = self._load(now.champion)
            if champion is None:
                return False
            self._before, self.served = self.served, champion
            number = champion.number
            log.info("Version %s of %s serves", number, now.champion.name, extra={"model_version": number})
        if now.beside is None or now.exposure is None:
            self.beside = None
        elif self.beside is None or self.beside.exposure != now.exposure:
            candidate = self._load(now.beside)
            if candidate is None:
                return False
            self.beside = Beside(candidate, now.exposure)
            log.info(
                "Version %s is %s for %g of the requests", now.beside.number, now.exposure.role, now.exposure.share
            )
        if self._cache.last() != now.champion:  # last of all, as a full disk forbids it
            self._cache.remember(now.champion)
        return True

    def _restore(self) -> None:
        """Serve what served last, while what is wanted is not known or cannot be had."""
        last = self._cache.last()
        if last is None:
            return
        try:
            self.served = self._load(last)
        except Exception as error:
            log.warning("Version %s, which served last, does not any more: %s", last.number, error)
            return
        if self.served is not None:
            log.info("Version %s, which served last, serves again", last.number)

    def _load(self, copy: Copy) -> Served | None:
        """Take a version from memory, or load it and let it answer its golden rows; None if its copy is not here yet.

        One worker of a machine loads at a time; the others answer on at full speed.

        Raises:
            UserError: it is not to be trusted, cannot be loaded, or answers otherwise than offline.
        """
        there = (self.served, self._before, self.beside.served if self.beside else None)
        if found := next((one for one in there if one is not None and one.copy == copy), None):
            return found
        with self._cache.turn():
            folder = self._cache.place(copy)
            if not folder.exists():
                return None
            try:
                served = Served(folder / "model", copy, self._trusted, self._keys)
                served.try_out(*self._cache.golden(copy))
            except Exception:
                self._cache.forget(copy)  # whatever is wrong may be wrong with the copy
                raise
        return served

    def _tell(self) -> None:
        status = self.status()
        if status != self._status:
            self._said(status)
            self._status = status
