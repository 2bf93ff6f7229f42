"""A version's way to the servers: beside the champion, then in its place, held against the golden rows, and watched."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import requests

from continuous_training.errors import UserError
from continuous_training.serving import exposure
from continuous_training.serving.exposure import Exposure
from continuous_training.serving.rollout import client as questions
from continuous_training.serving.rollout import observation
from continuous_training.serving.rollout.observation import Numbers
from continuous_training.versions.golden_predictions import TOLERANCE

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow import MlflowClient

    from continuous_training.documents import Deployment
    from continuous_training.settings import RolloutPhase, Serving

log = logging.getLogger(__name__)

Role = Literal["canary", "shadow"]

FOLLOW_SECONDS = 120
FAILING_SECONDS = 10  # that what keeps a server from a version may last: its registry may only have been slow
TIMES = 5  # that a server is asked the golden rows when it has followed: each time any of its workers may answer
PAUSE_SECONDS = 1.0  # between two looks at the servers' numbers
SLACK_SECONDS = 60  # that a server's clock may be ahead


def longest(servers: int, serving: Serving) -> float:
    """Return the most seconds that a deployment to so many servers can take, from its rehearsals to its last look.

    A question that is never answered ends after twice its time, once for the connection and once for the answer.
    """
    rehearsals = [exposed for exposed in (serving.shadow, serving.canary) if exposed]
    waiting = FOLLOW_SECONDS * (servers + len(rehearsals))
    watching = serving.watch_seconds + sum(exposed.seconds for exposed in rehearsals)
    following = 1 + TIMES  # questions to each server: the last one while it is waited for, and the golden rows
    observing = 1 + 1 + 2 * 2  # the same; a first look; and two rounds around the end, of golden rows and a look
    asked = servers * (following + observing * (1 + len(rehearsals)))
    return waiting + watching + asked * 2 * questions.SECONDS


def rehearse(
    client: MlflowClient,
    model: str,
    number: str,
    role: Role,
    exposed: RolloutPhase,
    servers: list[str],
    serving: Serving,
) -> Deployment.Observation:
    """Have a version stand beside the champion on all servers for a while, and judge it by what they count of it.

    However this ends, the version does not stand there any longer; if this process is killed, not much longer.

    Args:
        client: of the registry.
        model: the registered model, which has a champion.
        number: the version.
        role: what it does there.
        exposed: for how long, and for which share of the requests.
        servers: their addresses.
        serving: the limits.

    Raises:
        UserError: a server does not take it up, or it breaks a limit.
    """
    share = f"{100 * exposed.share:g}%"
    log.info("Version %s is %s for %s of the requests, for %g s", number, role, share, exposed.seconds)
    lasts = timedelta(seconds=FOLLOW_SECONDS + exposed.seconds + SLACK_SECONDS)
    shown = Exposure(version=number, role=role, share=exposed.share, until=datetime.now(UTC) + lasts)
    try:
        shown.begin(client, model)
        deadline = time.monotonic() + FOLLOW_SECONDS
        what, beside = f"did not take up version {number} as {role}", {"version": number, "role": role}
        for url in servers:
            _wait(
                url, lambda told: told["model_version"] and _have_beside(told, beside), what, deadline, FAILING_SECONDS
            )
        return _observe(servers, number, role, exposed.seconds, serving)
    finally:
        exposure.end(client, model)


def follow(url: str, number: str, rows: dict[str, Any], answers: list[Any]) -> None:
    """Wait until a server answers with a version, as the stored model did offline.

    Raises:
        UserError: it does not follow, or answers otherwise.
    """
    wait(url, number)
    for _ in range(TIMES):
        check_golden(url, number, rows, answers)


def watch(
    servers: list[str], number: str, serving: Serving, rows: dict[str, Any], answers: list[Any]
) -> Deployment.Observation:
    """Watch the new champion on all servers for a while, and judge it by what they count of it.

    Meanwhile each is asked the golden rows, once a second.

    Raises:
        UserError: it breaks a limit; or a server does not answer once, or otherwise than the stored model did offline.
    """

    def ask() -> int:
        for url in servers:
            check_golden(url, number, rows, answers)
        return len(servers)

    log.info("Watching version %s as champion for %g s", number, serving.watch_seconds)
    return _observe(servers, number, "champion", serving.watch_seconds, serving, ask)


def wait(url: str, number: str) -> None:
    """Wait until all workers of a server answer with a version alone; one unanswered question is no reason to give up.

    Raises:
        UserError: they do not.
    """
    deadline = time.monotonic() + FOLLOW_SECONDS
    what = f"did not follow to version {number}"
    _wait(url, lambda told: told["model_version"] == number and _have_beside(told, None), what, deadline)


def check_golden(url: str, number: str, rows: dict[str, Any], expected: list[Any]) -> None:
    """Hold a server's answers over HTTP against those that the stored model gave offline.

    Raises:
        UserError: it does not answer, or otherwise.
    """
    try:
        answer = questions.ask(url, "/invocations", {"dataframe_split": rows})
    except requests.RequestException as error:
        raise UserError(f"{url} does not answer the golden rows of version {number}: {error}") from error
    if answer.status_code != requests.codes.ok:
        raise UserError(f"{url} refuses the golden rows of version {number}: {answer.text[:200]}")
    named = answer.headers.get("X-Model-Version")
    try:
        given = np.asarray(answer.json()["predictions"], dtype=float)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{url} answers the golden rows with no predictions: {answer.text[:200]}") from error
    if named != number or given.shape != np.shape(expected):
        raise UserError(f"{url} answers the golden rows of version {number} with version {named}, shape {given.shape}")
    worst = float(np.abs(given - np.asarray(expected)).max())
    if not worst <= TOLERANCE:
        raise UserError(f"{url} answers the golden rows of version {number} otherwise, by up to {worst:.2g}")


def _wait(
    url: str, holds: Callable[[dict[str, Any]], bool], what: str, deadline: float, failing: float = math.inf
) -> None:
    """Ask a server until something holds; if a failure of its own lasts for so many seconds, no longer."""
    began, failed = time.monotonic(), None
    while True:
        why = ""
        try:
            told = questions.told(url)
            if holds(told):
                return
            failed = (failed or time.monotonic()) if told["failure"] else None
            why = f": {told['failure']}" if told["failure"] else ""
        except (UserError, requests.RequestException) as error:
            why = f": {error}"
        now = time.monotonic()
        if now > deadline or (failed and now > failed + failing):
            raise UserError(f"{url} {what} in {now - began:.0f} s{why}")
        time.sleep(0.5)


def _have_beside(told: dict[str, Any], beside: dict[str, str] | None) -> bool:
    """Tell whether all workers of a server have this beside their champion, or nothing."""
    return all(worker["beside"] == beside for worker in told["workers"])


def _observe(
    servers: list[str], number: str, role: str, seconds: float, serving: Serving, ask: Callable[[], int] = lambda: 0
) -> Deployment.Observation:
    """Add up what the servers count of a version in a role, and judge it again and again.

    Args:
        servers: their addresses.
        number: the version.
        role: what it does.
        seconds: for how long.
        serving: the limits.
        ask: asks the servers something in every round, and says how many requests of the version's those were: they are
            no client's.

    Raises:
        UserError: it breaks a limit, or a server does not tell at the end.
    """
    before = {url: observation.read(url) for url in servers}
    deadline = time.monotonic() + seconds
    counted, own, over = Numbers(), 0, False
    while not over:
        time.sleep(max(0.0, min(PAUSE_SECONDS, deadline - time.monotonic())))
        over = time.monotonic() >= deadline
        own += ask()
        for url in servers:
            try:
                now = observation.read(url)
            except UserError:
                if over:
                    raise
                continue  # what is missed now, the next look shows
            counted += observation.since(now, before[url]).get((number, role), Numbers())
            before[url] = now
        found = replace(counted, answered=max(0, counted.answered - own))
        if message := observation.broken(found, serving, over=over):
            raise UserError(f"version {number} is refused as {role}: {message}")
    kept = observation.kept(found, serving)
    log.info("Version %s as %s: %s", number, role, kept.summary)
    return kept
