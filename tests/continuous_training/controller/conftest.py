"""The controller of `ct test --jenkins URL`; without the option its checks are skipped."""

from __future__ import annotations

import pytest

from continuous_training.errors import UserError
from controller.client import Controller
from controller.credentials import Credentials


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the controller's URL as an option: every build on Jenkins has a JENKINS_URL."""
    parser.addoption("--jenkins", metavar="URL", help="check the controller at this URL, and start runs on it")
    parser.addoption("--jenkins-minutes", metavar="N", type=float, default=60, help="the timeout of each run")


@pytest.fixture(scope="session")
def minutes(request: pytest.FixtureRequest) -> float:
    """Return the timeout of each run."""
    return float(request.config.getoption("--jenkins-minutes", default=60))


@pytest.fixture(scope="session")
def credentials() -> Credentials:
    """Return the environment's credentials."""
    return Credentials.from_environment()


@pytest.fixture(scope="session")
def controller(request: pytest.FixtureRequest, credentials: Credentials, minutes: float) -> Controller:
    """Return the controller, once its job has parameters and triggers."""
    url = request.config.getoption("--jenkins", default=None)
    if not url:
        pytest.skip("needs a controller: scripts/ct test --jenkins URL")
    if not (credentials.user and credentials.token):
        pytest.skip("JENKINS_USER_ID and JENKINS_API_TOKEN are not set")
    controller = Controller(url, credentials, minutes)
    try:
        controller.user()
        controller.wait_for_first_build()
    except UserError as error:  # once, because it is the same for every check
        pytest.exit(str(error), returncode=UserError.exit_code)
    return controller
