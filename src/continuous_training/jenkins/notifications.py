"""Notifications: post the result of a run to a channel's incoming webhook (Slack, Mattermost and compatible)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from continuous_training import http_client
from continuous_training.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

CHANNEL = "SLACK_WEBHOOK_URL"  # a secret: anybody with this URL can post to the channel


def format_message(result: str, headline: str, environment: Mapping[str, str]) -> str:
    """Return the result of a run as one line, with the build's URL if it has one.

    `headline` comes from the report; the rest comes from Jenkins' environment variables.
    """
    name = f"{environment.get('JOB_NAME', 'run')} #{environment.get('BUILD_NUMBER', '?')}"
    address = environment.get("BUILD_URL", "")
    return f"{result}: {escape(name)} - {escape(headline)}" + (f" <{address}|open>" if address else "")


def escape(text: str) -> str:
    """Escape a text so that it contains no mentions and no links.

    The three characters are listed in https://docs.slack.dev/messaging/formatting-message-text.
    """
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def send(text: str) -> None:
    """Post a message to the channel of SLACK_WEBHOOK_URL.

    Raises:
        UserError: the variable is not set, or the request failed. The URL is secret and not in the message.
    """
    address = os.environ.get(CHANNEL, "").strip()
    if not address:
        raise UserError(f"{CHANNEL} is not set: set it to the URL of the channel's incoming webhook")
    response = http_client.post(address, {"text": text}, f"the channel of {CHANNEL}")
    if not response.ok or response.is_redirect:
        raise UserError(f"the channel of {CHANNEL} answers {response.status_code}: does the webhook still exist?")
