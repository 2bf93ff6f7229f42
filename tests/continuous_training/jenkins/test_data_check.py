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


def variables_of(name: str, **changes: Any) -> dict[str, str]:
    """Return the variables of a notification, with changes of its data."""
    payload = json.loads((PAYLOADS / f"{name}.json").read_text())
    if changes:
        payload["data"] |= changes
    return TRIGGER.resolve_variables(json.dumps(payload))


def test_a_successful_sync_starts_the_check_with_its_connection_and_its_rows() -> None:
    variables = variables_of("succeeded")
    assert TRIGGER.matches(variables)
    assert variables["AIRBYTE_CONNECTION"] == "Flights → warehouse"
    assert variables["AIRBYTE_ROWS"] == "20000"
    assert TRIGGER.render(TRIGGER.cause, variables) == "Airbyte synced Flights → warehouse"


@pytest.mark.parametrize(
    "variables",
    [
        variables_of("failed"),
        variables_of("failed", recordsCommitted=7),
        variables_of("succeeded", recordsCommitted=0),
        variables_of("test"),
        TRIGGER.resolve_variables('{"trigger": "data", "reason": "a ping for main"}'),
        TRIGGER.resolve_variables('{"data": "true/1"}'),
        TRIGGER.resolve_variables("no JSON"),
        {},
    ],
)
def test_failed_and_empty_syncs_and_other_requests_start_nothing(variables: dict[str, str]) -> None:
    assert not TRIGGER.matches(variables)


def test_the_name_of_a_connection_cannot_imitate_a_success() -> None:
    assert not TRIGGER.matches(variables_of("failed", connection={"name": "true/1"}))


def test_the_variables_of_the_trigger_are_declared_parameters_and_environment_variables() -> None:
    parameters = [
        argument.value.text.strip("'")
        for call in PIPELINE.parameters
        for argument in call.arguments
        if argument.name == "name"
    ]
    assert parameters == ["AIRBYTE_CONNECTION", "AIRBYTE_ROWS"]
    assert set(parameters) < variables_of("succeeded").keys()
    variables = {variable.name: variable.value.text for variable in PIPELINE.environment}
    assert [variables[name] for name in parameters] == [f'"${{params.{name}}}"' for name in parameters]


def test_its_token_which_is_in_a_url_is_not_that_of_pings() -> None:
    [trigger] = [call for call in PIPELINE.triggers if call.name == "GenericTrigger"]
    arguments = {argument.name: argument.value.text for argument in trigger.arguments}
    assert arguments["tokenCredentialId"] == "'airbyte-webhook-token'"
    assert webhooks.read_token({}, {"token": "airbyte"}) == "airbyte"
