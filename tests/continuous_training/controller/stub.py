"""A stub of a Jenkins controller over HTTP, which responds as the sources of Jenkins and its plugins say.

It has one user with a password and an API token, one multibranch job with one branch, and only those endpoints that the
checks use. `Faults` are deviations from a correct controller.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qsl, urlsplit

from continuous_training.settings import BRANCH
from controller import sample_repository, webhooks
from controller.build_queue import BuildQueue, QueuedBuild, QueueItem, lint_jenkinsfile
from controller.client import FOLDER, JOB
from controller.credentials import Secret
from controller.tree_parameter import select_fields
from jenkinsfile.builds.records import StageRecord
from jenkinsfile.builds.results import Result
from jenkinsfile.parameters import read_parameters

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SOURCE = "https://github.com/you/continuous-training"
USER = "admin"
PASSWORD, TOKEN = Secret("password-of-admin"), Secret("token-of-admin")
WEBHOOK_TOKEN, GITHUB_SECRET = Secret("token-of-pings"), Secret("secret-of-github")
UNPROTECTED = ("/generic-webhook-trigger/", "/github-webhook/")  # without a login
WITHOUT_CRUMB = "/pipeline-model-converter/"
CRUMB = "Jenkins-Crumb"


@dataclass(frozen=True)
class Faults:
    """Deviations from a correct controller."""

    accepts_all_pings: bool = False
    starts_builds_for_refused_pings: bool = False
    ignores_the_filter_of_pings: bool = False
    merges_no_items: bool = False
    accepts_all_pushes: bool = False
    ignores_pushes: bool = False
    dropped_parameter: str = ""
    result: str = ""  # of every build
    rejected_text: str = ""  # in a Jenkinsfile
    stage_names: dict[str, str] = field(default_factory=dict)  # by the names in the Jenkinsfile
    stage_results: dict[str, str] = field(default_factory=dict)  # by the names in the Jenkinsfile


NO_FAULTS = Faults()


@dataclass(frozen=True)
class Request:
    """An HTTP request."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    @property
    def form(self) -> dict[str, str]:
        """The fields of the form in the body."""
        return dict(parse_qsl(self.body.decode(), keep_blank_values=True))


@dataclass(frozen=True)
class Response:
    """An HTTP response; its body is a text, or is sent as JSON."""

    status: int
    body: Any = ""
    headers: dict[str, str] = field(default_factory=dict)


NOT_FOUND = Response(404, "Not Found")


class ControllerStub:
    """A context manager that serves the controller at `url`."""

    def __init__(
        self, repository: Path, workspace: Path, faults: Faults = NO_FAULTS, initial: BuildQueue | None = None
    ) -> None:
        self._faults = faults
        self._crumbs: dict[str, str] = {}  # by session
        self.queue = BuildQueue(repository, workspace, merges=not faults.merges_no_items, initial=initial)
        runs = f"blue/rest/organizations/jenkins/pipelines/{FOLDER}/branches/{BRANCH}/runs"
        self._endpoints: dict[str, Callable[..., Response]] = {
            "GET /whoAmI/api/json": self._who_am_i,
            "GET /crumbIssuer/api/json": self._issue_crumb,
            f"GET /{JOB}/api/json": self._job,
            f"POST /{JOB}/buildWithParameters": self._build_with_parameters,
            rf"GET /{JOB}/(\d+)/api/json": self._build,
            rf"GET /{JOB}/(\d+)/artifact/(.+)": self._artifact,
            "GET /queue/api/json": self._queue_items,
            r"GET /queue/item/(\d+)/api/json": self._queue_item,
            rf"GET /{runs}/(\d+)/nodes/": self._nodes,
            "POST /pipeline-model-converter/validate": self._validate,
            "POST /generic-webhook-trigger/invoke": self._ping,
            "POST /github-webhook/": self._push,
        }
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                stub._serve(self)

            do_POST = do_GET  # noqa: N815 - http.server calls them so

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self.queue.close()

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        url = urlsplit(handler.path)
        request = Request(
            method=handler.command,
            path=url.path,
            query=dict(parse_qsl(url.query)),
            headers={name.lower(): value for name, value in handler.headers.items()},
            body=handler.rfile.read(int(handler.headers.get("Content-Length", 0))),
        )
        response = self._respond(request)
        if request.method == "GET":  # not after seconds: on a busy machine two pings can be further apart
            self.queue.end_quiet_periods()
        is_text = isinstance(response.body, str)
        text = response.body if is_text else json.dumps(select_fields(response.body, request.query.get("tree", "")))
        body = text.encode()
        handler.send_response(response.status)
        for name, value in response.headers.items():
            handler.send_header(name, value)
        handler.send_header("X-Jenkins", "2.555.2")
        handler.send_header("Content-Type", "text/plain" if is_text else "application/json")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    def _respond(self, request: Request) -> Response:
        """Check the credentials: anonymous users have no permission, and only a password requires a crumb."""
        if not request.path.startswith(UNPROTECTED):
            scheme, _, pair = request.headers.get("authorization", "").partition(" ")
            if scheme != "Basic":
                return Response(403, "Authentication required")
            user, _, secret = base64.b64decode(pair).decode().partition(":")
            if user != USER or secret not in {TOKEN, PASSWORD}:
                return Response(401, "Unauthorized")
            needs_crumb = request.method == "POST" and secret == PASSWORD and not request.path.startswith(WITHOUT_CRUMB)
            if needs_crumb and self._crumbs.get(_session(request)) != request.headers.get(CRUMB.lower(), ""):
                return Response(403, "No valid crumb was included in the request")
        for pattern, endpoint in self._endpoints.items():
            if match := re.fullmatch(pattern, f"{request.method} {request.path}"):
                return endpoint(request, *match.groups())
        return NOT_FOUND

    def _who_am_i(self, _request: Request) -> Response:
        return Response(200, {"name": USER, "anonymous": False, "authenticated": True})

    def _issue_crumb(self, request: Request) -> Response:
        session = _session(request) or secrets.token_hex(8)
        crumb = self._crumbs.setdefault(session, secrets.token_hex(16))
        body = {"crumb": crumb, "crumbRequestField": CRUMB}
        return Response(200, body, {"Set-Cookie": f"JSESSIONID={session}; Path=/; HttpOnly"})

    def _job(self, _request: Request) -> Response:
        ended = [build.number for build in self.queue.builds if build.record]
        names = [{"name": parameter.name} for parameter in read_parameters(self.queue.pipeline.parameters)]
        return Response(
            200,
            {
                "name": BRANCH,
                "builds": [self._describe(build) for build in reversed(self.queue.builds)],
                "lastCompletedBuild": {"number": ended[-1]} if ended else None,
                "property": [{"_class": "jenkins.branch.BranchJobProperty"}]
                + ([{"parameterDefinitions": names}] if ended else []),
            },
        )

    def _build_with_parameters(self, request: Request) -> Response:
        if not any(build.record for build in self.queue.builds):
            return Response(400, "This build is not parameterized")  # the first build declares the parameters
        ignored = {"delay", self._faults.dropped_parameter}
        parameters = {name: value for name, value in request.form.items() if name not in ignored}
        quiet_period = request.form.get("delay") != "0sec"
        item = self.queue.schedule(parameters, f"Started by user {USER}", quiet_period=quiet_period)
        return Response(201, "", {"Location": f"{self.url}/queue/item/{item.number}/"})

    def _build(self, _request: Request, number: str) -> Response:
        build = self._find_build(number)
        return Response(200, self._describe(build)) if build else NOT_FOUND

    def _artifact(self, _request: Request, number: str, path: str) -> Response:
        build = self._find_build(number)
        file = self.queue.folder(build) / "archive" / path if build else None
        return Response(200, json.loads(file.read_text())) if file and file.exists() else NOT_FOUND

    def _queue_items(self, _request: Request) -> Response:
        waiting = [item for item in self.queue.items if item.build is None]
        return Response(200, {"items": [{"id": item.number, "actions": _actions(item)} for item in waiting]})

    def _queue_item(self, _request: Request, number: str) -> Response:
        item = next((item for item in self.queue.items if item.number == int(number)), None)
        if not item:
            return NOT_FOUND
        body = {"id": item.number, "actions": _actions(item), "cancelled": False}
        return Response(200, body | ({"executable": {"number": item.build}} if item.build else {}))

    def _nodes(self, _request: Request, number: str) -> Response:
        build = self._find_build(number)
        return Response(200, self._blue_ocean_nodes(build.record["stages"])) if build and build.record else NOT_FOUND

    def _validate(self, request: Request) -> Response:
        jenkinsfile = request.form.get("jenkinsfile", "")
        if self._faults.rejected_text and self._faults.rejected_text in jenkinsfile:
            reason = f'WorkflowScript: 3: Invalid option type "{self._faults.rejected_text}"'
            return Response(200, f"Errors encountered validating Jenkinsfile:\n{reason}\n")
        return Response(200, lint_jenkinsfile(jenkinsfile))

    def _ping(self, request: Request) -> Response:
        trigger = webhooks.Trigger(self.queue.pipeline)
        variables = trigger.resolve_variables(request.body.decode())
        token = webhooks.read_token(request.headers, request.query)
        if token != WEBHOOK_TOKEN and not self._faults.accepts_all_pings:
            if self._faults.starts_builds_for_refused_pings:
                self.queue.schedule(variables, "Refused ping", quiet_period=True)
            return Response(404, webhooks.no_job_response(token))
        item = None
        if trigger.matches(variables) or self._faults.ignores_the_filter_of_pings:
            parameters = {name: value for name, value in variables.items() if name != self._faults.dropped_parameter}
            item = self.queue.schedule(parameters, trigger.render(trigger.cause, variables), quiet_period=True).number
        return Response(200, webhooks.triggered_response(trigger.response(variables, item)))

    def _push(self, request: Request) -> Response:
        is_valid = webhooks.is_signed(request.headers, request.body, GITHUB_SECRET) or self._faults.accepts_all_pushes
        if request.headers.get("x-github-event") != "push" or request.headers["content-type"] != "application/json":
            return Response(400, "Hook should contain event type")
        if not is_valid:
            return Response(400, "No valid signature found.")
        is_of_main = webhooks.read_pushed_branch(request.body, SOURCE) == BRANCH
        last = self.queue.builds[-1].commit if self.queue.builds else None
        is_new = sample_repository.head(self.queue.repository) != last
        if is_of_main and is_new and not self._faults.ignores_pushes:
            self.queue.schedule({}, "Push event to branch main")
        return Response(200)

    def _find_build(self, number: str) -> QueuedBuild | None:
        return next((build for build in self.queue.builds if build.number == int(number)), None)

    def _describe(self, build: QueuedBuild) -> dict[str, Any]:
        revision = {"remoteUrls": [SOURCE], "lastBuiltRevision": {"SHA1": build.commit}}
        return {
            "number": build.number,
            "queueId": build.item.number,
            "building": build.record is None,
            "result": (self._faults.result or build.record["result"]) if build.record else None,
            "actions": [*_actions(build.item), {}, {"_class": "hudson.plugins.git.util.BuildData", **revision}],
        }

    def _blue_ocean_nodes(self, stages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return stages as Blue Ocean's nodes, without those inside a skipped stage."""
        nodes: list[dict[str, Any]] = []
        parent: dict[str, Any] | None = None
        for number, stage in enumerate(StageRecord(**values) for values in stages):
            if stage.depth and parent and parent["state"] == "SKIPPED":
                continue
            skipped = stage.result == Result.NOT_BUILT.name
            node = {
                "id": str(number),
                "displayName": self._faults.stage_names.get(stage.name, stage.name),
                "type": "PARALLEL" if stage.depth else "STAGE",
                "result": self._faults.stage_results.get(stage.name, stage.result),
                "state": "SKIPPED" if skipped else "FINISHED",
                "firstParent": parent["id"] if parent else None,
            }
            nodes.append(node)
            if not stage.depth:
                parent = node
        return nodes


def _actions(item: QueueItem) -> list[dict[str, Any]]:
    """Return the actions of a build or an item of the queue: its parameters and causes."""
    parameters = [{"name": name, "value": _json_value(value)} for name, value in item.parameters.items()]
    return [{"parameters": parameters}, {"causes": [{"shortDescription": cause} for cause in item.causes]}]


def _json_value(value: str) -> str | bool:
    return {"true": True, "false": False}.get(value, value)


def _session(request: Request) -> str:
    match = re.search(r"JSESSIONID=(\w+)", request.headers.get("cookie", ""))
    return match[1] if match else ""
