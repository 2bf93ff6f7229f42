"""Notify: the message to a channel, and that errors do not contain its secret address."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from continuous_training import http_client
from continuous_training.errors import UserError
from continuous_training.jenkins import notifications
from http_stub import Request, http_stub

SECRET = "/services/T0/B0/5ecr3t"


@dataclass
class Channel:
    """A stub of a webhook: the statuses of its responses, the last one repeated, and the messages posted to it."""

    statuses: list[int]
    address: str = ""
    messages: list[dict[str, str]] = field(default_factory=list)


@contextmanager
def channel(*statuses: int) -> Iterator[Channel]:
    stub = Channel(list(statuses))

    def respond(request: Request) -> tuple[int, str]:
        stub.messages.append(json.loads(request.body))
        return stub.statuses.pop(0) if len(stub.statuses) > 1 else stub.statuses[0], ""

    with http_stub(respond) as address:
        stub.address = f"{address}{SECRET}"
        yield stub


def test_the_message_has_the_result_the_run_the_outcome_and_a_link() -> None:
    jenkins = {"JOB_NAME": "model/main", "BUILD_NUMBER": "7", "BUILD_URL": "https://jenkins.example.com/7/"}
    assert notifications.format_message("UNSTABLE", "Rejected: the champion, version 2, stays", jenkins) == (
        "UNSTABLE: model/main #7 - Rejected: the champion, version 2, stays <https://jenkins.example.com/7/|open>"
    )


def test_names_are_escaped() -> None:
    message = notifications.format_message(
        "FAILURE", "<!channel> & co", {"JOB_NAME": "model/<@U1>", "BUILD_NUMBER": "7"}
    )
    assert message == "FAILURE: model/&lt;@U1&gt; #7 - &lt;!channel&gt; &amp; co"


def test_the_message_is_posted_to_the_channel(monkeypatch: pytest.MonkeyPatch) -> None:
    with channel(200) as stub:
        monkeypatch.setenv(notifications.CHANNEL, stub.address)
        notifications.send("SUCCESS: model/main #7")
    assert stub.messages == [{"text": "SUCCESS: model/main #7"}]


def test_the_message_is_posted_again_to_a_busy_channel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "RETRIES", http_client.RETRIES.new(backoff_factor=0))
    with channel(503, 429, 200) as stub:
        monkeypatch.setenv(notifications.CHANNEL, stub.address)
        notifications.send("SUCCESS: model/main #7")
    assert len(stub.messages) == 3


def test_a_deleted_webhook_is_reported_without_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    with channel(404) as stub:
        monkeypatch.setenv(notifications.CHANNEL, stub.address)
        with pytest.raises(UserError, match="answers 404: does the webhook still exist") as error:
            notifications.send("SUCCESS")
    assert SECRET not in str(error.value)
    assert len(stub.messages) == 1


def test_an_unreachable_channel_is_reported_without_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "RETRIES", http_client.RETRIES.new(backoff_factor=0))
    with channel(200) as stub:
        address = stub.address
    monkeypatch.setenv(notifications.CHANNEL, address)
    with pytest.raises(UserError, match="cannot be reached") as error:
        notifications.send("SUCCESS")
    assert SECRET not in str(error.value)


def test_without_a_channel_the_error_names_the_variable() -> None:
    with pytest.raises(UserError, match="SLACK_WEBHOOK_URL is not set"):
        notifications.send("SUCCESS")
