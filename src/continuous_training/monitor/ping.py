"""The ping: Jenkins' Generic Webhook Trigger is asked for a run, and says whether it starts one.

Jenkins merges what waits in its queue for the same reason, so two monitors at once are one run.
"""

from __future__ import annotations

import json
import os
from typing import Any

import requests

from continuous_training import posting
from continuous_training.documents import Value
from continuous_training.problem import Problem
from continuous_training.warehouse import without_password

PATH = "/generic-webhook-trigger/invoke"
TOKEN = "WEBHOOK_TOKEN"  # noqa: S105 - the variable's name


class Ping(Value):
    """What Jenkins is told. Only trigger, reason and as_of become parameters of the run; the rest is for people."""

    trigger: str = "drift"
    reason: str
    as_of: str | None = None
    model: str
    model_version: str
    evidence: str

    @property
    def body(self) -> dict[str, Any]:
        """What is sent."""
        return self.model_dump(exclude_none=True)

    def request(self, address: str) -> str:
        """Write the request as a person would make it, without the token."""
        return f"POST {address.rstrip('/')}{PATH}\n{json.dumps(self.body, indent=2, ensure_ascii=False)}"


def send(address: str, ping: Ping) -> list[str]:
    """Ask for a run; return the jobs that are triggered. What is not delivered is sent at the next check.

    Raises:
        Problem: there is no token, nobody answers, the token is wrong, or no job is triggered.
    """
    shown = without_password(address)
    token = os.environ.get(TOKEN, "").strip()
    if not token:
        raise Problem(f"{TOKEN} is not set: it is what Jenkins has as webhook-token")
    sign = posting.bearer(token, TOKEN)
    answer = posting.post(f"{address.rstrip('/')}{PATH}", ping.body, f"Jenkins at {shown}", sign)
    if answer.status_code == requests.codes.not_found:
        raise Problem(f"Jenkins at {shown} knows no job for this token: is {TOKEN} that of its webhook-token?")
    if not answer.ok or answer.is_redirect:
        raise Problem(f"Jenkins at {shown} answers {answer.status_code} to the ping")
    triggered = _triggered(answer)
    if not triggered:
        raise Problem(f"Jenkins at {shown} took the ping and triggered no job: does main have its GenericTrigger?")
    return triggered


def _triggered(answer: requests.Response) -> list[str]:
    try:
        jobs = answer.json()["jobs"]
        return sorted(name for name, job in jobs.items() if job["triggered"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return []
