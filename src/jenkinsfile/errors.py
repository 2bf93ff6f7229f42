"""Errors that a user can correct. Each carries the exit code with which a program should end."""


class PipelineError(Exception):
    """A pipeline cannot go on: one line says what is wrong, and what to do about it."""

    exit_code = 1


class UsageError(PipelineError):
    """The Jenkinsfile or an argument is wrong; nothing was run."""

    exit_code = 2
