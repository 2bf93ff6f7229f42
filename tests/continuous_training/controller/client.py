"""What the checks ask of a Jenkins controller, over its HTTP API."""

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
from controller.credentials import Access, Secret
from jenkinsfile.builds.records import StageRecord
from jenkinsfile.builds.results import Result

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

FOLDER = "model"  # the multibranch job of casc.yaml
JOB = f"job/{FOLDER}/job/{BRANCH}"
NAME = f"{FOLDER}/{BRANCH}"  # as plugins call it
LONGEST_PAUSE = 5.0  # seconds between two looks at what goes on
NEWS = 60  # seconds between two lines about it
TIMEOUT = (10, 60)  # seconds: to connect, to be answered
GREEN = {Result.SUCCESS.name, Result.UNSTABLE.name}  # a rejected candidate is a result, not a fault

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Build:
    """A build that has ended: what it was asked, by whom, for which commit of which repository."""

    number: int
    result: str
    url: str
    parameters: dict[str, str] = field(default_factory=dict)
    causes: tuple[str, ...] = ()
    commit: str | None = None
    source: str | None = None


class Controller:
    """A controller at an address, as one user sees it; `minutes` bounds every wait for what it does."""

    def __init__(self, url: str, access: Access, minutes: float = 60) -> None:
        self.url = url.rstrip("/")
        self._access = access
        self._minutes = minutes
        self._crumb: dict[str, str] | None = None
        self._inside = _session()
        self._inside.auth = (access.user or "", access.token or "")
        self._outside = _session()
        self._outside.auth = lambda request: request  # else a .netrc would speak for whoever pings

    def user(self) -> str:
        """Return who the controller takes us for.

        Raises:
            UserError: it takes us for nobody.
        """
        told = self._json("whoAmI/api/json")
        if told.get("anonymous", True):
            raise UserError(
                f"{self.url} takes {self._access.user} for nobody: check JENKINS_USER_ID and JENKINS_API_TOKEN"
            )
        return str(told["name"])

    def ready(self) -> None:
        """Wait until the job has ended its first build, which brings its parameters and triggers.

        Raises:
            UserError: it does not, or has no parameters after it.
        """

        def look() -> int | None:
            job = self._job("lastCompletedBuild[number]")
            return job["lastCompletedBuild"]["number"] if job and job["lastCompletedBuild"] else None

        scan = f"{self.url}/job/{FOLDER}/indexing/console"
        number = self._wait(look, f"{NAME} ends the build that Jenkins starts when it finds the branch (see {scan})")
        if not self.parameters():
            raise UserError(f"{NAME} has no parameters after its build {number}: see {self.url}/{JOB}/{number}/console")

    def parameters(self) -> set[str]:
        """Return the names of the parameters that the job has."""
        job = self._job("property[parameterDefinitions[name]]") or {"property": []}
        return {one["name"] for part in job["property"] for one in part.get("parameterDefinitions", [])}

    def lint(self, jenkinsfile: str) -> str:
        """Return what the controller says of a Jenkinsfile."""
        return self._post("pipeline-model-converter/validate", {"jenkinsfile": jenkinsfile}).text.strip()

    def start(self, parameters: dict[str, str]) -> int:
        """Start the job without its quiet period; return the queue's item.

        Raises:
            UserError: it does not start.
        """
        answer = self._post(f"{JOB}/buildWithParameters", {**parameters, "delay": "0sec"})
        found = re.search(r"/queue/item/(\d+)", answer.headers.get("Location", ""))
        if answer.status_code != requests.codes.created or not found:
            raise UserError(f"{NAME} cannot be started: Jenkins answers {answer.status_code}; may {self._access.user}?")
        return int(found[1])  # the rest is the address that Jenkins believes to have

    def ended(self, item: int) -> Build:
        """Follow an item of the queue to its build, and that to its end.

        Raises:
            UserError: it is cancelled, or does not end in time.
        """
        number = self._wait(lambda: self._number(item), f"a build begins for the queue's item {item}")
        log.info("build %s of %s: %s/%s/%s/", number, NAME, self.url, JOB, number)
        self._wait(lambda: self._finished(number), f"build {number} ends")
        return self.build(number)

    def build(self, number: int) -> Build:
        """Return a build that has ended."""
        told = self._json(
            f"{JOB}/{number}/api/json",
            tree="number,result,actions[parameters[name,value],causes[shortDescription],remoteUrls,lastBuiltRevision[SHA1]]",
        )
        causes = [one["shortDescription"] for action in told["actions"] for one in action.get("causes", [])]
        checked_out = [action for action in told["actions"] if action.get("lastBuiltRevision")]
        return Build(
            number=number,
            result=str(told["result"]),
            url=f"{self.url}/{JOB}/{number}/",
            parameters=_parameters(told),
            causes=tuple(causes),
            commit=checked_out[0]["lastBuiltRevision"]["SHA1"] if checked_out else None,
            source=checked_out[0]["remoteUrls"][0] if checked_out else None,
        )

    def last(self) -> Build:
        """Return the last build that has ended."""
        job = self._json(f"{JOB}/api/json", tree="lastCompletedBuild[number]")
        return self.build(job["lastCompletedBuild"]["number"])

    def artifact(self, number: int, path: str) -> dict[str, Any] | None:
        """Return a document that a build has archived, or None if it has none of that name."""
        answer = self._get(f"{JOB}/{number}/artifact/{path}")
        return self._read(answer, path) if answer.status_code != requests.codes.not_found else None

    def stages(self, number: int) -> list[StageRecord]:
        """Return a build's stages as Blue Ocean shows them.

        It shows those whose `when` does not hold, as NOT_BUILT, and those side by side, each once and of the type
        PARALLEL; checkout and `post` are no stages to it. A stage that was skipped has none in it. To a build that is
        not SUCCESS it adds those that only an earlier one had, without a result: they are left out.
        """
        runs = f"blue/rest/organizations/jenkins/pipelines/{FOLDER}/branches/{BRANCH}/runs"
        nodes = self._json(f"{runs}/{number}/nodes/", limit=1000)
        return [
            StageRecord(node["displayName"], int(node["type"] == "PARALLEL"), node["result"])
            for node in nodes
            if node["result"]
        ]

    def ping(self, body: str, token: Secret | None) -> requests.Response:
        """Ask for a run as a monitor does, logged in as nobody."""
        headers = {"Content-Type": "application/json"}
        if token:
            headers["Authorization"] = Secret(f"Bearer {token}")
        return self._call(self._outside, "POST", "generic-webhook-trigger/invoke", data=body.encode(), headers=headers)

    def push(self, payload: dict[str, Any], secret: Secret | None) -> requests.Response:
        """Tell of a push as GitHub does, signed with a secret or not at all."""
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
        return self._call(self._outside, "POST", "github-webhook/", data=body, headers=headers)

    def asked_for(self, reason: str) -> int:
        """Count the builds, and what waits to become one, that were asked for with a reason."""
        job = self._json(f"{JOB}/api/json", tree="builds[actions[parameters[name,value]]]{0,20}")
        queue = self._json("queue/api/json", tree="items[actions[parameters[name,value]]]")
        return sum(_parameters(one).get("REASON") == reason for one in (*job["builds"], *queue["items"]))

    def built(self, commit: str) -> Build:
        """Wait until the last build that has ended is one of a commit."""

        def look() -> Build | None:
            last = self.last()
            return last if last.commit == commit else None

        return self._wait(look, f"a build of {commit[:12]} ends")

    def _job(self, tree: str) -> dict[str, Any] | None:
        answer = self._get(f"{JOB}/api/json", tree=tree)
        return self._read(answer, JOB) if answer.status_code != requests.codes.not_found else None

    def _number(self, item: int) -> int | None:
        told = self._json(f"queue/item/{item}/api/json", tree="cancelled,executable[number]")
        if told.get("cancelled"):
            raise UserError(f"somebody has cancelled the item {item} of the queue, from which a build was to come")
        return told["executable"]["number"] if told.get("executable") else None

    def _finished(self, number: int) -> bool | None:
        told = self._json(f"{JOB}/{number}/api/json", tree="building,result")
        return True if told["result"] and not told["building"] else None

    def _wait(self, look: Callable[[], T | None], what: str) -> T:
        """Look, more and more rarely, until there is something.

        Raises:
            UserError: there is nothing in time.
        """
        began = told = time.monotonic()
        pause = 0.1
        while not (found := look()):
            now = time.monotonic()
            if now > began + self._minutes * 60:
                raise UserError(
                    f"after {self._minutes:g} minutes it has not come to pass that {what}; --minutes waits longer"
                )
            if now > told + NEWS:
                told = now
                log.info("%.0f min: waiting until %s", (now - began) / 60, what)
            time.sleep(pause)
            pause = min(pause * 1.5, LONGEST_PAUSE)
        return found

    def _json(self, path: str, **parameters: str | int) -> Any:
        return self._read(self._get(path, **parameters), path)

    def _read(self, answer: requests.Response, path: str) -> Any:
        if answer.status_code != requests.codes.ok:
            raise UserError(f"{self.url}/{path}: Jenkins answers {answer.status_code}")
        try:
            return answer.json()
        except ValueError:
            raise UserError(f"{self.url}/{path} is no JSON: is that the address of a Jenkins?") from None

    def _get(self, path: str, **parameters: str | int) -> requests.Response:
        return self._permitted(self._call(self._inside, "GET", path, params=parameters))

    def _post(self, path: str, form: dict[str, str]) -> requests.Response:
        """Post a form with a crumb, which a password needs; an API token would do without."""
        if self._crumb is None:
            answer = self._get("crumbIssuer/api/json")
            told = self._read(answer, "crumbIssuer") if answer.status_code != requests.codes.not_found else {}
            self._crumb = {told["crumbRequestField"]: told["crumb"]} if told else {}
        return self._permitted(self._call(self._inside, "POST", path, data=form, headers=self._crumb))

    def _permitted(self, answer: requests.Response) -> requests.Response:
        if answer.status_code == requests.codes.unauthorized:
            raise UserError(
                f"{self.url} refuses JENKINS_API_TOKEN of {self._access.user}: {self.url}/me/security/ makes one"
            )
        if answer.status_code == requests.codes.forbidden:
            raise UserError(f"{self._access.user} may not do that at {answer.url.partition('?')[0]} (403)")
        return answer

    def _call(self, session: requests.Session, method: str, path: str, **given: Any) -> requests.Response:
        try:
            return session.request(method, f"{self.url}/{path}", timeout=TIMEOUT, allow_redirects=False, **given)
        except requests.RequestException as error:  # whose traceback would show the headers
            raise UserError(f"{self.url}/{path} does not answer: {type(error).__name__}") from None


def _session() -> requests.Session:
    """Make a session that asks again where nothing can have happened, or nothing changes by it."""
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


def _parameters(told: dict[str, Any]) -> dict[str, str]:
    """Return the parameters of a build or of an item of the queue, as texts."""
    given = [one for action in told["actions"] for one in action.get("parameters", [])]
    return {one["name"]: str(one["value"]).lower() if isinstance(one["value"], bool) else one["value"] for one in given}
