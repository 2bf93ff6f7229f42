"""Notify: tell a channel what became of a run, through its incoming webhook as Slack, Mattermost and others have it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from continuous_training import http_client
from continuous_training.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

CHANNEL = "SLACK_WEBHOOK_URL"  # whoever knows the address may write there: it is a secret


def message(result: str, headline: str, environment: Mapping[str, str]) -> str:
    """Say in a line which run ended how, with its address if it has one.

    `headline` is what its report says; the rest is what Jenkins calls the run.
    """
    name = f"{environment.get('JOB_NAME', 'run')} #{environment.get('BUILD_NUMBER', '?')}"
    address = environment.get("BUILD_URL", "")
    return f"{result}: {plain(name)} - {plain(headline)}" + (f" <{address}|open>" if address else "")


def plain(text: str) -> str:
    """Write a text so that it mentions nobody and links to nothing.

    The three characters are those of https://docs.slack.dev/messaging/formatting-message-text.
    """
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def send(text: str) -> None:
    """Post a message to the channel of SLACK_WEBHOOK_URL.

    Raises:
        UserError: the variable is not set, or the message did not arrive. The address is not named: it is a secret.
    """
    address = os.environ.get(CHANNEL, "").strip()
    if not address:
        raise UserError(f"{CHANNEL} is not set: it is the address of the channel's incoming webhook")
    answer = http_client.post(address, {"text": text}, f"the channel of {CHANNEL}")
    if not answer.ok or answer.is_redirect:
        raise UserError(f"the channel of {CHANNEL} answers {answer.status_code}: is the webhook still there?")
