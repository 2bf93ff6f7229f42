"""Errors that a user can correct. Each carries the exit code with which the program ends."""


class UserError(Exception):
    """Something outside this program is wrong: one line says what, and what to do about it.

    Where there are several mistakes, each of the further arguments is a line about one of them.
    """

    exit_code = 1

    def __init__(self, message: str, *details: str) -> None:
        super().__init__(message, *details)

    def __str__(self) -> str:
        """Return the message, and each detail on a line of its own."""
        return "\n  ".join(" ".join(line.split()) for line in self.args)


class UsageError(UserError):
    """The command line or the environment is wrong; nothing was begun."""

    exit_code = 2
