"""`input`, as a step and as a section of a stage: a question to whoever sits at the terminal."""

from __future__ import annotations

import getpass
import os
import select
import sys
import termios
from typing import TYPE_CHECKING

from jenkinsfile.builds.interruption import POLL
from jenkinsfile.builds.results import InterruptedRunError

if TYPE_CHECKING:
    from jenkinsfile.builds.context import Body, Context
    from jenkinsfile.steps.arguments import Given

YES = frozenset({"y", "yes"})


def ask(context: Context, given: Given, _body: Body) -> str | None:
    """Ask and wait; gives the name of who approved if `submitterParameter` asks for it, as Jenkins does.

    `submitter` restricts nobody here: whoever sits at this terminal could run the commands by hand as well.
    InterruptedRunError: the answer is no, or nobody is there to give one.
    """
    message, ok = given.text("message", "Proceed?").strip("\n"), given.text("ok", "Proceed")
    subject = message.partition("\n")[0]
    context.say(message)
    if not sys.stdin.isatty():
        raise InterruptedRunError(f"«{subject}» waits for an answer, and nobody is at the terminal")
    termios.tcflush(sys.stdin, termios.TCIFLUSH)  # keys that were pressed before the question do not answer it
    context.say(f"[{ok}: y, Abort: n]", "bold")
    if _answer(context).strip().lower() not in {*YES, ok.lower()}:
        raise InterruptedRunError(f"«{subject}» was answered with no")
    who = person()
    context.say(f"Approved by {who}")
    return who if given.text("submitterParameter", "") else None


def _answer(context: Context) -> str:
    while True:
        context.interruption.check()
        ready, _, _ = select.select([sys.stdin], [], [], POLL)
        if ready:
            return os.read(sys.stdin.fileno(), 1024).decode(errors="replace")


def person() -> str:
    """Name who runs this."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return str(os.getuid())
