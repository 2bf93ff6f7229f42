"""The ping: Jenkins' Generic Webhook Trigger is asked for a run, and says whether it starts one.

Jenkins merges what waits in its queue for the same reason, so two monitors at once are one run.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, Literal

import requests
from pydantic import Field

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
NO_JENKINS = "none"  # in place of Jenkins' address: the ping is shown, not sent


class Ping(Value):
    """What Jenkins is told. Trigger, reason, as_of and model become parameters of the run; the rest is for people."""

    trigger: Literal["drift", "data"]
    reason: str
    as_of: str | None = None
    model: str
    model_version: str
    evidence: str | None = None

    @property
    def body(self) -> dict[str, Any]:
        """What is sent."""
        return self.model_dump(exclude_none=True)

    def request(self, address: str) -> str:
        """Write the request as a person would make it, without the token."""
        return f"POST {address.rstrip('/')}{PATH}\n{json.dumps(self.body, indent=2, ensure_ascii=False)}"


class PingResult(Value):
    """A ping, and what became of it: the jobs that it started, or why it was not sent or did not arrive."""

    ping: Ping
    address: str
    jobs: list[str] = Field(default_factory=list)
    withheld: str | None = None
    fault: str | None = None

    @property
    def summary(self) -> str:
        """What a person reads on the console."""
        if self.jobs:
            return f"Jenkins was asked for a training: {', '.join(self.jobs)}"
        return f"Jenkins is not asked for a training: {self.withheld}"

    @property
    def shown(self) -> str | None:
        """The request, where there is nobody to send it to."""
        return self.ping.request("$JENKINS_URL") if self.address == NO_JENKINS else None


def ask(
    client: MlflowClient, champion: Version, ping: Ping, address: str, hindrance: Callable[[Version], str | None]
) -> PingResult:
    """Ask for a training that is to replace a champion, and say what became of that.

    Args:
        client: of the registry.
        champion: the version that was looked at; if it is champion no more, nobody is asked.
        ping: what is said.
        address: Jenkins', or NO_JENKINS.
        hindrance: says of the champion, as it is now, why there should be no ping; None if there should be one.
    """
    asking = PingResult(ping=ping, address=without_password(address))
    now = model_versions.by_alias(client, champion.name, model_versions.CHAMPION)
    if now is None or now.number != champion.number:
        return asking.model_copy(update={"withheld": f"version {champion.number} is not champion any more"})
    if message := hindrance(now):
        return asking.model_copy(update={"withheld": message})
    if address == NO_JENKINS:
        return asking.model_copy(update={"withheld": "no Jenkins is named"})
    try:
        return asking.model_copy(update={"jobs": send(address, ping)})
    except UserError as problem:
        message = "the ping did not arrive: the next check asks again"
        return asking.model_copy(update={"withheld": message, "fault": str(problem)})


def send(address: str, ping: Ping) -> list[str]:
    """Ask for a run; return the jobs that are triggered. What is not delivered is sent at the next check.

    Raises:
        UserError: there is no token, nobody answers, the token is wrong, or no job is triggered.
    """
    shown = without_password(address)
    token = os.environ.get(TOKEN, "").strip()
    if not token:
        raise UserError(f"{TOKEN} is not set: it is what Jenkins has as webhook-token")
    sign = http_client.bearer(token, TOKEN)
    answer = http_client.post(f"{address.rstrip('/')}{PATH}", ping.body, f"Jenkins at {shown}", sign)
    if answer.status_code == requests.codes.not_found:
        raise UserError(f"Jenkins at {shown} knows no job for this token: is {TOKEN} that of its webhook-token?")
    if not answer.ok or answer.is_redirect:
        raise UserError(f"Jenkins at {shown} answers {answer.status_code} to the ping")
    triggered = _triggered(answer)
    if not triggered:
        raise UserError(f"Jenkins at {shown} took the ping and triggered no job: does main have its GenericTrigger?")
    return triggered


def _triggered(answer: requests.Response) -> list[str]:
    try:
        jobs = answer.json()["jobs"]
        return sorted(name for name, job in jobs.items() if job["triggered"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return []
