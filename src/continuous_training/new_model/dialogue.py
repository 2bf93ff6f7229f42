"""The prompts of `ct new` on a terminal. Without one it uses the guess, or reports the missing option."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

from continuous_training.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

log = logging.getLogger(__name__)

MAX_CHOICES = 12  # that a question or an error lists


class Dialogue:
    """Chooses values that no option has set."""

    def __init__(self, *, interactive: bool) -> None:
        self.interactive = interactive

    def choose(
        self,
        option: str,
        question: str,
        choices: Sequence[str],
        *,
        guess: str | None = None,
        reason: str = "",
        check: Callable[[str], None] = lambda _: None,
    ) -> str:
        """Return a value: on a terminal the person's, otherwise the guess.

        Args:
            option: the command line's option for the same value, without its dashes.
            question: what the value is.
            choices: possible values, for the question and the error.
            guess: the value that the data suggest.
            reason: why they do.
            check: raises a UsageError for a value that is not possible; on a terminal the question is then repeated.

        Raises:
            UsageError: there is neither a terminal nor a guess, or the guess is not possible.
        """
        if not self.interactive:
            if guess is None:
                possible = f"; possible are {shorten(choices)}" if choices else ""
                raise UsageError(f"--{option} is missing: {question}{possible}")
            check(guess)
            log.info("%s: %s, %s (--%s sets another)", option, guess, reason, option)
            return guess
        print(f"{question} ({shorten(choices)})" if choices else question, file=sys.stderr)
        while True:
            print(f"  {option}{f' [{guess}: {reason}]' if guess else ''}: ", end="", file=sys.stderr, flush=True)
            line = sys.stdin.readline()
            if not line:
                raise UsageError(f"--{option} is missing: the input ended")
            value = line.strip() or guess
            if value is None:
                continue
            try:
                check(value)
            except UsageError as error:
                print(f"  {error}", file=sys.stderr)
            else:
                return value


def shorten(names: Sequence[str]) -> str:
    """List some of the names."""
    more = f" and {len(names) - MAX_CHOICES} more" if len(names) > MAX_CHOICES else ""
    return ", ".join(names[:MAX_CHOICES]) + more
