"""Jenkins' API on this machine, as far as it starts and shows builds of one job: what it is told to do, it does."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from listening import Heard, listening

JOB, USER, PASSWORD, CRUMB = "/job/model/job/main", "pinger", "pa55 w0rd", "c4umb"
A_WHILE = 2  # looks that a build waits in the queue, and as many that it goes on

Answer = tuple[int, str] | tuple[int, str, Mapping[str, str]]


@dataclass
class Build:
    """A build, or what waits to become one: it is looked at, and so its time passes."""

    number: int
    parameters: dict[str, str]
    looks: int = 0

    @property
    def queued(self) -> int:
        return 100 + self.number

    @property
    def waits(self) -> bool:
        return self.looks < A_WHILE

    @property
    def goes_on(self) -> bool:
        return A_WHILE <= self.looks < 2 * A_WHILE


@dataclass
class Jenkins:
    """How builds end, what they leave, and where it fails.

    `away` are parts of the paths at which it answers 503, and how often; a `deaf` one does what it was asked for, and
    then answers 503. `hurry` is what has passed of a build's time when it comes; `cancels` is of what waits.
    """

    result: str = "SUCCESS"
    artifacts: dict[str, str] = field(default_factory=dict)
    away: dict[str, int] = field(default_factory=dict)
    deaf: int = 0
    hurry: int = 0
    cancels: bool = False
    url: str = ""
    builds: list[Build] = field(default_factory=list)

    def answer(self, heard: Heard) -> Answer:
        path, _, query = heard.path.partition("?")
        for part, times in self.away.items():
            if part in path and times > 0:
                self.away[part] = times - 1
                return 503, "Please wait while Jenkins is getting ready to work"
        signed = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if heard.headers.get("Authorization") != f"Basic {signed}":
            return 401, ""
        if path == "/crumbIssuer/api/json":
            return 200, json.dumps({"crumb": CRUMB, "crumbRequestField": "Jenkins-Crumb"})
        if path == f"{JOB}/buildWithParameters":
            return self._build(heard, dict(parse_qsl(query, keep_blank_values=True)))
        if path == f"{JOB}/api/json":
            return 200, json.dumps({"builds": self._look()})
        if found := re.fullmatch(r"/queue/item/(\d+)/api/json", path):
            return self._queue_item(int(found[1]))
        if found := re.fullmatch(rf"{JOB}/\d+/artifact/(.+)", path):
            kept = self.artifacts.get(found[1])
            return (404, "") if kept is None else (200, kept)
        return 404, ""

    def _build(self, heard: Heard, parameters: dict[str, str]) -> Answer:
        if heard.headers.get("Jenkins-Crumb") != CRUMB:
            return 403, "No valid crumb was included in the request"
        same = [build for build in self.builds if build.waits and build.parameters == parameters]
        if not same:
            same = [Build(len(self.builds) + 1, parameters, self.hurry)]
            self.builds += same
        if self.deaf:
            self.deaf -= 1
            return 503, ""
        return 201, "", {"Location": f"{self.url}/queue/item/{same[0].queued}/"}

    def _look(self) -> list[dict[str, Any]]:
        for build in self.builds:
            build.looks += not (self.cancels and build.waits)
        return [self._shown(build) for build in reversed(self.builds) if not build.waits]

    def _shown(self, build: Build) -> dict[str, Any]:
        given = [{"name": name, "value": value} for name, value in build.parameters.items()]
        early = self.result if self.result == "UNSTABLE" else None  # a pipeline sets it while it goes on
        return {
            "number": build.number,
            "queueId": build.queued,
            "url": f"{self.url}{JOB}/{build.number}/",
            "building": build.goes_on,
            "result": early if build.goes_on else self.result,
            "actions": [{}, {"_class": "hudson.model.ParametersAction", "parameters": given}],
        }

    def _queue_item(self, number: int) -> Answer:
        found = next((build for build in self.builds if build.queued == number), None)
        if found is None:
            return 404, ""
        return 200, json.dumps({"id": number, "cancelled": self.cancels, "why": "In the quiet period"})


@contextmanager
def jenkins(**behaviour: Any) -> Iterator[Jenkins]:
    """Have it answer on a free port."""
    here = Jenkins(**behaviour)
    with listening(here.answer) as here.url:
        yield here


def connection(url: str) -> str:
    """Write what Airflow is told of it, as the value of AIRFLOW_CONN_JENKINS_DEFAULT."""
    host, _, port = urlsplit(url).netloc.partition(":")
    told = {"conn_type": "jenkins", "host": host, "port": int(port), "login": USER, "password": PASSWORD}
    return json.dumps(told)
