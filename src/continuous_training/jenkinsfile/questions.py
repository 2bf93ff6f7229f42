"""The `input` of a stage: a question to whoever sits at the terminal."""

from __future__ import annotations

import os
import select
import sys
from typing import TYPE_CHECKING

from continuous_training.jenkinsfile.interruption import POLL
from continuous_training.jenkinsfile.results import Interrupted
from continuous_training.jenkinsfile.steps import evaluate
from continuous_training.jenkinsfile.values import text

if TYPE_CHECKING:
    from continuous_training.jenkinsfile.context import Context
    from continuous_training.jenkinsfile.model import Input

YES = frozenset({"y", "yes"})


def ask(context: Context, question: Input) -> None:
    """Ask and wait. Interrupted: the answer is no, or nobody is there to give one."""
    settings = {call.name: text(evaluate(context, call.arguments[0].value)) for call in question.settings}
    message, ok = settings.get("message", "Proceed?"), settings.get("ok", "Proceed")
    if not sys.stdin.isatty():
        raise Interrupted(f"«{message}» waits for an answer, and nobody is at the terminal")
    context.say(f"{message}  [{ok}: y, Abort: n]", "bold")
    if _answer(context).strip().lower() not in {*YES, ok.lower()}:
        raise Interrupted(f"«{message}» was answered with no")


def _answer(context: Context) -> str:
    while True:
        context.interruption.check()
        ready, _, _ = select.select([sys.stdin], [], [], POLL)
        if ready:
            return os.read(sys.stdin.fileno(), 1024).decode(errors="replace")
