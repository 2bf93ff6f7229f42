"""Notify: a channel hears of a run, whoever it is that answers there, and nobody else hears of the channel."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from continuous_training import http_client
from continuous_training.errors import UserError
from continuous_training.jenkins import notifications
from listening import Heard, listening

SECRET = "/services/T0/B0/5ecr3t"


@dataclass
class Channel:
    """What a channel is asked, and what it answers: its last answer for ever."""

    answers: list[int]
    address: str = ""
    heard: list[dict[str, str]] = field(default_factory=list)


@contextmanager
def channel(*answers: int) -> Iterator[Channel]:
    here = Channel(list(answers))

    def answer(heard: Heard) -> tuple[int, str]:
        here.heard.append(json.loads(heard.body))
        return here.answers.pop(0) if len(here.answers) > 1 else here.answers[0], ""

    with listening(answer) as address:
        here.address = f"{address}{SECRET}"
        yield here


def test_it_says_which_run_ended_how_and_where_to_look() -> None:
    jenkins = {"JOB_NAME": "model/main", "BUILD_NUMBER": "7", "BUILD_URL": "https://jenkins.example.com/7/"}
    assert notifications.format_message("UNSTABLE", "Rejected: the champion, version 2, stays", jenkins) == (
        "UNSTABLE: model/main #7 - Rejected: the champion, version 2, stays <https://jenkins.example.com/7/|open>"
    )


def test_what_a_branch_is_called_mentions_nobody_and_links_nowhere() -> None:
    message = notifications.format_message(
        "FAILURE", "<!channel> & co", {"JOB_NAME": "model/<@U1>", "BUILD_NUMBER": "7"}
    )
    assert message == "FAILURE: model/&lt;@U1&gt; #7 - &lt;!channel&gt; &amp; co"


def test_the_channel_hears_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with channel(200) as there:
        monkeypatch.setenv(notifications.CHANNEL, there.address)
        notifications.send("SUCCESS: model/main #7")
    assert there.heard == [{"text": "SUCCESS: model/main #7"}]


def test_a_busy_channel_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "RETRIES", http_client.RETRIES.new(backoff_factor=0))
    with channel(503, 429, 200) as there:
        monkeypatch.setenv(notifications.CHANNEL, there.address)
        notifications.send("SUCCESS: model/main #7")
    assert len(there.heard) == 3


def test_a_webhook_that_is_gone_is_said_without_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    with channel(404) as there:
        monkeypatch.setenv(notifications.CHANNEL, there.address)
        with pytest.raises(UserError, match="answers 404: does the webhook still exist") as raised:
            notifications.send("SUCCESS")
    assert SECRET not in str(raised.value)
    assert len(there.heard) == 1


def test_nobody_there_is_said_without_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "RETRIES", http_client.RETRIES.new(backoff_factor=0))
    with channel(200) as there:
        address = there.address
    monkeypatch.setenv(notifications.CHANNEL, address)
    with pytest.raises(UserError, match="cannot be reached") as raised:
        notifications.send("SUCCESS")
    assert SECRET not in str(raised.value)


def test_without_a_channel_it_says_what_to_set() -> None:
    with pytest.raises(UserError, match="SLACK_WEBHOOK_URL is not set"):
        notifications.send("SUCCESS")
