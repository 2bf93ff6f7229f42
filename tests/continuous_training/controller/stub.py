"""A stand-in for a Jenkins controller, over HTTP: what Jenkins and its plugins answer, by their sources.

It knows one user with a password and an API token, one multibranch job with one branch, and of the plugins' addresses
only those that the checks use. `Wrong` says what it does otherwise than a controller should.
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
from controller.build_queue import Builds, Item, Ran, validated
from controller.client import FOLDER, JOB
from controller.credentials import Secret
from controller.tree_parameter import pruned
from jenkinsfile.builds.records import StageRecord
from jenkinsfile.builds.results import Result
from jenkinsfile.parameters import read_parameters

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SOURCE = "https://github.com/you/continuous-training"
USER = "admin"
PASSWORD, TOKEN = Secret("password-of-admin"), Secret("token-of-admin")
WEBHOOK, GITHUB = Secret("token-of-pings"), Secret("secret-of-github")
UNPROTECTED = ("/generic-webhook-trigger/", "/github-webhook/")  # those who come there log in nowhere
WITHOUT_CRUMB = "/pipeline-model-converter/"
CRUMB = "Jenkins-Crumb"


@dataclass(frozen=True)
class Wrong:
    """What a controller should not do."""

    lets_every_ping_in: bool = False
    runs_for_those_it_refuses: bool = False
    starts_whatever_is_pinged: bool = False
    merges_nothing: bool = False
    lets_every_push_in: bool = False
    ignores_pushes: bool = False
    forgets: str = ""  # the parameter of this name
    ends_as: str = ""  # every build, whatever its result was
    rejects: str = ""  # a Jenkinsfile with this in it
    names: dict[str, str] = field(default_factory=dict)  # of stages, otherwise than in the Jenkinsfile
    results: dict[str, str] = field(default_factory=dict)  # of stages, otherwise than they were


RIGHT = Wrong()


@dataclass(frozen=True)
class Call:
    """What came in."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    @property
    def form(self) -> dict[str, str]:
        """The fields of a form."""
        return dict(parse_qsl(self.body.decode(), keep_blank_values=True))


@dataclass(frozen=True)
class Answer:
    """What goes out: a document, or a text."""

    status: int
    body: Any = ""
    headers: dict[str, str] = field(default_factory=dict)


NOT_FOUND = Answer(404, "Not Found")


class Stub:
    """The controller, at `url` while it is entered."""

    def __init__(self, repository: Path, workspace: Path, wrong: Wrong = RIGHT, begun: Builds | None = None) -> None:
        self._wrong = wrong
        self._crumbs: dict[str, str] = {}  # each is good for one session
        self.builds = Builds(repository, workspace, merges=not wrong.merges_nothing, begun=begun)
        runs = f"blue/rest/organizations/jenkins/pipelines/{FOLDER}/branches/{BRANCH}/runs"
        self._addresses: dict[str, Callable[..., Answer]] = {
            "GET /whoAmI/api/json": self._who,
            "GET /crumbIssuer/api/json": self._issue_crumb,
            f"GET /{JOB}/api/json": self._job,
            f"POST /{JOB}/buildWithParameters": self._build_with_parameters,
            rf"GET /{JOB}/(\d+)/api/json": self._build,
            rf"GET /{JOB}/(\d+)/artifact/(.+)": self._artifact,
            "GET /queue/api/json": self._queue,
            r"GET /queue/item/(\d+)/api/json": self._queued,
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
                """Be quiet."""

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
        self.builds.close()

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        address = urlsplit(handler.path)
        call = Call(
            method=handler.command,
            path=address.path,
            query=dict(parse_qsl(address.query)),
            headers={name.lower(): value for name, value in handler.headers.items()},
            body=handler.rfile.read(int(handler.headers.get("Content-Length", 0))),
        )
        answer = self._guarded(call)
        if call.method == "GET":  # not after some seconds: two pings may be further apart on a busy machine
            self.builds.end_quiet_periods()
        is_text = isinstance(answer.body, str)
        body = (answer.body if is_text else json.dumps(pruned(answer.body, call.query.get("tree", "")))).encode()
        handler.send_response(answer.status)
        for name, value in answer.headers.items():
            handler.send_header(name, value)
        handler.send_header("X-Jenkins", "2.555.2")
        handler.send_header("Content-Type", "text/plain" if is_text else "application/json")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    def _guarded(self, call: Call) -> Answer:
        """Let in who may come in: anonymous can do nothing, and only a password needs a crumb."""
        if not call.path.startswith(UNPROTECTED):
            scheme, _, pair = call.headers.get("authorization", "").partition(" ")
            if scheme != "Basic":
                return Answer(403, "Authentication required")
            user, _, secret = base64.b64decode(pair).decode().partition(":")
            if user != USER or secret not in {TOKEN, PASSWORD}:
                return Answer(401, "Unauthorized")
            needs_crumb = call.method == "POST" and secret == PASSWORD and not call.path.startswith(WITHOUT_CRUMB)
            if needs_crumb and self._crumbs.get(_session(call)) != call.headers.get(CRUMB.lower(), ""):
                return Answer(403, "No valid crumb was included in the request")
        for address, answer in self._addresses.items():
            if found := re.fullmatch(address, f"{call.method} {call.path}"):
                return answer(call, *found.groups())
        return NOT_FOUND

    def _who(self, _call: Call) -> Answer:
        return Answer(200, {"name": USER, "anonymous": False, "authenticated": True})

    def _issue_crumb(self, call: Call) -> Answer:
        session = _session(call) or secrets.token_hex(8)
        crumb = self._crumbs.setdefault(session, secrets.token_hex(16))
        told = {"crumb": crumb, "crumbRequestField": CRUMB}
        return Answer(200, told, {"Set-Cookie": f"JSESSIONID={session}; Path=/; HttpOnly"})

    def _job(self, _call: Call) -> Answer:
        ended = [ran.number for ran in self.builds.done if ran.record]
        names = [{"name": one.name} for one in read_parameters(self.builds.pipeline.parameters)]
        return Answer(
            200,
            {
                "name": BRANCH,
                "builds": [self._shown(ran) for ran in reversed(self.builds.done)],
                "lastCompletedBuild": {"number": ended[-1]} if ended else None,
                "property": [{"_class": "jenkins.branch.BranchJobProperty"}]
                + ([{"parameterDefinitions": names}] if ended else []),
            },
        )

    def _build_with_parameters(self, call: Call) -> Answer:
        if not any(ran.record for ran in self.builds.done):
            return Answer(400, "This build is not parameterized")  # before a first build has told what it takes
        given = {name: value for name, value in call.form.items() if name not in {"delay", self._wrong.forgets}}
        item = self.builds.schedule(given, f"Started by user {USER}", quiet=call.form.get("delay") != "0sec")
        return Answer(201, "", {"Location": f"{self.url}/queue/item/{item.number}/"})

    def _build(self, _call: Call, number: str) -> Answer:
        ran = self._ran(number)
        return Answer(200, self._shown(ran)) if ran else NOT_FOUND

    def _artifact(self, _call: Call, number: str, path: str) -> Answer:
        ran = self._ran(number)
        file = self.builds.folder(ran) / "archive" / path if ran else None
        return Answer(200, json.loads(file.read_text())) if file and file.exists() else NOT_FOUND

    def _queue(self, _call: Call) -> Answer:
        waiting = [item for item in self.builds.items if item.build is None]
        return Answer(200, {"items": [{"id": item.number, "actions": _actions(item)} for item in waiting]})

    def _queued(self, _call: Call, number: str) -> Answer:
        found = next((item for item in self.builds.items if item.number == int(number)), None)
        if not found:
            return NOT_FOUND
        told = {"id": found.number, "actions": _actions(found), "cancelled": False}
        return Answer(200, told | ({"executable": {"number": found.build}} if found.build else {}))

    def _nodes(self, _call: Call, number: str) -> Answer:
        ran = self._ran(number)
        return Answer(200, self._blue(ran.record["stages"])) if ran and ran.record else NOT_FOUND

    def _validate(self, call: Call) -> Answer:
        jenkinsfile = call.form.get("jenkinsfile", "")
        if self._wrong.rejects and self._wrong.rejects in jenkinsfile:
            reason = f'WorkflowScript: 3: Invalid option type "{self._wrong.rejects}"'
            return Answer(200, f"Errors encountered validating Jenkinsfile:\n{reason}\n")
        return Answer(200, validated(jenkinsfile))

    def _ping(self, call: Call) -> Answer:
        trigger = webhooks.Trigger(self.builds.pipeline)
        resolved = trigger.resolved(call.body.decode())
        token = webhooks.shown(call.headers, call.query)
        if token != WEBHOOK and not self._wrong.lets_every_ping_in:
            if self._wrong.runs_for_those_it_refuses:
                self.builds.schedule(resolved, "Pinged by somebody", quiet=True)
            return Answer(404, webhooks.nobody_found(token))
        item = None
        if trigger.fits(resolved) or self._wrong.starts_whatever_is_pinged:
            given = {name: value for name, value in resolved.items() if name != self._wrong.forgets}
            item = self.builds.schedule(given, trigger.rendered(trigger.cause, resolved), quiet=True).number
        return Answer(200, webhooks.triggered(trigger.told(resolved, item)))

    def _push(self, call: Call) -> Answer:
        signed = webhooks.is_signed(call.headers, call.body, GITHUB) or self._wrong.lets_every_push_in
        if call.headers.get("x-github-event") != "push" or call.headers["content-type"] != "application/json":
            return Answer(400, "Hook should contain event type")
        if not signed:
            return Answer(400, "No valid signature found.")
        of_main = webhooks.pushed_branch(call.body, SOURCE) == BRANCH
        last = self.builds.done[-1].commit if self.builds.done else None
        if of_main and sample_repository.head(self.builds.repository) != last and not self._wrong.ignores_pushes:
            self.builds.schedule({}, "Push event to branch main")
        return Answer(200)

    def _ran(self, number: str) -> Ran | None:
        return next((ran for ran in self.builds.done if ran.number == int(number)), None)

    def _shown(self, ran: Ran) -> dict[str, Any]:
        revision = {"remoteUrls": [SOURCE], "lastBuiltRevision": {"SHA1": ran.commit}}
        return {
            "number": ran.number,
            "building": ran.record is None,
            "result": (self._wrong.ends_as or ran.record["result"]) if ran.record else None,
            "actions": [*_actions(ran.item), {}, {"_class": "hudson.plugins.git.util.BuildData", **revision}],
        }

    def _blue(self, stages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return stages as Blue Ocean's nodes: those inside a skipped one do not exist."""
        nodes: list[dict[str, Any]] = []
        above: dict[str, Any] | None = None
        for number, stage in enumerate(StageRecord(**one) for one in stages):
            if stage.depth and above and above["state"] == "SKIPPED":
                continue
            skipped = stage.result == Result.NOT_BUILT.name
            node = {
                "id": str(number),
                "displayName": self._wrong.names.get(stage.name, stage.name),
                "type": "PARALLEL" if stage.depth else "STAGE",
                "result": self._wrong.results.get(stage.name, stage.result),
                "state": "SKIPPED" if skipped else "FINISHED",
                "firstParent": above["id"] if above else None,
            }
            nodes.append(node)
            if not stage.depth:
                above = node
        return nodes


def _actions(item: Item) -> list[dict[str, Any]]:
    """Return what Jenkins tells of a build, or of what waits to become one: its parameters, and who wanted it."""
    given = [{"name": name, "value": _typed(value)} for name, value in item.parameters.items()]
    return [{"parameters": given}, {"causes": [{"shortDescription": cause} for cause in item.causes]}]


def _typed(value: str) -> str | bool:
    return {"true": True, "false": False}.get(value, value)


def _session(call: Call) -> str:
    found = re.search(r"JSESSIONID=(\w+)", call.headers.get("cookie", ""))
    return found[1] if found else ""
