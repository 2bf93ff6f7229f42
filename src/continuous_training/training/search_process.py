"""A process that fits and scores the trials of a search, one after another."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from typing import TYPE_CHECKING, Any, Self

from continuous_training.errors import UserError
from continuous_training.fork_server import client
from continuous_training.versions import messages
from continuous_training.versions.process import environment

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PROGRAM = "continuous_training.training.search_worker"


class TrialError(UserError):
    """A trial failed. The others go on."""


class SearchProcess:
    """The process; use it as a context manager."""

    def __init__(self, model: str, folder: Path, at_once: int) -> None:
        """Start it.

        Args:
            model: the model package.
            folder: a snapshot's folder.
            at_once: how many of them share the processors.
        """
        threads = str(max(1, (os.cpu_count() or 1) // at_once))
        self._process = subprocess.Popen(
            client.command("-m", PROGRAM, model, str(folder)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={"OMP_NUM_THREADS": threads, **environment(None)},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    @property
    def is_alive(self) -> bool:
        """Whether it can take another trial."""
        return self._process.poll() is None

    def score(self, parameters: dict[str, Any], goes_on: Callable[[int, float], bool]) -> float | None:
        """Fit with these parameters; return the score on the newest training rows, or None if the fit was stopped.

        Args:
            parameters: keyword arguments of `build`.
            goes_on: is called with the number of a step and its validation metric, and returns whether to go on.

        Raises:
            TrialError: the fit fails, or the process dies.
            UserError: the process is terminated, as by the shutdown of its machine: the trial has not failed.
        """
        self._send({"parameters": parameters})
        while True:
            message = messages.receive(self._process.stdout)  # type: ignore[arg-type]
            if message is None:
                code = self._process.wait()
                if code == -signal.SIGTERM:
                    raise UserError("the search was ended by signal 15 (SIGTERM); the next run continues it")
                raise TrialError(f"its process died ({f'signal {-code}' if code < 0 else f'exit code {code}'})")
            response = message[0]
            if "error" in response:
                raise TrialError(response["error"])
            if "step" not in response:
                return response.get("score")
            self._send({"continue": goes_on(response["step"], response["value"])})

    def _send(self, header: dict[str, Any]) -> None:
        with contextlib.suppress(BrokenPipeError):  # the reason follows
            messages.send(self._process.stdin, header)  # type: ignore[arg-type]
