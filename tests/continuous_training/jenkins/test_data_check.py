"""The job data-check: which notifications of Airbyte start it, and with which parameters.

The payloads in airbyte/ have the format of Airbyte's documentation and source, with invented values; test.json is sent
by its button «Test».
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT
from controller import webhooks
from jenkinsfile.syntax.parser import parse

PIPELINE = parse((ROOT / "jenkins/data-check.Jenkinsfile").read_text(), "data-check.Jenkinsfile")
TRIGGER = webhooks.Trigger(PIPELINE)
PAYLOADS = Path(__file__).parent / "airbyte"


def resolved(name: str, **changed: Any) -> dict[str, str]:
    """Return the variables of a notification, some of whose data are changed."""
    payload = json.loads((PAYLOADS / f"{name}.json").read_text())
    if changed:
        payload["data"] |= changed
    return TRIGGER.resolved(json.dumps(payload))


def test_a_successful_sync_starts_the_check_with_its_connection_and_its_rows() -> None:
    variables = resolved("succeeded")
    assert TRIGGER.fits(variables)
    assert variables["AIRBYTE_CONNECTION"] == "Flights → warehouse"
    assert variables["AIRBYTE_ROWS"] == "20000"
    assert TRIGGER.rendered(TRIGGER.cause, variables) == "Airbyte synced Flights → warehouse"


@pytest.mark.parametrize(
    "variables",
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
def test_failed_and_empty_syncs_and_other_requests_start_nothing(variables: dict[str, str]) -> None:
    assert not TRIGGER.fits(variables)


def test_the_name_of_a_connection_cannot_imitate_a_success() -> None:
    assert not TRIGGER.fits(resolved("failed", connection={"name": "true/1"}))


def test_the_variables_of_the_trigger_are_declared_parameters_and_environment_variables() -> None:
    declared = [
        argument.value.text.strip("'")
        for call in PIPELINE.parameters
        for argument in call.arguments
        if argument.name == "name"
    ]
    assert declared == ["AIRBYTE_CONNECTION", "AIRBYTE_ROWS"]
    assert set(declared) < resolved("succeeded").keys()
    mapped = {variable.name: variable.value.text for variable in PIPELINE.environment}
    assert [mapped[name] for name in declared] == [f'"${{params.{name}}}"' for name in declared]


def test_its_token_which_is_in_a_url_is_not_that_of_pings() -> None:
    [trigger] = [call for call in PIPELINE.triggers if call.name == "GenericTrigger"]
    arguments = {argument.name: argument.value.text for argument in trigger.arguments}
    assert arguments["tokenCredentialId"] == "'airbyte-webhook-token'"
    assert webhooks.shown({}, {"token": "airbyte"}) == "airbyte"
