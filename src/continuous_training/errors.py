"""The one exception for what a person can mend."""


class Problem(Exception):  # noqa: N818 - a broken setting is a problem to solve, not an error in this program
    """Something outside this program is wrong: one line that says what, and what to do about it."""

    exit_code = 1


class Misuse(Problem):
    """What was asked for cannot be understood; nothing was begun."""

    exit_code = 2
