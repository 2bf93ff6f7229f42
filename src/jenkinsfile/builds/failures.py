"""The errors that fail a stage, the results that they lead to, and their line on the console."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from jenkinsfile.builds.results import InterruptedRunError, Result, StepError
from jenkinsfile.expressions.values import EvaluationError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jenkinsfile.builds.context import Context

FAILURES = (StepError, EvaluationError, InterruptedRunError)


def failure_result(failure: Exception) -> Result:
    """Return the result that a failure leads to."""
    return Result.ABORTED if isinstance(failure, InterruptedRunError) else Result.FAILURE


@contextmanager
def log_failures(context: Context) -> Iterator[None]:
    """Log a failure of the block as soon as it occurs, and raise it again."""
    try:
        yield
    except FAILURES as failure:
        context.log(f"ERROR: {failure}", "red")
        raise
