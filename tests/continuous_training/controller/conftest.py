"""The controller that `ct test --jenkins URL` names; without one its checks are skipped."""

from __future__ import annotations

import pytest

from continuous_training.errors import UserError
from controller.client import Controller
from controller.credentials import Access


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take the controller's address; not from JENKINS_URL, which every build on Jenkins has."""
    parser.addoption("--jenkins", metavar="URL", help="check the controller there, and start runs on it")
    parser.addoption("--jenkins-minutes", metavar="N", type=float, default=60, help="wait for each of them so long")


@pytest.fixture(scope="session")
def minutes(request: pytest.FixtureRequest) -> float:
    """How long whoever calls wants to wait for a run."""
    return float(request.config.getoption("--jenkins-minutes", default=60))


@pytest.fixture(scope="session")
def access() -> Access:
    """The environment's secrets."""
    return Access.find()


@pytest.fixture(scope="session")
def controller(request: pytest.FixtureRequest, access: Access, minutes: float) -> Controller:
    """The controller, once it has the job."""
    url = request.config.getoption("--jenkins", default=None)
    if not url:
        pytest.skip("no controller is given: scripts/ct test --jenkins URL")
    if not (access.user and access.token):
        pytest.skip("JENKINS_USER_ID and JENKINS_API_TOKEN are not set: nobody is logged in")
    found = Controller(url, access, minutes)
    try:
        found.user()
        found.ready()
    except UserError as problem:  # once: it is the same for every check
        pytest.exit(str(problem), returncode=UserError.exit_code)
    return found
