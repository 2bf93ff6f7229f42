"""Deploy: move the champion's alias, wait until every server answers with it and answers well, or else move it back.

If training.yaml says so, the version stands beside the champion first, as shadow, as canary, or as one after the other.
Servers pull: nothing is ever sent to them but questions.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import requests

from continuous_training.documents import Candidate, Deployment, Registration, Run, Stopwatch, Verdict
from continuous_training.errors import UserError
from continuous_training.registry import model_versions, promotion
from continuous_training.serving import exposure
from continuous_training.serving import local_server as daemon
from continuous_training.serving.rollout import client as questions
from continuous_training.serving.rollout import rollout
from continuous_training.versions import golden_predictions

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from continuous_training.serving.rollout.rollout import Role
    from continuous_training.settings import Serving, Settings

log = logging.getLogger(__name__)

START_SECONDS = 90


def deploy(
    client: MlflowClient,
    run: Run,
    settings: Settings,
    candidate: Candidate,
    registration: Registration,
    verdict: Verdict,
    timer: Stopwatch,
) -> Deployment:
    """Make the registered version the champion on every server of SERVING_URLS (comma-separated).

    Raises:
        UserError: its verdict is not `promote`, or PROMOTE=never; it was rolled back; another run is promoting, or
            has promoted since the verdict; a server cannot be had, does not follow, or answers otherwise than the
            stored model did; or the version breaks a limit of the section `serving`, as shadow, canary or champion. The
            aliases are then where they were before.
    """
    if verdict.decision != "promote" or run.promote == "never":
        why = "PROMOTE=never" if run.promote == "never" else f"its verdict is {verdict.decision}"
        raise UserError(f"version {registration.model_version} is not deployed: {why}")
    number = registration.model_version
    expected = model_versions.identity(client, run.model)
    servers = questions.servers()
    for url in servers:
        _ensure(url, run.model, expected)
    rows, answers = golden_predictions.kept(candidate.run_id)
    what, longest = f"promoting version {number}", rollout.longest(len(servers), settings.serving)
    with promotion.turn(client, run.model, run.build_tag, what, longest) as turn:
        exposure.end(client, run.model)  # a run that was killed may have left one, which would answer in our place
        shadow = _rehearse(client, run, verdict, number, "shadow", servers, settings.serving)
        canary = _rehearse(client, run, verdict, number, "canary", servers, settings.serving)
        promoted = turn.promote(number, verdict.champion, force=run.force)
        for url in servers:
            rollout.follow(url, number, rows, answers)
            log.info("%s answers with version %s, as it did offline", url, number)
        watched = None
        if settings.serving.watch_seconds:
            watched = rollout.watch(servers, number, settings.serving, rows, answers)
        turn.prove(promoted)
    return Deployment(
        name=registration.name,
        model_version=number,
        previous=promoted.kept,
        servers=servers,
        golden=len(answers),
        shadow=shadow,
        canary=canary,
        watch=watched,
        **timer.stop(),
    )


def _rehearse(
    client: MlflowClient, run: Run, verdict: Verdict, number: str, role: Role, servers: list[str], serving: Serving
) -> Deployment.Observed | None:
    """Have the version stand beside the champion, if training.yaml says so and it may be promoted afterwards.

    Raises:
        UserError: it was rolled back, breaks a limit, or is not taken up by a server.
    """
    exposed = serving.shadow if role == "shadow" else serving.canary
    if exposed is None:
        return None
    champion = promotion.look(client, run.model).champion
    if champion is None:
        log.info("Version %s is no %s first: there is no champion to stand beside", number, role)
        return None
    version = model_versions.by_number(client, run.model, number)
    if version is None or champion == number or champion != verdict.champion:
        return None  # it stands there already, or promoting it will say why it cannot
    promotion.refuse_rolled_back(version, force=run.force)
    return rollout.rehearse(client, run.model, number, role, exposed, servers, serving)


def _ensure(url: str, model: str, expected: str | None) -> None:
    """See that a server of this project, with this model and registry, answers at the address; start one if need be."""
    deadline = time.monotonic() + START_SECONDS
    pid = None
    while True:
        try:
            told = questions.told(url)
        except requests.ConnectionError as error:
            if pid is None and not daemon.can_start(url):
                raise UserError(f"no server answers at {url}: check SERVING_URLS") from error
            if pid is None:
                log.info("Starting a server at %s", url)
                pid = daemon.start(url, model)
            elif not daemon.alive(pid):
                raise UserError(f"the server at {url} ended at once: {daemon.last_words()}") from error
            told = {}
        if told.get("registry") == expected and told.get("model") == model:
            return
        if told and (told.get("model") != model or told.get("registry")):
            raise UserError(
                f"{url} is taken by a server of another model or registry: stop it there (scripts/ct stop), or set "
                f"SERVING_URLS to a free address such as http://127.0.0.1:8001"
            )
        if time.monotonic() > deadline:
            raise UserError(f"the server at {url} did not come up in {START_SECONDS} s: {daemon.last_words()}")
        time.sleep(0.5)
