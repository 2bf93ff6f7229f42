"""A client of the HTTP API of a Jenkins controller, with the requests of the checks."""

from __future__ import annotations

import hmac
import json
import logging
import re
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from continuous_training.errors import UserError
from continuous_training.settings import BRANCH
from controller.credentials import Credentials, Secret
from jenkinsfile.builds.records import StageRecord
from jenkinsfile.builds.results import Result

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

FOLDER = "model"  # the multibranch job of casc.yaml
JOB = f"job/{FOLDER}/job/{BRANCH}"
JOB_NAME = f"{FOLDER}/{BRANCH}"  # the full name in plugins' responses
MAX_POLL_SECONDS = 5.0
LOG_SECONDS = 60  # between two log lines about the progress
TIMEOUT = (10, 60)  # seconds: to connect, and between two bytes of a response
PASSING = {Result.SUCCESS.name, Result.UNSTABLE.name}  # UNSTABLE: a rejected candidate is no failure

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Build:
    """A build that has ended: `source` is the URL of its repository."""

    number: int
    result: str
    url: str
    parameters: dict[str, str] = field(default_factory=dict)
    causes: tuple[str, ...] = ()
    commit: str | None = None
    source: str | None = None


class Controller:
    """A controller at a URL, for one user; `minutes` is the timeout of every wait for it."""

    def __init__(self, url: str, credentials: Credentials, minutes: float = 60) -> None:
        self.url = url.rstrip("/")
        self._credentials = credentials
        self._minutes = minutes
        self._crumb: dict[str, str] | None = None
        self._user_session = _create_session()
        self._user_session.auth = (credentials.user or "", credentials.token or "")
        self._anonymous_session = _create_session()
        self._anonymous_session.auth = lambda request: request  # without it, .netrc would supply credentials

    def user(self) -> str:
        """Return the name of the user that the credentials belong to.

        Raises:
            UserError: the controller regards the user as anonymous.
        """
        response = self._get_json("whoAmI/api/json")
        if response.get("anonymous", True):
            raise UserError(
                f"{self.url} regards {self._credentials.user} as anonymous: check JENKINS_USER_ID and JENKINS_API_TOKEN"
            )
        return str(response["name"])

    def wait_for_first_build(self) -> None:
        """Wait until the first build of the job has ended, which declares its parameters and triggers.

        Raises:
            UserError: it does not end in time, or declares no parameters.
        """

        def last_number() -> int | None:
            job = self._find_job("lastCompletedBuild[number]")
            return job["lastCompletedBuild"]["number"] if job and job["lastCompletedBuild"] else None

        scan = f"{self.url}/job/{FOLDER}/indexing/console"
        number = self._wait(last_number, f"the first build of {JOB_NAME} ends, which a branch scan starts (see {scan})")
        if not self.parameters():
            console = f"{self.url}/{JOB}/{number}/console"
            raise UserError(f"{JOB_NAME} has no parameters after its build {number}: see {console}")

    def parameters(self) -> set[str]:
        """Return the names of the job's parameters."""
        job = self._find_job("property[parameterDefinitions[name]]") or {"property": []}
        return {
            definition["name"]
            for job_property in job["property"]
            for definition in job_property.get("parameterDefinitions", [])
        }

    def lint(self, jenkinsfile: str) -> str:
        """Return the message of the controller's linter about a Jenkinsfile."""
        return self._post("pipeline-model-converter/validate", {"jenkinsfile": jenkinsfile}).text.strip()

    def start(self, parameters: dict[str, str]) -> int:
        """Start the job without a quiet period; return the item of the queue.

        Raises:
            UserError: the job does not start.
        """
        response = self._post(f"{JOB}/buildWithParameters", {**parameters, "delay": "0sec"})
        location = re.search(r"/queue/item/(\d+)", response.headers.get("Location", ""))
        if response.status_code != requests.codes.created or not location:
            raise UserError(
                f"{JOB_NAME} does not start: Jenkins responds with {response.status_code}; "
                f"does {self._credentials.user} have the permission?"
            )
        return int(location[1])  # not the URL, which starts with the one that Jenkins is configured with

    def wait_for_build(self, item: int) -> Build:
        """Wait until the build of an item of the queue has ended.

        Raises:
            UserError: it is cancelled, or does not end in time.
        """
        number = self._wait(lambda: self._build_number(item), f"the build of item {item} of the queue starts")
        log.info("build %s of %s: %s/%s/%s/", number, JOB_NAME, self.url, JOB, number)
        self._wait(lambda: self._has_ended(number), f"build {number} ends")
        return self.build(number)

    def build(self, number: int) -> Build:
        """Return a build that has ended."""
        response = self._get_json(
            f"{JOB}/{number}/api/json",
            tree="number,result,actions[parameters[name,value],causes[shortDescription],remoteUrls,lastBuiltRevision[SHA1]]",
        )
        causes = [cause["shortDescription"] for action in response["actions"] for cause in action.get("causes", [])]
        checkouts = [action for action in response["actions"] if action.get("lastBuiltRevision")]
        return Build(
            number=number,
            result=str(response["result"]),
            url=f"{self.url}/{JOB}/{number}/",
            parameters=_read_parameters(response),
            causes=tuple(causes),
            commit=checkouts[0]["lastBuiltRevision"]["SHA1"] if checkouts else None,
            source=checkouts[0]["remoteUrls"][0] if checkouts else None,
        )

    def last_build(self) -> Build:
        """Return the last build that has ended."""
        job = self._get_json(f"{JOB}/api/json", tree="lastCompletedBuild[number]")
        return self.build(job["lastCompletedBuild"]["number"])

    def artifact(self, number: int, path: str) -> dict[str, Any] | None:
        """Return a JSON document from a build's archive, or None if it is not there."""
        response = self._get(f"{JOB}/{number}/artifact/{path}")
        return self._read_json(response, path) if response.status_code != requests.codes.not_found else None

    def stages(self, number: int) -> list[StageRecord]:
        """Return a build's stages as Blue Ocean shows them.

        Stages whose `when` is false are NOT_BUILT, and parallel stages have the type PARALLEL; checkout and `post` are
        no stages. A skipped stage has no stages inside it. For a build that is not SUCCESS, Blue Ocean adds stages that
        only an earlier build had, without a result: they are left out.
        """
        runs = f"blue/rest/organizations/jenkins/pipelines/{FOLDER}/branches/{BRANCH}/runs"
        nodes = self._get_json(f"{runs}/{number}/nodes/", limit=1000)
        return [
            StageRecord(node["displayName"], int(node["type"] == "PARALLEL"), node["result"])
            for node in nodes
            if node["result"]
        ]

    def ping(self, body: str, token: Secret | None) -> requests.Response:
        """Send a ping as a monitor does, without a login."""
        headers = {"Content-Type": "application/json"}
        if token:
            headers["Authorization"] = Secret(f"Bearer {token}")
        return self._request(
            self._anonymous_session, "POST", "generic-webhook-trigger/invoke", data=body.encode(), headers=headers
        )

    def push(self, payload: dict[str, Any], secret: Secret | None) -> requests.Response:
        """Send a push as GitHub does, signed with a secret or without a signature."""
        body = json.dumps(payload).encode()
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "GitHub-Hookshot/0000000",
            "X-GitHub-Delivery": str(uuid.uuid4()),
            "X-GitHub-Event": "push",
        }
        if secret:
            for name, method in (("X-Hub-Signature", "sha1"), ("X-Hub-Signature-256", "sha256")):
                headers[name] = f"{method}={hmac.new(secret.encode(), body, method).hexdigest()}"
        return self._request(self._anonymous_session, "POST", "github-webhook/", data=body, headers=headers)

    def count_builds(self, reason: str) -> int:
        """Count the builds and the items of the queue with a reason; an item that becomes a build meanwhile is one."""
        # The queue first: an item that leaves it then is among the builds
        queue = self._get_json("queue/api/json", tree="items[id,actions[parameters[name,value]]]")
        job = self._get_json(f"{JOB}/api/json", tree="builds[queueId,actions[parameters[name,value]]]{0,20}")
        entries = [(item["id"], item) for item in queue["items"]]
        entries += [(build["queueId"], build) for build in job["builds"]]
        return len({item for item, entry in entries if _read_parameters(entry).get("REASON") == reason})

    def wait_for_commit(self, commit: str) -> Build:
        """Wait until the last build that has ended is of a commit."""

        def build_of_commit() -> Build | None:
            last = self.last_build()
            return last if last.commit == commit else None

        return self._wait(build_of_commit, f"a build of {commit[:12]} ends")

    def _find_job(self, tree: str) -> dict[str, Any] | None:
        response = self._get(f"{JOB}/api/json", tree=tree)
        return self._read_json(response, JOB) if response.status_code != requests.codes.not_found else None

    def _build_number(self, item: int) -> int | None:
        response = self._get_json(f"queue/item/{item}/api/json", tree="cancelled,executable[number]")
        if response.get("cancelled"):
            raise UserError(f"item {item} of the queue was cancelled before its build started")
        return response["executable"]["number"] if response.get("executable") else None

    def _has_ended(self, number: int) -> bool | None:
        response = self._get_json(f"{JOB}/{number}/api/json", tree="building,result")
        return True if response["result"] and not response["building"] else None

    def _wait(self, poll: Callable[[], T | None], condition: str) -> T:
        """Poll at growing intervals until there is a value.

        Raises:
            UserError: there is none in time.
        """
        start = last_logged = time.monotonic()
        pause = 0.1
        while not (value := poll()):
            now = time.monotonic()
            if now > start + self._minutes * 60:
                raise UserError(f"timeout after {self._minutes:g} minutes: waited until {condition}; see --minutes")
            if now > last_logged + LOG_SECONDS:
                last_logged = now
                log.info("%.0f min: waiting until %s", (now - start) / 60, condition)
            time.sleep(pause)
            pause = min(pause * 1.5, MAX_POLL_SECONDS)
        return value

    def _get_json(self, path: str, **parameters: str | int) -> Any:
        return self._read_json(self._get(path, **parameters), path)

    def _read_json(self, response: requests.Response, path: str) -> Any:
        if response.status_code != requests.codes.ok:
            raise UserError(f"{self.url}/{path}: Jenkins responds with {response.status_code}")
        try:
            return response.json()
        except ValueError:
            raise UserError(f"{self.url}/{path} is no JSON: is this the URL of Jenkins?") from None

    def _get(self, path: str, **parameters: str | int) -> requests.Response:
        return self._check_permission(self._request(self._user_session, "GET", path, params=parameters))

    def _post(self, path: str, form: dict[str, str]) -> requests.Response:
        """Post a form with a crumb, which Jenkins requires with a password, not with an API token."""
        if self._crumb is None:
            response = self._get("crumbIssuer/api/json")
            is_missing = response.status_code == requests.codes.not_found
            crumb = {} if is_missing else self._read_json(response, "crumbIssuer")
            self._crumb = {crumb["crumbRequestField"]: crumb["crumb"]} if crumb else {}
        return self._check_permission(self._request(self._user_session, "POST", path, data=form, headers=self._crumb))

    def _check_permission(self, response: requests.Response) -> requests.Response:
        if response.status_code == requests.codes.unauthorized:
            raise UserError(
                f"{self.url} refuses JENKINS_API_TOKEN of {self._credentials.user}: create one at "
                f"{self.url}/me/security/"
            )
        if response.status_code == requests.codes.forbidden:
            address = response.url.partition("?")[0]
            raise UserError(f"{self._credentials.user} lacks the permission for {address} (403)")
        return response

    def _request(self, session: requests.Session, method: str, path: str, **options: Any) -> requests.Response:
        try:
            return session.request(method, f"{self.url}/{path}", timeout=TIMEOUT, allow_redirects=False, **options)
        except requests.RequestException as error:  # its traceback would show the headers
            raise UserError(f"{self.url}/{path} does not answer: {type(error).__name__}") from None


def _create_session() -> requests.Session:
    """Create a session that retries if no connection was made, and requests that change nothing."""
    session = requests.Session()
    retries = Retry(
        3,
        connect=1,
        backoff_factor=1,
        status_forcelist=(502, 503, 504),
        allowed_methods=("GET",),
        raise_on_status=False,
    )
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=retries))
    return session


def _read_parameters(entry: dict[str, Any]) -> dict[str, str]:
    """Return the parameters of a build or of an item of the queue, as strings."""
    parameters = [parameter for action in entry["actions"] for parameter in action.get("parameters", [])]
    return {
        parameter["name"]: str(parameter["value"]).lower()
        if isinstance(parameter["value"], bool)
        else parameter["value"]
        for parameter in parameters
    }
