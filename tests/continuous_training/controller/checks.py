"""The checks of a controller: each fails with a message that says what is wrong.

`Inapplicable` is raised, with the reason, by a check that cannot be made of this controller or from this machine.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
from typing import TYPE_CHECKING, Any

from conftest import TIMEOUT
from continuous_training.settings import BRANCH
from controller.client import JOB_NAME, PASSING
from controller.stage_differences import find_differences

if TYPE_CHECKING:
    from pathlib import Path

    import requests

    from controller.client import Build, Controller
    from controller.credentials import Secret
    from controller.local_runs import LocalRuns

VALID = "Jenkinsfile successfully validated."
GITHUB_URL = re.compile(r"(?:https://github\.com/|git@github\.com:)([^/]+)/([^/]+?)(?:\.git)?/?")
UNKNOWN_COMMIT = "0" * 40


class Inapplicable(Exception):  # noqa: N818 - a reason to skip a check, not an error
    """The reason why a check cannot be made of this controller, or from this machine."""


def check_jenkinsfile(controller: Controller, jenkinsfile: Path) -> None:
    """Check that the controller's linter accepts a Jenkinsfile."""
    message = controller.lint(jenkinsfile.read_text(encoding="utf-8"))
    assert message == VALID, f"Jenkins does not accept {jenkinsfile.name}: {message}"


def check_manual_build(controller: Controller, as_of: str) -> Build:
    """Check that a build that a user starts has the parameters of the request, and does not fail."""
    parameters = {"AS_OF": as_of, "REASON": unique_reason("ct test --jenkins"), "TRIGGER": "manual"}
    build = controller.wait_for_build(controller.start(parameters))
    _check_parameters(build, parameters)
    _check_result(build)
    return build


def check_stages(controller: Controller, build: Build, local_runs: LocalRuns) -> None:
    """Check that a build's stages and results are those of a local run of the same commit from the same state.

    Raises:
        Inapplicable: a local run cannot start from the same state.
    """
    if not build.commit or not local_runs.has_commit(build.commit):
        raise Inapplicable(
            f"commit {build.commit} of build {build.number} is not in this clone: run git fetch, then check again"
        )
    plan = controller.artifact(build.number, "build/plan.json")
    assert plan, f"build {build.number} has no build/plan.json in its archive: see {build.url}"
    nothing_new = plan["decision"] == "nothing"
    if not nothing_new:
        verdict = controller.artifact(build.number, "build/verdict.json")
        assert verdict, f"build {build.number} trained, and has no build/verdict.json in its archive: see {build.url}"
        if verdict["champion"]:
            raise Inapplicable(
                f"build {build.number} compared its candidate with version {verdict['champion']}, which a run in a "
                "fresh clone does not have: check again when there is nothing new to train"
            )
    result, stages = local_runs.repeat(build, nothing_new=nothing_new)
    differences = find_differences(controller.stages(build.number), stages)
    if build.result != result:
        differences.insert(0, f"the build is {build.result} on Jenkins and {result} locally")
    assert not differences, (
        f"build {build.number} differs from the local run: {'; '.join(differences)}; see {build.url}"
    )


def check_equal_pings(controller: Controller, token: Secret, as_of: str) -> Build:
    """Check that two equal pings start one build, with the parameters of the pings."""
    message = {"trigger": "drift", "reason": unique_reason("ct test --jenkins"), "as_of": as_of}
    first, second = (_queue_item(controller.ping(json.dumps(message), token)) for _ in range(2))
    assert first is not None, f"a valid ping does not start {JOB_NAME}"
    assert first == second, f"two equal pings are not merged: they are the items {first} and {second} of the queue"
    build = controller.wait_for_build(first)
    _check_parameters(build, {name.upper(): value for name, value in message.items()})
    _check_result(build)
    builds = controller.count_builds(message["reason"])
    assert builds == 1, f"two equal pings started {builds} builds"
    return build


def check_ping_is_refused(controller: Controller, token: Secret | None) -> None:
    """Check that a ping without the right token is refused, and starts nothing."""
    reason = unique_reason("ct test --jenkins, refused")
    response = controller.ping(json.dumps({"trigger": "drift", "reason": reason}), token)
    description = "a wrong token" if token else "no token"
    status = response.status_code
    assert 400 <= status < 500, f"a ping with {description} is accepted: Jenkins responds with {status}"
    _check_nothing_started(controller, response, reason)


def check_ping_starts_nothing(controller: Controller, token: Secret, body: str) -> None:
    """Check that a ping with the right token and this body starts nothing; «REASON» in it is made unique."""
    reason = unique_reason("ct test --jenkins, refused")
    _check_nothing_started(controller, controller.ping(body.replace("REASON", reason), token), reason)


def check_push_is_refused(controller: Controller, secret: Secret | None) -> None:
    """Check that a push without GitHub's signature is refused."""
    status = controller.push(push_payload(controller.last_build(), UNKNOWN_COMMIT), secret).status_code
    description = "a wrong signature" if secret else "no signature"
    assert 400 <= status < 500, f"a push with {description} is accepted: Jenkins responds with {status}"


def check_push_is_accepted(controller: Controller, secret: Secret) -> None:
    """Check that a push with GitHub's signature is accepted; it is of a branch that does not exist."""
    branch = f"ct-test-{secrets.token_hex(4)}"
    payload = push_payload(controller.last_build(), UNKNOWN_COMMIT, branch)
    _check_accepted(controller.push(payload, secret).status_code)


def check_push_starts_build(controller: Controller, secret: Secret) -> Build:
    """Check that the push of a new commit starts a build of it.

    Raises:
        Inapplicable: there is no new commit, or this machine has no access to the repository.
    """
    last = controller.last_build()
    if not GITHUB_URL.fullmatch(last.source or ""):
        raise Inapplicable(f"the job's repository is {last.source}; only GitHub sends such pushes")
    head = _head(str(last.source))
    if head == last.commit:
        raise Inapplicable(
            f"Jenkins has built {head[:12]}, the last commit of {BRANCH}: push a commit, then check again"
        )
    _check_accepted(controller.push(push_payload(last, head), secret).status_code)
    build = controller.wait_for_commit(head)
    _check_result(build)
    return build


def push_payload(last: Build, after: str, branch: str = BRANCH) -> dict[str, Any]:
    """Return the payload of GitHub's push to the repository of a build, with all that Jenkins reads."""
    match = GITHUB_URL.fullmatch(last.source or "")
    owner, name = match.groups() if match else ("nobody", "nothing")
    url = f"https://github.com/{owner}/{name}"
    return {
        "ref": f"refs/heads/{branch}",
        "before": last.commit or UNKNOWN_COMMIT,
        "after": after,
        "created": False,
        "deleted": False,
        "forced": False,
        "compare": f"{url}/compare/{branch}",
        "commits": [],
        "head_commit": None,
        "repository": {
            "name": name,
            "full_name": f"{owner}/{name}",
            "html_url": url,
            "url": url,
            "clone_url": f"{url}.git",
            "default_branch": BRANCH,
            "owner": {"name": owner, "login": owner},
        },
        "pusher": {"name": owner, "email": f"{owner}@users.noreply.github.com"},
        "sender": {"login": owner},
    }


def unique_reason(text: str) -> str:
    """Return a reason that identifies a build."""
    return f"{text} {secrets.token_hex(4)}"


def _queue_item(response: requests.Response) -> int | None:
    """Return the item of the queue that a ping added, or None if it started nothing.

    The plugin's response has every job with the token, each branch with its own trigger; 404 if there is none.
    """
    try:
        jobs = response.json()["jobs"] or {}
    except (ValueError, KeyError, TypeError):
        assert response.status_code >= 400, "no response of the Generic Webhook Trigger to a ping: is it installed?"
        return None  # refused before it reached the plugin
    errors = [f"{name}: {job}" for name, job in jobs.items() if isinstance(job, str)]
    assert not errors, f"the Generic Webhook Trigger fails: {'; '.join(errors)}"
    others = [name for name, job in jobs.items() if name != JOB_NAME and job["triggered"]]
    assert not others, f"a ping starts {', '.join(others)} too"
    job = jobs.get(JOB_NAME)
    return int(job["id"]) if job and job["triggered"] else None


def _check_nothing_started(controller: Controller, response: requests.Response, reason: str) -> None:
    item = _queue_item(response)
    assert item is None, f"a ping that must not start anything started {JOB_NAME} (item {item} of the queue)"
    builds = controller.count_builds(reason)
    assert not builds, f"a ping that started nothing according to the response started {builds} build(s)"


def _check_accepted(status: int) -> None:
    question = "is GITHUB_WEBHOOK_SECRET that of the controller?"
    assert status == 200, f"a push with the right signature is refused: Jenkins responds with {status}; {question}"


def _check_parameters(build: Build, parameters: dict[str, str]) -> None:
    for name, value in parameters.items():
        actual = build.parameters.get(name)
        assert actual == value, (
            f"build {build.number} was started with {name}={value}, but has {actual}; see {build.url}"
        )


def _check_result(build: Build) -> None:
    assert build.result in PASSING, f"build {build.number} is {build.result}: see {build.url}console"


def _head(repository: str) -> str:
    """Return the last commit of the branch in a repository.

    Raises:
        Inapplicable: git has no access to it.
    """
    process = subprocess.run(
        ["git", "ls-remote", repository, f"refs/heads/{BRANCH}"],
        env=os.environ | {"GIT_TERMINAL_PROMPT": "0"},
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
    )
    if process.returncode or not process.stdout:
        raise Inapplicable(f"git has no access to {BRANCH} of {repository} from this machine")
    return process.stdout.split()[0]
