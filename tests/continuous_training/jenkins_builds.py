"""A stub of the part of Jenkins' API that starts and shows the builds of one job."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from http_stub import Request, http_stub

JOB, USER, PASSWORD, CRUMB = "/job/model/job/main", "pinger", "pa55 w0rd", "c4umb"
POLLS = 2  # after so many requests a build leaves the queue, and after as many again it ends

Response = tuple[int, str] | tuple[int, str, Mapping[str, str]]


@dataclass
class Build:
    """A build or an item of the queue; each request for the builds advances it."""

    number: int
    parameters: dict[str, str]
    polls: int = 0

    @property
    def queue_id(self) -> int:
        return 100 + self.number

    @property
    def is_queued(self) -> bool:
        return self.polls < POLLS

    @property
    def is_running(self) -> bool:
        return POLLS <= self.polls < 2 * POLLS


@dataclass
class Jenkins:
    """The stub: the result and artifacts of its builds, and its failures.

    `unavailable` has parts of paths, and for how many requests to them the status is 503; `lost_responses` is the
    number of builds that are started with status 503. A new build starts after `polls` polls; with `cancels`, builds
    are cancelled in the queue.
    """

    result: str = "SUCCESS"
    artifacts: dict[str, str] = field(default_factory=dict)
    unavailable: dict[str, int] = field(default_factory=dict)
    lost_responses: int = 0
    polls: int = 0
    cancels: bool = False
    url: str = ""
    builds: list[Build] = field(default_factory=list)

    def respond(self, request: Request) -> Response:
        path, _, query = request.path.partition("?")
        for part, times in self.unavailable.items():
            if part in path and times > 0:
                self.unavailable[part] = times - 1
                return 503, "Please wait while Jenkins is getting ready to work"
        credentials = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if request.headers.get("Authorization") != f"Basic {credentials}":
            return 401, ""
        if path == "/crumbIssuer/api/json":
            return 200, json.dumps({"crumb": CRUMB, "crumbRequestField": "Jenkins-Crumb"})
        if path == f"{JOB}/buildWithParameters":
            return self._start(request, dict(parse_qsl(query, keep_blank_values=True)))
        if path == f"{JOB}/api/json":
            return 200, json.dumps({"builds": self._poll()})
        if match := re.fullmatch(r"/queue/item/(\d+)/api/json", path):
            return self._queue_item(int(match[1]))
        if match := re.fullmatch(rf"{JOB}/\d+/artifact/(.+)", path):
            content = self.artifacts.get(match[1])
            return (404, "") if content is None else (200, content)
        return 404, ""

    def _start(self, request: Request, parameters: dict[str, str]) -> Response:
        if request.headers.get("Jenkins-Crumb") != CRUMB:
            return 403, "No valid crumb was included in the request"
        items = [build for build in self.builds if build.is_queued and build.parameters == parameters]
        if not items:
            items = [Build(len(self.builds) + 1, parameters, self.polls)]
            self.builds += items
        if self.lost_responses:
            self.lost_responses -= 1
            return 503, ""
        return 201, "", {"Location": f"{self.url}/queue/item/{items[0].queue_id}/"}

    def _poll(self) -> list[dict[str, Any]]:
        for build in self.builds:
            build.polls += not (self.cancels and build.is_queued)
        return [self._describe(build) for build in reversed(self.builds) if not build.is_queued]

    def _describe(self, build: Build) -> dict[str, Any]:
        parameters = [{"name": name, "value": value} for name, value in build.parameters.items()]
        early_result = self.result if self.result == "UNSTABLE" else None  # a pipeline sets it during the build
        return {
            "number": build.number,
            "queueId": build.queue_id,
            "url": f"{self.url}{JOB}/{build.number}/",
            "building": build.is_running,
            "result": early_result if build.is_running else self.result,
            "actions": [{}, {"_class": "hudson.model.ParametersAction", "parameters": parameters}],
        }

    def _queue_item(self, number: int) -> Response:
        build = next((build for build in self.builds if build.queue_id == number), None)
        if build is None:
            return 404, ""
        return 200, json.dumps({"id": number, "cancelled": self.cancels, "why": "In the quiet period"})


@contextmanager
def jenkins(**behaviour: Any) -> Iterator[Jenkins]:
    """Run the stub on a free port."""
    stub = Jenkins(**behaviour)
    with http_stub(stub.respond) as stub.url:
        yield stub


def connection(url: str) -> str:
    """Return the value of AIRFLOW_CONN_JENKINS_DEFAULT for the stub."""
    host, _, port = urlsplit(url).netloc.partition(":")
    settings = {"conn_type": "jenkins", "host": host, "port": int(port), "login": USER, "password": PASSWORD}
    return json.dumps(settings)
