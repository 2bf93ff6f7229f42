"""Following the champion: a thread that loads each new version beside the old one, tries it, and then swaps them."""

from __future__ import annotations

import json
import logging
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import mlflow.pyfunc
import numpy as np
from mlflow.pyfunc.scoring_server import invocations

from continuous_training import golden, registry
from continuous_training.problem import Problem
from continuous_training.serving.cache import Cache

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow import MlflowClient
    from mlflow.pyfunc import PyFuncModel

    from continuous_training.registry import Version

log = logging.getLogger(__name__)

EVERY_SECONDS = 1.0
PATIENCE_SECONDS = 10.0  # the longest pause between two tries at a registry or a version that fails


@dataclass(frozen=True)
class Served:
    """A version in memory, ready to answer; `registry` tells it from another registry's version of the same number."""

    version: Version
    model: PyFuncModel
    registry: str


class Follower:
    """Keeps `served` at the registry's champion; whatever fails, the version that serves goes on serving.

    `served` is replaced as a whole, so a request that took it keeps one version from its first line to its last. The
    version before stays in memory, so that a rollback is a swap. A server that finds no registry when it starts serves
    what it served last.
    """

    def __init__(self, connect: Callable[[], MlflowClient], model: str, trusted: tuple[str, ...]) -> None:
        self.model = model
        self.trusted = trusted
        self.served: Served | None = None
        self.registry: str | None = None
        self.failure: str | None = None
        self._connect = connect
        self._client: MlflowClient | None = None
        self._cache = Cache(model)
        self._before: Served | None = None
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
        """Look at the registry once, and load and swap in its champion if that is a new one.

        Raises:
            Problem: the registry does not tell, or the version is none that may serve.
        """
        self._client = self._client or self._connect()
        identity = registry.identity(self._client, self.model)
        champion = registry.holder(self._client, self.model, registry.CHAMPION)
        self.registry = identity
        if (
            champion is None or identity is None
        ):  # taken away on purpose: a registry that is silent is a Problem instead
            self.served = None
            return
        if _is(self.served, champion, identity):
            return
        found = self._before if _is(self._before, champion, identity) else None
        try:
            found = found or self._load(champion, identity)
        except Exception:
            self._cache.forget(identity, champion)  # whatever is wrong may be wrong with the copy
            raise
        self._before, self.served = self.served, found
        self._cache.remember(identity, champion)
        log.info("Version %s of %s serves", champion.number, champion.name)

    def _load(self, version: Version, identity: str) -> Served:
        """Load a version and let it answer its golden rows, which warms it too.

        Raises:
            Problem: it is not to be trusted, cannot be loaded, or answers otherwise than offline.
        """
        folder = self._cache.fetch(identity, version)
        registry.examine(str(folder), self.trusted)
        model = mlflow.pyfunc.load_model(str(folder))
        _try_out(version, model, *self._cache.golden(identity, version))
        return Served(version, model, identity)

    def _watch(self) -> None:
        pause = EVERY_SECONDS
        while not self._stop.is_set():
            try:
                self.step()
            except Exception as error:
                pause = min(2 * pause, PATIENCE_SECONDS)
                self.failure = str(error).strip().splitlines()[0]
                log.warning("Not followed, trying again in %.0f s: %s", pause, self.failure)
                self._restore()
            else:
                pause, self.failure = EVERY_SECONDS, None
            self._stop.wait(pause)

    def _restore(self) -> None:
        """Serve what served last, if the registry was never reached."""
        if self.registry is not None or self.served or not (good := self._cache.last()):
            return
        try:
            self.served = self._load(good.version, good.identity)
        except Exception as error:
            log.warning("Version %s, which served last, does not any more: %s", good.number, error)
            return
        log.info("Version %s of %s, which served last, serves until its registry answers", good.number, good.name)


def _try_out(version: Version, model: PyFuncModel, rows: dict[str, Any], expected: list[Any]) -> None:
    """Have the golden rows answered, on the way that requests take; this warms the model too.

    Raises:
        Problem: it answers otherwise than offline.
    """
    asked = json.dumps({"dataframe_split": rows})
    schema = model.metadata.get_input_schema()  # type: ignore[no-untyped-call]
    made = invocations(asked, "application/json", model, schema)  # type: ignore[no-untyped-call]
    answers = np.asarray(json.loads(made.response)["predictions"])
    if answers.shape != np.shape(expected) or not np.allclose(answers, expected, rtol=0, atol=golden.TOLERANCE):
        raise Problem(f"version {version.number} of {version.name} answers otherwise than offline: it does not serve")


def _is(served: Served | None, version: Version, identity: str) -> bool:
    return served is not None and (served.version.number, served.registry) == (version.number, identity)
