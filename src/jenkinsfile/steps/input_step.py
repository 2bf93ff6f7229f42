"""`input`, as a step and as a section of a stage: waits for approval by the user at the terminal."""

from __future__ import annotations

import getpass
import os
import select
import sys
import termios
from typing import TYPE_CHECKING

from jenkinsfile.builds.interruption import POLL_INTERVAL
from jenkinsfile.builds.results import InterruptedRunError

if TYPE_CHECKING:
    from jenkinsfile.builds.context import Body, Context
    from jenkinsfile.steps.arguments import StepArguments

YES = frozenset({"y", "yes"})


def wait_for_input(context: Context, arguments: StepArguments, _body: Body) -> str | None:
    """Wait for approval. With `submitterParameter` return the name of the user who approved, as Jenkins does.

    `submitter` is not checked: the user at this terminal could also run the commands without the pipeline. Raises
    InterruptedRunError if the user rejects, or if there is no terminal.
    """
    message, ok = arguments.text("message", "Proceed?").strip("\n"), arguments.text("ok", "Proceed")
    subject = message.partition("\n")[0]
    context.log(message)
    if not sys.stdin.isatty():
        raise InterruptedRunError(f"'{subject}' needs an answer, and there is no terminal: run it from one")
    termios.tcflush(sys.stdin, termios.TCIFLUSH)  # discard keys that were pressed before the message
    context.log(f"[{ok}: y, Abort: n]", "bold")
    if _read_answer(context).strip().lower() not in {*YES, ok.lower()}:
        raise InterruptedRunError(f"'{subject}' was rejected")
    user = current_user()
    context.log(f"Approved by {user}")
    return user if arguments.text("submitterParameter", "") else None


def current_user() -> str:
    """Return the name of the user who runs this program."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return str(os.getuid())


def _read_answer(context: Context) -> str:
    while True:
        context.interruption.check()
        ready, _, _ = select.select([sys.stdin], [], [], POLL_INTERVAL)
        if ready:
            return os.read(sys.stdin.fileno(), 1024).decode(errors="replace")
