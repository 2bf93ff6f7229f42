"""Deploy: move the alias `champion`, wait until every server serves the version correctly, else move the alias back.

If training.yaml asks for it, the version first runs beside the champion: as shadow, as canary, or as both in turn.
Servers pull: they are sent nothing but requests.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import requests

from continuous_training.documents import Candidate, Deployment, Registration, Run, Stopwatch, Verdict
from continuous_training.errors import UserError
from continuous_training.registry import holds, model_versions, promotion, runs
from continuous_training.serving import local_server
from continuous_training.serving.exposure import end_exposure
from continuous_training.serving.rollout import rollout
from continuous_training.serving.rollout.client import read_server_urls, read_status
from continuous_training.versions.examination import Policy
from continuous_training.versions.opening import read_golden_predictions

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from continuous_training.documents import Hold
    from continuous_training.serving.rollout.rollout import Role
    from continuous_training.settings import Serving, Settings

log = logging.getLogger(__name__)

START_SECONDS = 90


class OnHoldError(UserError):
    """A person has put the model on hold: the version waits, as `registration` says."""

    def __init__(self, registration: Registration) -> None:
        super().__init__(registration.hold_message or "")
        self.registration = registration


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
        OnHoldError: the model is on hold, and no person has decided that this run promotes.
        UserError: the verdict is not `promote`, or PROMOTE=never; the version was rolled back; another run is
            promoting, or has promoted since the verdict; a server is missing, does not follow, or predicts other values
            than the stored model; or the version exceeds a limit of the section `serving`. The aliases are then as
            before.
    """
    if verdict.decision != "promote" or run.promote == "never":
        why = "PROMOTE=never" if run.promote == "never" else f"its verdict is {verdict.decision}"
        raise UserError(f"version {registration.model_version} is not deployed: {why}")
    number = registration.model_version
    expected = model_versions.registry_identity(client, run.model)
    _check_hold(client, run, candidate, registration)
    servers = read_server_urls()
    for url in servers:
        _ensure(url, run.model, expected)
    address, policy = f"models:/{registration.name}/{number}", Policy(run.model, settings.model)
    rows, predictions = read_golden_predictions(address, policy, candidate.run_id)
    activity, longest = f"promoting version {number}", rollout.estimate_max_seconds(len(servers), settings.serving)
    with promotion.lock(client, run.model, run.build_tag, activity, longest) as lock:
        end_exposure(client, run.model)  # of a run that was killed: it would serve requests in place of the champion
        shadow = _expose(client, run, verdict, number, "shadow", servers, settings.serving)
        canary = _expose(client, run, verdict, number, "canary", servers, settings.serving)
        hold = _check_hold(client, run, candidate, registration)  # a phase may take hours
        move = lock.promote(number, verdict.champion, force=run.force)
        for url in servers:
            rollout.wait_and_verify(url, number, rows, predictions)
            log.info("%s serves version %s with the same predictions as offline", url, number)
        observation = None
        if settings.serving.watch_seconds:
            observation = rollout.observe_champion(servers, number, settings.serving, rows, predictions)
        lock.confirm(move)
    return Deployment(
        name=registration.name,
        model_version=number,
        previous_version=move.replaced_version,
        servers=servers,
        golden_predictions=len(predictions),
        shadow=shadow,
        canary=canary,
        watch=observation,
        hold=hold,
        **timer.stop(),
    )


def _check_hold(client: MlflowClient, run: Run, candidate: Candidate, registration: Registration) -> Hold | None:
    """Return the model's hold, whatever Register has seen, if a person has decided that this run promotes.

    Raises:
        OnHoldError: no person has; the run counts as held.
    """
    hold = holds.find(client, run.model)
    if not run.is_held(on_hold=hold is not None):
        return hold
    runs.set_outcome(client, candidate.run_id, runs.HELD)
    raise OnHoldError(registration.model_copy(update={"decision": "hold", "hold": hold}))


def _expose(
    client: MlflowClient, run: Run, verdict: Verdict, number: str, role: Role, servers: list[str], serving: Serving
) -> Deployment.Observation | None:
    """Run the version beside the champion, if training.yaml asks for it and the version may be promoted afterwards.

    Raises:
        UserError: it was rolled back, exceeds a limit, or a server does not load it.
    """
    exposure_settings = serving.shadow if role == "shadow" else serving.canary
    if exposure_settings is None:
        return None
    champion = promotion.read_aliases(client, run.model).champion
    if champion is None:
        log.info("Version %s does not run as %s: there is no champion", number, role)
        return None
    version = model_versions.by_number(client, run.model, number)
    if version is None or champion == number or champion != verdict.champion:
        return None  # it is the champion already, or promoting it will raise the error
    promotion.require_not_rolled_back(version, force=run.force)
    return rollout.run_phase(client, run.model, number, role, exposure_settings, servers, serving)


def _ensure(url: str, model: str, expected: str | None) -> None:
    """Check that a server of this model and registry answers at the address; start one if needed."""
    deadline = time.monotonic() + START_SECONDS
    pid = None
    while True:
        try:
            status = read_status(url)
        except requests.ConnectionError as error:
            if pid is None and not local_server.is_local(url):
                raise UserError(f"no server answers at {url}: check SERVING_URLS") from error
            if pid is None:
                log.info("Starting a server at %s", url)
                pid = local_server.start_server(url, model)
            elif not local_server.is_running(pid):
                raise UserError(
                    f"the server at {url} exited immediately: {local_server.read_last_messages(url)}"
                ) from error
            status = {}
        if status.get("registry") == expected and status.get("model") == model:
            return
        if status and (status.get("model") != model or status.get("registry")):
            raise UserError(
                f"{url} is in use by a server of another model or registry: stop that server (scripts/ct stop), or set "
                f"SERVING_URLS to a free address such as http://127.0.0.1:8001"
            )
        if time.monotonic() > deadline:
            raise UserError(
                f"the server at {url} did not start within {START_SECONDS} s: {local_server.read_last_messages(url)}"
            )
        time.sleep(0.5)
