"""Deploy: move the champion's alias, wait until every server answers with it, and otherwise move it back.

Servers pull: nothing is ever sent to them but questions.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import requests

from continuous_training import golden, registry
from continuous_training.documents import Candidate, Deployment, Registration, Run, Stopwatch
from continuous_training.problem import Problem
from continuous_training.serving import daemon, questions

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from continuous_training.registry import Version

log = logging.getLogger(__name__)

TOLERANCE = 1e-9  # golden predictions travel as JSON, which keeps 15 digits
START_SECONDS = 90
FOLLOW_SECONDS = 120


def deploy(
    client: MlflowClient, run: Run, candidate: Candidate, registered: Registration, timer: Stopwatch
) -> Deployment:
    """Make the registered version the champion on every server of SERVING_URLS (comma-separated).

    Raises:
        Problem: a server cannot be had, does not follow, or answers otherwise than the stored model did. The alias is
            then back where it was.
    """
    version = registry.version(client, registered.name, registered.model_version)
    expected = registry.identity(client, run.model)
    servers = questions.servers()
    for url in servers:
        _ensure(url, run.model, expected)
    rows, answers = golden.kept(candidate.run_id)
    proven = client.get_run(version.run_id).data.tags.get(registry.OUTCOME) == registry.DEPLOYED
    previous = registry.promote(client, version)
    try:
        for url in servers:
            _wait(url, version)
            _check_golden(url, version, rows, answers)
            log.info("%s answers with version %s, as it did offline", url, version.number)
    except BaseException as error:  # an abort too must not leave a champion that nobody has seen answer
        if proven:
            raise
        registry.restore(client, run.model, previous)
        back = f"version {previous.number} is champion again" if previous else "there is no champion again"
        log.warning("%s", back)
        if isinstance(error, Exception):
            raise Problem(f"{error}; {back}") from error
        raise
    client.set_tag(candidate.run_id, registry.OUTCOME, registry.DEPLOYED)
    return Deployment(
        name=version.name,
        model_version=version.number,
        previous=previous.number if previous else None,
        servers=servers,
        golden=len(answers),
        **timer.stop(),
    )


def _ensure(url: str, model: str, expected: str | None) -> None:
    """See that a server of this project, with this model and registry, answers at the address; start one if need be."""
    deadline = time.monotonic() + START_SECONDS
    pid = None
    while True:
        try:
            told = questions.told(url)
        except requests.ConnectionError as error:
            if pid is None and not daemon.can_start(url):
                raise Problem(f"no server answers at {url}: check SERVING_URLS") from error
            if pid is None:
                log.info("Starting a server at %s", url)
                pid = daemon.start(url, model)
            elif not daemon.alive(pid):
                raise Problem(f"the server at {url} ended at once: {daemon.last_words()}") from error
            told = {}
        if told.get("registry") == expected and told.get("model") == model:
            return
        if told and (told.get("model") != model or told.get("registry")):
            raise Problem(
                f"{url} is taken by a server of another model or registry: stop it there (scripts/ct stop), or set "
                f"SERVING_URLS to a free address such as http://127.0.0.1:8001"
            )
        if time.monotonic() > deadline:
            raise Problem(f"the server at {url} did not come up in {START_SECONDS} s: {daemon.last_words()}")
        time.sleep(0.5)


def _wait(url: str, version: Version) -> None:
    """Wait until the server reports the version; one question without an answer is no reason to give up."""
    deadline = time.monotonic() + FOLLOW_SECONDS
    while True:
        try:
            told = questions.told(url)
            if told["model_version"] == version.number:
                return
            why = f": {told['failure']}" if told["failure"] else ""
        except (Problem, requests.RequestException) as error:
            why = f": {error}"
        if time.monotonic() > deadline:
            raise Problem(f"{url} did not follow to version {version.number} in {FOLLOW_SECONDS} s{why}")
        time.sleep(0.5)


def _check_golden(url: str, version: Version, rows: dict[str, Any], expected: list[Any]) -> None:
    """Hold a server's answers over HTTP against those that the stored model gave offline."""
    answer = requests.post(f"{url}/invocations", json={"dataframe_split": rows}, timeout=questions.SECONDS)
    if answer.status_code != requests.codes.ok:
        raise Problem(f"{url} refuses the golden rows of version {version.number}: {answer.text[:200]}")
    named = answer.headers.get("X-Model-Version")
    given = np.asarray(answer.json()["predictions"])
    if named != version.number or given.shape != np.shape(expected):
        raise Problem(f"{url} answers the golden rows with version {named}, shape {given.shape}")
    worst = float(np.abs(given - np.asarray(expected)).max())
    if not worst <= TOLERANCE:
        raise Problem(f"{url} answers the golden rows of version {version.number} otherwise, by up to {worst:.2g}")
