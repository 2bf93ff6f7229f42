"""A champion's way to the servers: each is asked until it has followed, and then held against the golden rows."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import requests

from continuous_training.golden import TOLERANCE
from continuous_training.problem import Problem
from continuous_training.serving import questions

FOLLOW_SECONDS = 120


def longest(servers: int) -> float:
    """Return the most seconds that so many servers can take, one after the other, to follow or to fail.

    A question that is never answered ends after twice its time, once for the connection and once for the answer.
    """
    return servers * (FOLLOW_SECONDS + 2 * (2 * questions.SECONDS))


def follow(url: str, number: str, rows: dict[str, Any], answers: list[Any]) -> None:
    """Wait until a server answers with a version, as the stored model did offline.

    Raises:
        Problem: it does not follow, or answers otherwise.
    """
    wait(url, number)
    check_golden(url, number, rows, answers)


def wait(url: str, number: str) -> None:
    """Wait until the server reports the version; one question without an answer is no reason to give up."""
    deadline = time.monotonic() + FOLLOW_SECONDS
    while True:
        try:
            told = questions.told(url)
            if told["model_version"] == number:
                return
            why = f": {told['failure']}" if told["failure"] else ""
        except (Problem, requests.RequestException) as error:
            why = f": {error}"
        if time.monotonic() > deadline:
            raise Problem(f"{url} did not follow to version {number} in {FOLLOW_SECONDS} s{why}")
        time.sleep(0.5)


def check_golden(url: str, number: str, rows: dict[str, Any], expected: list[Any]) -> None:
    """Hold a server's answers over HTTP against those that the stored model gave offline."""
    answer = requests.post(f"{url}/invocations", json={"dataframe_split": rows}, timeout=questions.SECONDS)
    if answer.status_code != requests.codes.ok:
        raise Problem(f"{url} refuses the golden rows of version {number}: {answer.text[:200]}")
    named = answer.headers.get("X-Model-Version")
    given = np.asarray(answer.json()["predictions"])
    if named != number or given.shape != np.shape(expected):
        raise Problem(f"{url} answers the golden rows with version {named}, shape {given.shape}")
    worst = float(np.abs(given - np.asarray(expected)).max())
    if not worst <= TOLERANCE:
        raise Problem(f"{url} answers the golden rows of version {number} otherwise, by up to {worst:.2g}")
