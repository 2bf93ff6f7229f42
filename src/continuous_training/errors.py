"""Errors that a user can correct. Each carries the exit code with which the program ends."""


class UserError(Exception):
    """Something outside this program is wrong: one line says what, and what to do about it."""

    exit_code = 1


class UsageError(UserError):
    """The command line or the environment is wrong; nothing was begun."""

    exit_code = 2
