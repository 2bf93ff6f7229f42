"""The results of stages and builds, and the errors that lead to them."""

from __future__ import annotations

import enum

from jenkinsfile.errors import PipelineError


class Result(enum.IntEnum):
    """Jenkins' results, from best to worst. The result of a build can only get worse."""

    SUCCESS = 0
    UNSTABLE = 1
    FAILURE = 2
    NOT_BUILT = 3
    ABORTED = 4

    @property
    def exit_code(self) -> int:
        """The exit code of a local run. The code of a signal takes precedence."""
        return {Result.SUCCESS: 0, Result.UNSTABLE: 0, Result.ABORTED: 130}.get(self, 1)


class StepError(PipelineError):
    """A step failed. Its stage and its build become FAILURE unless a step around it catches the error."""


class InterruptedRunError(PipelineError):
    """A timeout, a signal, a rejected input or the failure of a parallel stage interrupted the execution.

    `affects_result` is False for failFast: the build is not ABORTED, because the failed stage has set its result.
    """

    def __init__(self, reason: str, *, affects_result: bool = True) -> None:
        super().__init__(reason)
        self.affects_result = affects_result
