"""The ping: an HTTP request to Jenkins' Generic Webhook Trigger that starts a run.

Jenkins merges queued builds with the same parameters, so two monitors at once start one run.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, Literal

import requests
from pydantic import AliasChoices, Field

from continuous_training import http_client
from continuous_training.documents import Value
from continuous_training.errors import UserError
from continuous_training.registry import model_versions
from continuous_training.urls import without_password

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow import MlflowClient

    from continuous_training.registry.model_versions import Version

PATH = "/generic-webhook-trigger/invoke"
TOKEN = "WEBHOOK_TOKEN"  # noqa: S105 - the variable's name
NO_JENKINS = "none"  # instead of an address: the ping is printed, not sent


class Ping(Value):
    """The body of a ping. `trigger`, `reason`, `as_of` and `model` become parameters of the run."""

    trigger: Literal["drift", "data"]
    reason: str
    as_of: str | None = None
    model: str
    model_version: str
    evidence: str | None = None

    @property
    def body(self) -> dict[str, Any]:
        """The JSON body."""
        return self.model_dump(exclude_none=True)

    def request(self, address: str) -> str:
        """Return the request as text, without the token."""
        return f"POST {address.rstrip('/')}{PATH}\n{json.dumps(self.body, indent=2, ensure_ascii=False)}"


class PingResult(Value):
    """A ping and its result: the jobs that it triggered, the reason for not sending it, or the error."""

    ping: Ping
    address: str
    jobs: list[str] = Field(default_factory=list)
    skip_reason: str | None = Field(default=None, validation_alias=AliasChoices("skip_reason", "withheld"))
    error: str | None = Field(default=None, validation_alias=AliasChoices("error", "fault"))

    @property
    def summary(self) -> str:
        """The result as one line."""
        if self.jobs:
            return f"Triggered a training in Jenkins: {', '.join(self.jobs)}"
        return f"No training is triggered: {self.skip_reason}"

    @property
    def preview(self) -> str | None:
        """The request as text, if there is no Jenkins to send it to."""
        return self.ping.request("$JENKINS_URL") if self.address == NO_JENKINS else None


def trigger_training(
    client: MlflowClient, champion: Version, ping: Ping, address: str, find_skip_reason: Callable[[Version], str | None]
) -> PingResult:
    """Trigger a training that is to replace the champion, and return the result.

    Args:
        client: the registry's client.
        champion: the version that was examined; if it is no longer champion, nothing is sent.
        ping: the request.
        address: of Jenkins, or NO_JENKINS.
        find_skip_reason: returns why the current champion needs no ping, or None if it needs one.
    """
    result = PingResult(ping=ping, address=without_password(address))
    current = model_versions.by_alias(client, champion.name, model_versions.CHAMPION)
    if current is None or current.number != champion.number:
        return result.model_copy(update={"skip_reason": f"version {champion.number} is no longer champion"})
    if message := find_skip_reason(current):
        return result.model_copy(update={"skip_reason": message})
    if address == NO_JENKINS:
        return result.model_copy(update={"skip_reason": "no Jenkins is configured"})
    try:
        return result.model_copy(update={"jobs": send(address, ping)})
    except UserError as error:
        message = "the ping failed: the next check sends it again"
        return result.model_copy(update={"skip_reason": message, "error": str(error)})


def send(address: str, ping: Ping) -> list[str]:
    """Send a ping; return the triggered jobs.

    Raises:
        UserError: the token is missing or wrong, Jenkins does not answer, or no job is triggered.
    """
    safe_address = without_password(address)
    token = os.environ.get(TOKEN, "").strip()
    if not token:
        raise UserError(f"{TOKEN} is not set: it is the value of the credential webhook-token in Jenkins")
    authentication = http_client.bearer(token, TOKEN)
    response = http_client.post(f"{address.rstrip('/')}{PATH}", ping.body, f"Jenkins at {safe_address}", authentication)
    if response.status_code == requests.codes.not_found:
        raise UserError(
            f"Jenkins at {safe_address} has no job for this token: does {TOKEN} equal its credential webhook-token?"
        )
    if not response.ok or response.is_redirect:
        raise UserError(f"Jenkins at {safe_address} answers {response.status_code} to the ping")
    jobs = _triggered_jobs(response)
    if not jobs:
        raise UserError(f"Jenkins at {safe_address} triggered no job: does the job of main have its GenericTrigger?")
    return jobs


def _triggered_jobs(response: requests.Response) -> list[str]:
    try:
        jobs = response.json()["jobs"]
        return sorted(name for name, job in jobs.items() if job["triggered"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return []
