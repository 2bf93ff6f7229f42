"""The checks of a real controller: `scripts/ct test --jenkins URL`."""

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
from controller.credentials import Credentials, Secret
from controller.local_runs import LocalRuns

JENKINSFILES = [ROOT / "Jenkinsfile", *sorted((ROOT / "jenkins").glob("*.Jenkinsfile"))]
WRONG_SECRET = Secret("not-the-one")


@pytest.fixture(scope="module")
def webhook_token(credentials: Credentials) -> Secret:
    if not credentials.webhook_token:
        pytest.skip("WEBHOOK_TOKEN is not set: pings with it are not checked")
    return credentials.webhook_token


@pytest.fixture(scope="module")
def github_secret(credentials: Credentials) -> Secret:
    if not credentials.github_secret:
        pytest.skip("GITHUB_WEBHOOK_SECRET is not set: pushes with its signature are not checked")
    return credentials.github_secret


@pytest.fixture(scope="module")
def as_of() -> str:
    """Return the date of a run without AS_OF, so that the checks train nothing that other runs have trained."""
    clock = load_settings(default_model()).data.clock
    return (clock or datetime.now(UTC).date()).isoformat()


@pytest.fixture(scope="module")
def manual_build(controller: Controller, as_of: str) -> Build:
    return checks.check_manual_build(controller, as_of)


@contextmanager
def skipped_if_inapplicable() -> Iterator[None]:
    try:
        yield
    except checks.Inapplicable as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize("jenkinsfile", JENKINSFILES, ids=lambda path: path.name)
def test_jenkins_accepts_the_jenkinsfile(controller: Controller, jenkinsfile: Path) -> None:
    checks.check_jenkinsfile(controller, jenkinsfile)


@pytest.mark.parametrize("token", [None, WRONG_SECRET], ids=["no token", "a wrong token"])
def test_a_ping_without_the_token_is_refused(controller: Controller, token: Secret | None) -> None:
    checks.check_ping_is_refused(controller, token)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param('{"trigger": "drift", "reason": "REASON"', id="malformed"),
        pytest.param("", id="empty"),
        pytest.param(json.dumps({"trigger": "manual", "reason": "REASON"}), id="another trigger"),
        pytest.param(json.dumps({"trigger": "drift", "reason": "REASON", "as_of": "today"}), id="as_of is no date"),
    ],
)
def test_an_invalid_ping_starts_nothing(controller: Controller, webhook_token: Secret, body: str) -> None:
    checks.check_ping_starts_nothing(controller, webhook_token, body)


@pytest.mark.parametrize("secret", [None, WRONG_SECRET], ids=["no signature", "a wrong signature"])
def test_a_push_without_githubs_signature_is_refused(controller: Controller, secret: Secret | None) -> None:
    checks.check_push_is_refused(controller, secret)


def test_a_push_with_githubs_signature_is_accepted(controller: Controller, github_secret: Secret) -> None:
    checks.check_push_is_accepted(controller, github_secret)


def test_the_push_of_a_new_commit_starts_a_build_of_it(controller: Controller, github_secret: Secret) -> None:
    with skipped_if_inapplicable():
        checks.check_push_starts_build(controller, github_secret)


def test_a_manual_build_has_its_parameters_and_does_not_fail(manual_build: Build) -> None:
    assert manual_build.parameters["TRIGGER"] == "manual"


def test_a_manual_build_has_the_stages_and_results_of_a_local_run(
    controller: Controller, manual_build: Build, minutes: float, tmp_path: Path
) -> None:
    with skipped_if_inapplicable():
        checks.check_stages(controller, manual_build, LocalRuns(ROOT, tmp_path, minutes))


def test_equal_pings_about_drift_start_one_build_with_their_parameters(
    controller: Controller, webhook_token: Secret, as_of: str
) -> None:
    checks.check_equal_pings(controller, webhook_token, as_of)
