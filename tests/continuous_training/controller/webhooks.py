"""Requests without a login: pings to the Generic Webhook Trigger, and GitHub's pushes."""

from __future__ import annotations

import hmac
import json
import re
from typing import TYPE_CHECKING, Any

from continuous_training.settings import BRANCH
from controller.client import JOB_NAME
from jenkinsfile.expressions.evaluator import evaluate

if TYPE_CHECKING:
    from jenkinsfile.syntax.model import Pipeline

NO_JOBS = "Did not find any jobs with GenericTrigger configured!\n"


class TriggerScope:
    """The variables for expressions in the Jenkinsfile's triggers."""

    def variable(self, name: str) -> Any:
        """Return the value of `env`, the only variable."""
        return {"env": {"BRANCH_NAME": BRANCH}}[name]

    def call(self, name: str, _positional: list[Any], _named: dict[str, Any]) -> Any:
        """Refuse the call: triggers call no steps."""
        raise AssertionError(f"a trigger calls «{name}»")


class Trigger:
    """The Jenkinsfile's GenericTrigger, which evaluates a ping as the plugin does."""

    def __init__(self, pipeline: Pipeline) -> None:
        (trigger,) = (call for call in pipeline.triggers if call.name == "GenericTrigger")
        arguments = {argument.name: evaluate(argument.value, TriggerScope()) for argument in trigger.arguments}
        self._variables: list[dict[str, str]] = arguments["genericVariables"]
        self._filter_text = str(arguments["regexpFilterText"])
        self._filter_expression = str(arguments["regexpFilterExpression"])
        self.cause = str(arguments["causeString"])

    def resolve_variables(self, body: str) -> dict[str, str]:
        """Return the variables in a body; none if it is no JSON, which the plugin only logs."""
        try:
            message = json.loads(body)
        except ValueError:
            return {}
        values = {
            variable["key"]: _value_at(variable["value"].removeprefix("$.").split("."), message)
            for variable in self._variables
        }
        return {name: _to_text(value) for name, value in values.items() if value is not None}

    def matches(self, variables: dict[str, str]) -> bool:
        """Return whether a ping with these variables starts the job."""
        return re.search(self._filter_expression, self.render(self._filter_text, variables)) is not None

    @staticmethod
    def render(template: str, variables: dict[str, str]) -> str:
        """Replace variables in a text; names without a value stay."""
        for name in sorted(variables, key=lambda name: (-len(name), name)):
            template = template.replace(f"${name}", variables[name])
        return template

    def response(self, variables: dict[str, str], item: int | None) -> dict[str, Any]:
        """Return the plugin's response for one job; `item` is the item of the queue if the ping starts it."""
        return {
            "id": item or 0,
            "triggered": item is not None,
            "url": f"queue/item/{item}/" if item is not None else "",
            "resolvedVariables": variables,
            "regexpFilterText": self.render(self._filter_text, variables),
            "regexpFilterExpression": self._filter_expression,
        }


def _value_at(path: list[str], message: Any) -> Any:
    """Return the value at a path of names, or None."""
    for name in path:
        message = message.get(name) if isinstance(message, dict) else None
    return message


def _to_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def read_token(headers: dict[str, str], query: dict[str, str]) -> str | None:
    """Return the token of a ping, from any place where the plugin looks for it."""
    bearer = headers.get("authorization", "")
    return (
        query.get("token")
        or headers.get("token")
        or (bearer.removeprefix("Bearer ") if bearer.startswith("Bearer ") else None)
        or headers.get("x-gitlab-token")
    )


def no_job_response(token: str | None) -> dict[str, Any]:
    """Return the plugin's response if no job has the token."""
    return {"jobs": None, "message": NO_JOBS + ("A token was supplied.\n" if token else "No token was supplied.\n")}


def triggered_response(job: dict[str, Any]) -> dict[str, Any]:
    """Return the plugin's response if jobs have the token: the branch, and another one that the ping does not start."""
    other = {**job, "id": 0, "triggered": False, "url": "", "regexpFilterExpression": "(?!)"}
    return {"jobs": {JOB_NAME: job, JOB_NAME.replace(BRANCH, "another"): other}, "message": "Triggered jobs."}


def is_signed(headers: dict[str, str], body: bytes, secret: str) -> bool:
    """Return whether a push is signed with the secret; by default the plugin requires SHA-256."""
    signature = headers.get("x-hub-signature-256", "")
    return hmac.compare_digest(signature, f"sha256={hmac.new(secret.encode(), body, 'sha256').hexdigest()}")


def read_pushed_branch(payload: bytes, repository: str) -> str | None:
    """Return the branch of a push to a repository; None for other repositories and deleted branches."""
    message = json.loads(payload)
    is_same = message["repository"]["html_url"] == repository and re.fullmatch("[0-9a-f]{40}", message["after"])
    return message["ref"].removeprefix("refs/heads/") if is_same and not message["deleted"] else None
