"""Deploy: move the champion's alias, wait until every server answers with it, and otherwise move it back.

Servers pull: nothing is ever sent to them but questions.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import requests

from continuous_training import golden, promotion, registry
from continuous_training.documents import Candidate, Deployment, Registration, Run, Stopwatch, Verdict
from continuous_training.problem import Problem
from continuous_training.serving import daemon, questions, rollout

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)

START_SECONDS = 90


def deploy(
    client: MlflowClient,
    run: Run,
    candidate: Candidate,
    registered: Registration,
    verdict: Verdict,
    timer: Stopwatch,
) -> Deployment:
    """Make the registered version the champion on every server of SERVING_URLS (comma-separated).

    Raises:
        Problem: its verdict is not `promote`, or PROMOTE=never; it was rolled back before; another run is promoting, or
            has promoted since the verdict; or a server cannot be had, does not follow, or answers otherwise than the
            stored model did. The aliases are then back where they were.
    """
    if verdict.decision != "promote" or run.promote == "never":
        why = "PROMOTE=never" if run.promote == "never" else f"its verdict is {verdict.decision}"
        raise Problem(f"version {registered.model_version} is not deployed: {why}")
    number = registered.model_version
    expected = registry.identity(client, run.model)
    servers = questions.servers()
    for url in servers:
        _ensure(url, run.model, expected)
    rows, answers = golden.kept(candidate.run_id)
    what, longest = f"promoting version {number}", rollout.longest(len(servers))
    with promotion.turn(client, run.model, run.build_tag, what, longest) as turn:
        promoted = turn.promote(number, verdict.champion, force=run.force)
        for url in servers:
            rollout.follow(url, number, rows, answers)
            log.info("%s answers with version %s, as it did offline", url, number)
        turn.prove(promoted)
    return Deployment(
        name=registered.name,
        model_version=number,
        previous=promoted.kept,
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
