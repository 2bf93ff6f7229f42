"""The results of stages and builds, and how they combine."""

from __future__ import annotations

import enum

from jenkinsfile.errors import PipelineError


class Result(enum.IntEnum):
    """Jenkins' results, from the best to the worst: a build's result can only get worse."""

    SUCCESS = 0
    UNSTABLE = 1
    FAILURE = 2
    NOT_BUILT = 3
    ABORTED = 4

    @property
    def exit_code(self) -> int:
        """The exit code of a local run (a signal's own code comes before it)."""
        return {Result.SUCCESS: 0, Result.UNSTABLE: 0, Result.ABORTED: 130}.get(self, 1)


class StepError(PipelineError):
    """A step failed: its stage and its build become FAILURE, unless something around the step catches it."""


class InterruptedRunError(PipelineError):
    """A timeout, a signal, a refused input or a failed neighbour ended what was running.

    `counts` tells whether the build is ABORTED by it: a failed neighbour (failFast) has said its own result already.
    """

    def __init__(self, reason: str, *, counts: bool = True) -> None:
        super().__init__(reason)
        self.counts = counts
