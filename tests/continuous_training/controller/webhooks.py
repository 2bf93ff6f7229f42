"""What comes in without a login: pings for the Generic Webhook Trigger, and GitHub's pushes."""

from __future__ import annotations

import hmac
import json
import re
from typing import TYPE_CHECKING, Any

from continuous_training.settings import BRANCH
from controller.client import NAME
from jenkinsfile.expressions.evaluator import evaluate

if TYPE_CHECKING:
    from jenkinsfile.syntax.model import Pipeline

NO_JOBS = "Did not find any jobs with GenericTrigger configured!\n"


class Branch:
    """What an expression of the Jenkinsfile's triggers sees."""

    def variable(self, name: str) -> Any:
        """Give `env`, and nothing else."""
        return {"env": {"BRANCH_NAME": BRANCH}}[name]

    def call(self, name: str, _positional: list[Any], _named: dict[str, Any]) -> Any:
        """Refuse: no trigger calls a step."""
        raise AssertionError(f"«{name}» is called by a trigger")


class Trigger:
    """The Jenkinsfile's GenericTrigger, which judges a ping as the plugin does."""

    def __init__(self, pipeline: Pipeline) -> None:
        (found,) = (call for call in pipeline.triggers if call.name == "GenericTrigger")
        given = {one.name: evaluate(one.value, Branch()) for one in found.arguments}
        self._variables: list[dict[str, str]] = given["genericVariables"]
        self._text = str(given["regexpFilterText"])
        self._expression = str(given["regexpFilterExpression"])
        self.cause = str(given["causeString"])

    def resolved(self, body: str) -> dict[str, str]:
        """Return the variables that a body has; the plugin logs what it cannot read, and goes on without it."""
        try:
            message = json.loads(body)
        except ValueError:
            return {}
        found = {one["key"]: _at(one["value"].removeprefix("$.").split("."), message) for one in self._variables}
        return {name: _text(value) for name, value in found.items() if value is not None}

    def fits(self, resolved: dict[str, str]) -> bool:
        """Tell whether a ping with these variables starts the job."""
        return re.search(self._expression, self.rendered(self._text, resolved)) is not None

    @staticmethod
    def rendered(template: str, resolved: dict[str, str]) -> str:
        """Put variables into a text, where those that there are not stay as they stand."""
        for name in sorted(resolved, key=lambda name: (-len(name), name)):
            template = template.replace(f"${name}", resolved[name])
        return template

    def told(self, resolved: dict[str, str], item: int | None) -> dict[str, Any]:
        """Return what the plugin answers of one job."""
        return {
            "id": item or 0,
            "triggered": item is not None,
            "url": f"queue/item/{item}/" if item is not None else "",
            "resolvedVariables": resolved,
            "regexpFilterText": self.rendered(self._text, resolved),
            "regexpFilterExpression": self._expression,
        }


def _at(path: list[str], message: Any) -> Any:
    """Return what stands at a path of names; None if nothing does."""
    for name in path:
        message = message.get(name) if isinstance(message, dict) else None
    return message


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def shown(headers: dict[str, str], query: dict[str, str]) -> str | None:
    """Return the token of a ping, from wherever the plugin takes one."""
    bearer = headers.get("authorization", "")
    return (
        query.get("token")
        or headers.get("token")
        or (bearer.removeprefix("Bearer ") if bearer.startswith("Bearer ") else None)
        or headers.get("x-gitlab-token")
    )


def nobody_found(token: str | None) -> dict[str, Any]:
    """Return what the plugin answers if no job has the token."""
    return {"jobs": None, "message": NO_JOBS + ("A token was supplied.\n" if token else "No token was supplied.\n")}


def triggered(job: dict[str, Any]) -> dict[str, Any]:
    """Return what the plugin answers if a job has the token: here also a branch that the ping is not for."""
    other = {**job, "id": 0, "triggered": False, "url": "", "regexpFilterExpression": "(?!)"}
    return {"jobs": {NAME: job, NAME.replace(BRANCH, "another"): other}, "message": "Triggered jobs."}


def is_signed(headers: dict[str, str], body: bytes, secret: str) -> bool:
    """Tell whether GitHub has signed a push with the secret: SHA-256 is what the plugin asks for by default."""
    signature = headers.get("x-hub-signature-256", "")
    return hmac.compare_digest(signature, f"sha256={hmac.new(secret.encode(), body, 'sha256').hexdigest()}")


def pushed_branch(payload: bytes, source: str) -> str | None:
    """Return the branch that a push to this repository is of; None if it is another's."""
    message = json.loads(payload)
    ours = message["repository"]["html_url"] == source and re.fullmatch("[0-9a-f]{40}", message["after"])
    return message["ref"].removeprefix("refs/heads/") if ours and not message["deleted"] else None
