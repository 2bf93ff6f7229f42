"""How a version comes into service: exposed beside the champion, then as champion, verified and observed."""

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
from continuous_training.serving.exposure import Exposure, end_exposure
from continuous_training.serving.rollout.client import TIMEOUT_SECONDS, call_server, read_status
from continuous_training.serving.rollout.counters import Counters, read_counters, subtract
from continuous_training.serving.rollout.limits import find_violation, summarize
from continuous_training.versions import golden_predictions

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow import MlflowClient
    from numpy.typing import NDArray

    from continuous_training.documents import Deployment
    from continuous_training.settings import RolloutPhase, Serving

log = logging.getLogger(__name__)

Role = Literal["canary", "shadow"]

FOLLOW_SECONDS = 120  # the time limit for a server to load a version
FAILURE_SECONDS = 10  # the time for which a server may report a failure: its registry may only have been slow
GOLDEN_REQUESTS = 5  # to each server after it has followed: any of its workers may handle each of them
POLL_SECONDS = 0.5  # between two requests for a server's status
OBSERVATION_SECONDS = 1.0  # between two readings of the servers' counters
CLOCK_TOLERANCE_SECONDS = 60  # by which a server's clock may be ahead


def estimate_max_seconds(servers: int, serving: Serving) -> float:
    """Return the most seconds that a deployment to so many servers can take, with all its phases.

    A request without a response takes twice its timeout: once for the connection and once for the response.
    """
    phases = [phase for phase in (serving.shadow, serving.canary) if phase]
    following = FOLLOW_SECONDS * (servers + len(phases))
    observing = serving.watch_seconds + sum(phase.seconds for phase in phases)
    requests_to_follow = 1 + GOLDEN_REQUESTS  # to each server: the last request for its status, and the golden rows
    requests_to_observe = 1 + 1 + 2 * 2  # the status; the first counters; twice golden rows and counters at the end
    count = servers * (requests_to_follow + requests_to_observe * (1 + len(phases)))
    return following + observing + count * 2 * TIMEOUT_SECONDS


def run_phase(
    client: MlflowClient,
    model: str,
    number: str,
    role: Role,
    phase: RolloutPhase,
    servers: list[str],
    serving: Serving,
) -> Deployment.Observation:
    """Expose a version beside the champion on all servers, and check its counters against the limits.

    The exposure ends with this function. If this process is killed, it expires soon afterwards.

    Args:
        client: of the registry.
        model: the registered model, which has a champion.
        number: the version.
        role: the version's role.
        phase: the duration, and the share of the requests.
        servers: their addresses.
        serving: the limits.

    Raises:
        UserError: a server does not load the version, or it exceeds a limit.
    """
    log.info("Version %s is %s for %g%% of the requests, for %g s", number, role, 100 * phase.share, phase.seconds)
    duration = timedelta(seconds=FOLLOW_SECONDS + phase.seconds + CLOCK_TOLERANCE_SECONDS)
    exposure = Exposure(version=number, role=role, share=phase.share, until=datetime.now(UTC) + duration)
    try:
        exposure.publish(client, model)
        deadline = time.monotonic() + FOLLOW_SECONDS
        candidate = {"version": number, "role": role}
        for url in servers:
            _wait_for_status(
                url,
                lambda status: status["model_version"] and _all_workers_have(status, candidate),
                f"did not load version {number} as {role}",
                deadline,
                FAILURE_SECONDS,
            )
        return _observe(servers, number, role, phase.seconds, serving)
    finally:
        end_exposure(client, model)


def wait_and_verify(url: str, number: str, rows: dict[str, Any], golden: NDArray[Any]) -> None:
    """Wait until a server serves a version, and compare its golden predictions with those made offline.

    Raises:
        UserError: it does not serve the version, or the predictions differ.
    """
    wait_for_version(url, number)
    for _ in range(GOLDEN_REQUESTS):
        check_golden_predictions(url, number, rows, golden)


def observe_champion(
    servers: list[str], number: str, serving: Serving, rows: dict[str, Any], golden: NDArray[Any]
) -> Deployment.Observation:
    """Observe the new champion on all servers for `serving.watch_seconds`, and check its counters against the limits.

    Meanwhile the golden predictions of each server are checked once a second.

    Raises:
        UserError: the version exceeds a limit; or a golden prediction is missing once, or differs from the one offline.
    """

    def check_servers() -> int:
        for url in servers:
            check_golden_predictions(url, number, rows, golden)
        return len(servers)

    log.info("Observing version %s as champion for %g s", number, serving.watch_seconds)
    return _observe(servers, number, "champion", serving.watch_seconds, serving, check_servers)


def wait_for_version(url: str, number: str) -> None:
    """Wait until all workers of a server serve a version and no other; a request that fails is repeated.

    Raises:
        UserError: they do not.
    """
    _wait_for_status(
        url,
        lambda status: status["model_version"] == number and _all_workers_have(status, None),
        f"did not load version {number}",
        time.monotonic() + FOLLOW_SECONDS,
    )


def check_golden_predictions(url: str, number: str, rows: dict[str, Any], golden: NDArray[Any]) -> None:
    """Compare a server's predictions for the golden rows with those that the stored model made offline.

    Raises:
        UserError: there are none, or they differ.
    """
    try:
        response = call_server(url, "/invocations", {"dataframe_split": rows})
    except requests.RequestException as error:
        raise UserError(f"{url} does not respond to the golden rows of version {number}: {error}") from error
    if response.status_code != requests.codes.ok:
        raise UserError(f"{url} rejects the golden rows of version {number}: {response.text[:200]}")
    version = response.headers.get("X-Model-Version")
    try:
        predictions = np.asarray(response.json()["predictions"], dtype=golden.dtype)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{url} returns no predictions for the golden rows: {response.text[:200]}") from error
    if version != number or predictions.shape != golden.shape:
        raise UserError(
            f"{url} predicts the golden rows of version {number} with version {version}, shape {predictions.shape}"
        )
    if difference := golden_predictions.describe_difference(predictions, golden):
        raise UserError(
            f"the predictions of {url} for the golden rows of version {number} differ from those made offline: "
            f"{difference}"
        )


def _wait_for_status(
    url: str,
    condition: Callable[[dict[str, Any]], bool],
    failure: str,
    deadline: float,
    failure_seconds: float = math.inf,
) -> None:
    """Read a server's status until it fulfils a condition, or the server has reported a failure for too long."""
    start, failing_since = time.monotonic(), None
    while True:
        reason = ""
        try:
            status = read_status(url)
            if condition(status):
                return
            failing_since = (failing_since or time.monotonic()) if status["failure"] else None
            reason = f": {status['failure']}" if status["failure"] else ""
        except (UserError, requests.RequestException) as error:
            reason = f": {error}"
        now = time.monotonic()
        if now > deadline or (failing_since and now > failing_since + failure_seconds):
            raise UserError(f"{url} {failure} in {now - start:.0f} s{reason}")
        time.sleep(POLL_SECONDS)


def _all_workers_have(status: dict[str, Any], candidate: dict[str, str] | None) -> bool:
    """Return whether all workers of a server have this candidate beside their champion, or None."""
    return all(worker["beside"] == candidate for worker in status["workers"])


def _observe(
    servers: list[str],
    number: str,
    role: str,
    seconds: float,
    serving: Serving,
    send_requests: Callable[[], int] = lambda: 0,
) -> Deployment.Observation:
    """Sum a version's counters over the servers, and check them against the limits repeatedly.

    Args:
        servers: their addresses.
        number: the version.
        role: its role.
        seconds: the duration.
        serving: the limits.
        send_requests: is called before each reading; returns the number of requests that it has sent to the version,
            which are not counted as clients' requests.

    Raises:
        UserError: the version exceeds a limit, or a server's counters cannot be read at the end.
    """
    before = {url: read_counters(url) for url in servers}
    deadline = time.monotonic() + seconds
    total, own_requests, final = Counters(), 0, False
    while not final:
        time.sleep(max(0.0, min(OBSERVATION_SECONDS, deadline - time.monotonic())))
        final = time.monotonic() >= deadline
        own_requests += send_requests()
        for url in servers:
            try:
                after = read_counters(url)
            except UserError:
                if final:
                    raise
                continue  # the next reading includes what this one misses
            total += subtract(after, before[url]).get((number, role), Counters())
            before[url] = after
        clients = replace(total, successes=max(0, total.successes - own_requests))
        if violation := find_violation(clients, serving, final=final):
            raise UserError(f"version {number} is refused as {role}: {violation}")
    observed = summarize(clients, serving)
    log.info("Version %s as %s: %s", number, role, observed.summary)
    return observed
