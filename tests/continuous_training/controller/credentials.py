"""The user and the secrets for a controller, from the environment; they are never printed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Self


class Secret(str):
    """A string whose value does not appear in tracebacks."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "****"


@dataclass(frozen=True)
class Credentials:
    """A user, and the secrets of pings and of GitHub's pushes; None if the environment lacks them."""

    user: str | None = None
    token: Secret | None = None
    webhook_token: Secret | None = None
    github_secret: Secret | None = None

    @classmethod
    def from_environment(cls) -> Self:
        """Read the variables of Jenkins' command line and of jenkins/environment.txt."""

        def secret(name: str) -> Secret | None:
            value = os.environ.get(name)
            return Secret(value) if value else None

        return cls(
            user=os.environ.get("JENKINS_USER_ID") or None,
            token=secret("JENKINS_API_TOKEN"),
            webhook_token=secret("WEBHOOK_TOKEN"),
            github_secret=secret("GITHUB_WEBHOOK_SECRET"),
        )
