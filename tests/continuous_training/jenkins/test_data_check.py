"""The job data-check: what Airbyte's notifications start, as the Generic Webhook Trigger maps them.

The payloads in airbyte/ have the shape of Airbyte's own, by its documentation and its source, and the values of an
invented workspace; test.json is what its button «Test» sends.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT
from controller import hooks
from jenkinsfile.syntax.parser import parse

PIPELINE = parse((ROOT / "jenkins/data-check.Jenkinsfile").read_text(), "data-check.Jenkinsfile")
TRIGGER = hooks.Trigger(PIPELINE)
PAYLOADS = Path(__file__).parent / "airbyte"


def resolved(name: str, **changed: Any) -> dict[str, str]:
    """Give the variables that a notification gives, of which some data may be otherwise."""
    payload = json.loads((PAYLOADS / f"{name}.json").read_text())
    if changed:
        payload["data"] |= changed
    return TRIGGER.resolved(json.dumps(payload))


def test_a_successful_sync_starts_the_check_with_its_connection_and_its_rows() -> None:
    found = resolved("succeeded")
    assert TRIGGER.fits(found)
    assert found["AIRBYTE_CONNECTION"] == "Flights → warehouse"
    assert found["AIRBYTE_ROWS"] == "20000"
    assert TRIGGER.rendered(TRIGGER.cause, found) == "Airbyte synced Flights → warehouse"


@pytest.mark.parametrize(
    "found",
    [
        resolved("failed"),
        resolved("failed", recordsCommitted=7),
        resolved("succeeded", recordsCommitted=0),
        resolved("test"),
        TRIGGER.resolved('{"trigger": "data", "reason": "a ping for main"}'),
        TRIGGER.resolved('{"data": "true/1"}'),
        TRIGGER.resolved("no JSON"),
        {},
    ],
)
def test_a_sync_that_failed_or_brought_nothing_and_anything_else_start_nothing(found: dict[str, str]) -> None:
    assert not TRIGGER.fits(found)


def test_a_connection_of_any_name_cannot_pass_for_a_success() -> None:
    assert not TRIGGER.fits(resolved("failed", connection={"name": "true/1"}))


def test_what_is_handed_on_becomes_parameters_that_there_are_and_variables_of_the_environment() -> None:
    declared = [
        one.value.text.strip("'") for call in PIPELINE.parameters for one in call.arguments if one.name == "name"
    ]
    assert declared == ["AIRBYTE_CONNECTION", "AIRBYTE_ROWS"]
    assert set(declared) < resolved("succeeded").keys()
    mapped = {variable.name: variable.value.text for variable in PIPELINE.environment}
    assert [mapped[name] for name in declared] == [f'"${{params.{name}}}"' for name in declared]


def test_its_token_is_not_that_of_pings_because_it_stands_in_an_address() -> None:
    [trigger] = [call for call in PIPELINE.triggers if call.name == "GenericTrigger"]
    given = {one.name: one.value.text for one in trigger.arguments}
    assert given["tokenCredentialId"] == "'airbyte-webhook-token'"
    assert hooks.shown({}, {"token": "of-airbyte"}) == "of-airbyte"
