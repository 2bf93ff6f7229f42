"""Whether a real controller does what this repository says: `scripts/ct test --jenkins URL`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from conftest import ROOT
from continuous_training.model_packages import default_model
from continuous_training.settings import load_settings
from controller import checks
from controller.client import Build, Controller
from controller.credentials import Access, Secret
from controller.local_runs import Here

JENKINSFILES = [ROOT / "Jenkinsfile", *sorted((ROOT / "jenkins").glob("*.Jenkinsfile"))]
WRONG = Secret("not-the-one")


@pytest.fixture(scope="module")
def webhook(access: Access) -> Secret:
    if not access.webhook:
        pytest.skip("WEBHOOK_TOKEN is not set: pings that have it are not checked")
    return access.webhook


@pytest.fixture(scope="module")
def github(access: Access) -> Secret:
    if not access.github:
        pytest.skip("GITHUB_WEBHOOK_SECRET is not set: pushes that are signed with it are not checked")
    return access.github


@pytest.fixture(scope="module")
def as_of() -> str:
    """The day on which a run without AS_OF stands, so that what the checks start finds what other runs find."""
    declared = load_settings(default_model()).data.clock
    return (declared or datetime.now(UTC).date()).isoformat()


@pytest.fixture(scope="module")
def started(controller: Controller, as_of: str) -> Build:
    return checks.runs_with_parameters(controller, as_of)


@contextmanager
def where_possible() -> Iterator[None]:
    try:
        yield
    except checks.NotHere as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize("jenkinsfile", JENKINSFILES, ids=lambda path: path.name)
def test_jenkins_accepts(controller: Controller, jenkinsfile: Path) -> None:
    checks.is_accepted(controller, jenkinsfile)


@pytest.mark.parametrize("token", [None, WRONG], ids=["no token", "a wrong token"])
def test_no_ping_comes_in_with(controller: Controller, token: Secret | None) -> None:
    checks.lets_nobody_in(controller, token)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param('{"trigger": "drift", "reason": "REASON"', id="is malformed"),
        pytest.param("", id="is empty"),
        pytest.param(json.dumps({"trigger": "manual", "reason": "REASON"}), id="is about something else"),
        pytest.param(
            json.dumps({"trigger": "drift", "reason": "REASON", "as_of": "today"}), id="has no date for as_of"
        ),
    ],
)
def test_no_run_is_started_by_a_ping_that(controller: Controller, webhook: Secret, body: str) -> None:
    checks.starts_nothing(controller, webhook, body)


@pytest.mark.parametrize("secret", [None, WRONG], ids=["no signature", "a wrong signature"])
def test_no_push_comes_in_with(controller: Controller, secret: Secret | None) -> None:
    checks.refuses_push(controller, secret)


def test_a_push_that_github_has_signed_is_taken(controller: Controller, github: Secret) -> None:
    checks.takes_push(controller, github)


def test_a_push_of_a_new_commit_starts_a_run_of_it(controller: Controller, github: Secret) -> None:
    with where_possible():
        checks.is_started_by_push(controller, github)


def test_a_run_started_by_hand_has_its_parameters_and_ends_without_a_fault(started: Build) -> None:
    assert started.parameters["TRIGGER"] == "manual"


def test_its_stages_and_results_are_those_of_ct_run(
    controller: Controller, started: Build, minutes: float, tmp_path: Path
) -> None:
    with where_possible():
        checks.is_as_here(controller, started, Here(ROOT, tmp_path, minutes))


def test_equal_pings_about_drift_start_one_run_with_what_they_say(
    controller: Controller, webhook: Secret, as_of: str
) -> None:
    checks.is_started_once_by_equal_pings(controller, webhook, as_of)
