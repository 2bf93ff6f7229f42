"""The ping, sent to a stub of Jenkins' webhook."""

from __future__ import annotations

import pytest

from continuous_training import http_client
from continuous_training.errors import UserError
from continuous_training.jenkins import ping
from jenkins_stub import TOKEN, jenkins

DRIFT_PING = ping.Ping(
    trigger="drift",
    reason="version 3: x has drifted",
    as_of="2020-03-20",
    model="toy",
    model_version="3",
    evidence="runs:/7",
)


@pytest.fixture(autouse=True)
def _no_delay_between_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "RETRIES", http_client.RETRIES.new(backoff_factor=0))
    monkeypatch.setenv("WEBHOOK_TOKEN", TOKEN)


def test_a_ping_has_trigger_reason_date_model_version_and_evidence() -> None:
    with jenkins() as stub:
        assert ping.send(stub.url + "/", DRIFT_PING) == ["model/main"]
    assert stub.pings == [
        {
            "trigger": "drift",
            "reason": "version 3: x has drifted",
            "as_of": "2020-03-20",
            "model": "toy",
            "model_version": "3",
            "evidence": "runs:/7",
        }
    ]


def test_a_ping_without_a_date_has_no_such_key() -> None:
    with jenkins() as stub:
        ping.send(stub.url, DRIFT_PING.model_copy(update={"as_of": None}))
    assert "as_of" not in stub.pings[0]


def test_a_ping_without_evidence_has_no_such_key() -> None:
    with jenkins() as stub:
        ping.send(stub.url, DRIFT_PING.model_copy(update={"trigger": "data", "evidence": None}))
    assert (stub.pings[0]["trigger"], "evidence" in stub.pings[0]) == ("data", False)


def test_a_ping_to_a_busy_jenkins_is_repeated_and_triggers_once() -> None:
    with jenkins(busy=2) as stub:
        ping.send(stub.url, DRIFT_PING)
    assert (stub.requests, len(stub.pings)) == (3, 1)


def test_a_ping_to_a_jenkins_that_stays_busy_fails() -> None:
    with jenkins(busy=99) as stub, pytest.raises(UserError, match="cannot be reached"):
        ping.send(stub.url, DRIFT_PING)
    assert stub.requests == 4


def test_a_wrong_token_is_reported_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBHOOK_TOKEN", "another")
    with jenkins() as stub, pytest.raises(UserError, match="no job for this token: does WEBHOOK_TOKEN") as error:
        ping.send(stub.url, DRIFT_PING)
    assert "another" not in str(error.value)


@pytest.mark.parametrize(
    ("token", "message"), [("", "WEBHOOK_TOKEN is not set"), ("a b", "WEBHOOK_TOKEN is not a valid token")]
)
def test_no_request_is_sent_without_a_valid_token(token: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBHOOK_TOKEN", token)
    with jenkins() as stub, pytest.raises(UserError, match=message):
        ping.send(stub.url, DRIFT_PING)
    assert stub.requests == 0


def test_a_ping_that_triggers_no_job_is_an_error() -> None:
    with jenkins(triggers=False) as stub, pytest.raises(UserError, match="triggered no job"):
        ping.send(stub.url, DRIFT_PING)


def test_an_unreachable_jenkins_is_reported_without_its_password() -> None:
    with jenkins() as stub:
        address = stub.url
    with pytest.raises(UserError, match="cannot be reached") as error:
        ping.send(address.replace("http://", "http://pinger:pa55@"), DRIFT_PING)
    assert "pa55" not in str(error.value)


def test_the_request_is_shown_without_the_token() -> None:
    text = DRIFT_PING.request("https://jenkins.example.com/")
    assert text.startswith("POST https://jenkins.example.com/generic-webhook-trigger/invoke\n{")
    assert TOKEN not in text
