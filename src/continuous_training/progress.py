"""Progress bars on standard error, for long work that a person watches."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def bar(description: str, total: float | None = None) -> Iterator[Callable[[float], None]]:
    """Show a bar (a pulse, if the total is unknown) and yield the function that advances it.

    Nothing is shown when nobody watches: standard error is a terminal, or `ct run` says with CT_PROGRESS=1 that it
    passes on to one.
    """
    if not (sys.stderr.isatty() or os.environ.get("CT_PROGRESS") == "1"):
        yield lambda _: None
        return
    from rich.console import Console  # a fifth of a second that only watchers pay
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True, force_terminal=True), transient=True) as progress:
        task = progress.add_task(description, total=total)
        yield lambda amount: progress.advance(task, amount)
