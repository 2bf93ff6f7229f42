"""Who asks a controller, and with which secrets: they come from the environment, and are never shown."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Self


class Secret(str):
    """A text that no traceback shows."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "****"


@dataclass(frozen=True)
class Access:
    """Who asks, and the secrets that pings and GitHub's pushes show; None for what the environment does not say."""

    user: str | None = None
    token: Secret | None = None
    webhook: Secret | None = None
    github: Secret | None = None

    @classmethod
    def find(cls) -> Self:
        """Read the environment: the names are those of Jenkins' own command line, and of jenkins/environment.txt."""

        def secret(name: str) -> Secret | None:
            value = os.environ.get(name)
            return Secret(value) if value else None

        return cls(
            user=os.environ.get("JENKINS_USER_ID") or None,
            token=secret("JENKINS_API_TOKEN"),
            webhook=secret("WEBHOOK_TOKEN"),
            github=secret("GITHUB_WEBHOOK_SECRET"),
        )
