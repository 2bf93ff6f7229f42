"""Notify: tell a channel what became of a run, through its incoming webhook as Slack, Mattermost and others have it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import requests
from requests.adapters import HTTPAdapter
from urllib3 import Retry

from continuous_training.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

CHANNEL = "SLACK_WEBHOOK_URL"  # whoever knows the address may write there: it is a secret
SECONDS = 10
AGAIN = Retry(total=3, backoff_factor=1, status_forcelist=(429, 502, 503, 504), allowed_methods={"POST"})


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
    """Post a message to the channel of SLACK_WEBHOOK_URL; busy servers are asked four times in all.

    Raises:
        Problem: the variable is not set, or the message did not arrive. The address is not named: it is a secret.
    """
    address = os.environ.get(CHANNEL, "").strip()
    if not address:
        raise Problem(f"{CHANNEL} is not set: it is the address of the channel's incoming webhook")
    with requests.Session() as session:
        for scheme in ("https://", "http://"):
            session.mount(scheme, HTTPAdapter(max_retries=AGAIN))
        try:
            answer = session.post(address, json={"text": text}, timeout=SECONDS)
        except requests.RequestException as error:
            raise Problem(f"the channel of {CHANNEL} cannot be reached ({type(error).__name__})") from None
    if not answer.ok:
        raise Problem(f"the channel of {CHANNEL} answers {answer.status_code}: is the webhook still there?")
