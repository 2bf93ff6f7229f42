"""The ping: a real HTTP server stands for Jenkins, and hears it once, however busy it is."""

from __future__ import annotations

import pytest

from continuous_training import http_client
from continuous_training.errors import UserError
from continuous_training.jenkins import ping
from jenkins_stub import TOKEN, jenkins

DRIFTED = ping.Ping(
    trigger="drift",
    reason="version 3: x moved",
    as_of="2020-03-20",
    model="toy",
    model_version="3",
    evidence="runs:/7",
)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "RETRIES", http_client.RETRIES.new(backoff_factor=0))
    monkeypatch.setenv("WEBHOOK_TOKEN", TOKEN)


def test_jenkins_hears_trigger_reason_date_version_and_evidence() -> None:
    with jenkins() as there:
        assert ping.send(there.url + "/", DRIFTED) == ["model/main"]
    assert there.pings == [
        {
            "trigger": "drift",
            "reason": "version 3: x moved",
            "as_of": "2020-03-20",
            "model": "toy",
            "model_version": "3",
            "evidence": "runs:/7",
        }
    ]


def test_without_a_date_none_is_sent_because_jenkins_would_take_it_for_one() -> None:
    with jenkins() as there:
        ping.send(there.url, DRIFTED.model_copy(update={"as_of": None}))
    assert "as_of" not in there.pings[0]


def test_without_evidence_none_is_sent() -> None:
    with jenkins() as there:
        ping.send(there.url, DRIFTED.model_copy(update={"trigger": "data", "evidence": None}))
    assert (there.pings[0]["trigger"], "evidence" in there.pings[0]) == ("data", False)


def test_a_busy_jenkins_is_asked_again_and_hears_it_once() -> None:
    with jenkins(busy=2) as there:
        ping.send(there.url, DRIFTED)
    assert (there.asked, len(there.pings)) == (3, 1)


def test_a_jenkins_that_stays_busy_is_given_up() -> None:
    with jenkins(busy=99) as there, pytest.raises(UserError, match="cannot be reached"):
        ping.send(there.url, DRIFTED)
    assert there.asked == 4


def test_a_wrong_token_is_said_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBHOOK_TOKEN", "another")
    with jenkins() as there, pytest.raises(UserError, match="no job for this token: does WEBHOOK_TOKEN") as raised:
        ping.send(there.url, DRIFTED)
    assert "another" not in str(raised.value)


@pytest.mark.parametrize(
    ("token", "message"), [("", "WEBHOOK_TOKEN is not set"), ("a b", "WEBHOOK_TOKEN is not a valid token")]
)
def test_without_a_token_nobody_is_asked(token: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBHOOK_TOKEN", token)
    with jenkins() as there, pytest.raises(UserError, match=message):
        ping.send(there.url, DRIFTED)
    assert there.asked == 0


def test_a_ping_that_starts_nothing_is_an_error() -> None:
    with jenkins(triggers=False) as there, pytest.raises(UserError, match="triggered no job"):
        ping.send(there.url, DRIFTED)


def test_nobody_there_is_said_without_a_password() -> None:
    with jenkins() as there:
        address = there.url
    with pytest.raises(UserError, match="cannot be reached") as raised:
        ping.send(address.replace("http://", "http://pinger:pa55@"), DRIFTED)
    assert "pa55" not in str(raised.value)


def test_the_request_is_shown_without_the_token() -> None:
    shown = DRIFTED.request("https://jenkins.example.com/")
    assert shown.startswith("POST https://jenkins.example.com/generic-webhook-trigger/invoke\n{")
    assert TOKEN not in shown
