"""The checks themselves: each looks at one thing that must hold on a controller, and says what does not.

`NotHere` is raised where something cannot be looked at, and says why: that is no fault of the controller.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
from typing import TYPE_CHECKING, Any

from continuous_training.settings import BRANCH
from controller.client import GREEN, NAME
from controller.stage_differences import differences

if TYPE_CHECKING:
    from pathlib import Path

    import requests

    from controller.client import Build, Controller
    from controller.credentials import Secret
    from controller.local_runs import Here

VALID = "Jenkinsfile successfully validated."
ON_GITHUB = re.compile(r"(?:https://github\.com/|git@github\.com:)([^/]+)/([^/]+?)(?:\.git)?/?")
NO_JENKINS = "0" * 40


class NotHere(Exception):  # noqa: N818 - a reason to skip a check, not an error
    """Something that cannot be looked at with this controller, or from this machine."""


def is_accepted(controller: Controller, jenkinsfile: Path) -> None:
    """Check that the controller's own linter finds nothing in a Jenkinsfile."""
    message = controller.lint(jenkinsfile.read_text(encoding="utf-8"))
    assert message == VALID, f"Jenkins does not accept {jenkinsfile.name}: {message}"


def runs_with_parameters(controller: Controller, as_of: str) -> Build:
    """Check that a run started by hand has the parameters that it was given, and ends without a fault."""
    given = {"AS_OF": as_of, "REASON": unique("ct test --jenkins"), "TRIGGER": "manual"}
    build = controller.ended(controller.start(given))
    _has(build, given)
    _is_green(build)
    return build


def is_as_here(controller: Controller, build: Build, here: Here) -> None:
    """Check that a build's stages and results are those of a local run of the same commit from the same state.

    Raises:
        NotHere: that state cannot be had on this machine.
    """
    if not build.commit or not here.has(build.commit):
        raise NotHere(f"commit {build.commit} of build {build.number} is not in this clone: git fetch, and call again")
    plan = controller.artifact(build.number, "build/plan.json")
    assert plan, f"build {build.number} has archived no build/plan.json: see {build.url}"
    learnt = plan["decision"] == "nothing"
    if not learnt:
        verdict = controller.artifact(build.number, "build/verdict.json")
        assert verdict, f"build {build.number} has trained, and archived no build/verdict.json: see {build.url}"
        if verdict["champion"]:
            raise NotHere(
                f"build {build.number} has compared with version {verdict['champion']}, which a run in a fresh clone "
                "does not have: call again, when there is nothing new to learn"
            )
    result, stages = here.repeat(build, learnt=learnt)
    found = differences(controller.stages(build.number), stages)
    if build.result != result:
        found.insert(0, f"the build is {build.result} on Jenkins and {result} here")
    assert not found, f"build {build.number} is not as the run here: {'; '.join(found)}; see {build.url}"


def is_started_once_by_equal_pings(controller: Controller, token: Secret, as_of: str) -> Build:
    """Check that two equal pings become one build, with the parameters that they say."""
    message = {"trigger": "drift", "reason": unique("ct test --jenkins"), "as_of": as_of}
    first, second = (_triggered(controller.ping(json.dumps(message), token)) for _ in range(2))
    assert first is not None, f"a ping that is as it should be does not start {NAME}"
    assert first == second, f"two equal pings are not merged: they wait as the items {first} and {second} of the queue"
    build = controller.ended(first)
    _has(build, {name.upper(): value for name, value in message.items()})
    _is_green(build)
    made = controller.asked_for(message["reason"])
    assert made == 1, f"two equal pings have made {made} builds"
    return build


def lets_nobody_in(controller: Controller, token: Secret | None) -> None:
    """Check that a ping without the right token is refused, and starts nothing."""
    reason = unique("ct test --jenkins, refused")
    answer = controller.ping(json.dumps({"trigger": "drift", "reason": reason}), token)
    shown = "a wrong token" if token else "no token"
    assert 400 <= answer.status_code < 500, f"a ping with {shown} is let in: Jenkins answers {answer.status_code}"
    _has_started_nothing(controller, answer, reason)


def starts_nothing(controller: Controller, token: Secret, body: str) -> None:
    """Check that a ping with the right token and such a body starts nothing; «REASON» in it is made unique."""
    reason = unique("ct test --jenkins, refused")
    _has_started_nothing(controller, controller.ping(body.replace("REASON", reason), token), reason)


def refuses_push(controller: Controller, secret: Secret | None) -> None:
    """Check that a push that GitHub has not signed is refused."""
    status = controller.push(pushed(controller.last(), NO_JENKINS), secret).status_code
    signed = "with a wrong signature" if secret else "that is not signed"
    assert 400 <= status < 500, f"a push {signed} is let in: Jenkins answers {status}"


def takes_push(controller: Controller, secret: Secret) -> None:
    """Check that a push that GitHub has signed is taken; it is one of a branch that there is not."""
    branch = f"ct-test-{secrets.token_hex(4)}"
    _is_taken(controller.push(pushed(controller.last(), NO_JENKINS, branch), secret).status_code)


def is_started_by_push(controller: Controller, secret: Secret) -> Build:
    """Check that a push of a commit that Jenkins has not built starts a build of it.

    Raises:
        NotHere: there is no such commit, or it cannot be seen from here.
    """
    last = controller.last()
    if not ON_GITHUB.fullmatch(last.source or ""):
        raise NotHere(f"the job is cloned from {last.source}, and only GitHub tells of its pushes")
    head = _head(str(last.source))
    if head == last.commit:
        raise NotHere(f"Jenkins has built {head[:12]}, the last commit of {BRANCH}: push another, and call again")
    _is_taken(controller.push(pushed(last, head), secret).status_code)
    build = controller.built(head)
    _is_green(build)
    return build


def pushed(last: Build, after: str, branch: str = BRANCH) -> dict[str, Any]:
    """Return what GitHub says of a push, as far as Jenkins reads it."""
    found = ON_GITHUB.fullmatch(last.source or "")
    owner, name = found.groups() if found else ("nobody", "nothing")
    address = f"https://github.com/{owner}/{name}"
    return {
        "ref": f"refs/heads/{branch}",
        "before": last.commit or NO_JENKINS,
        "after": after,
        "created": False,
        "deleted": False,
        "forced": False,
        "compare": f"{address}/compare/{branch}",
        "commits": [],
        "head_commit": None,
        "repository": {
            "name": name,
            "full_name": f"{owner}/{name}",
            "html_url": address,
            "url": address,
            "clone_url": f"{address}.git",
            "default_branch": BRANCH,
            "owner": {"name": owner, "login": owner},
        },
        "pusher": {"name": owner, "email": f"{owner}@users.noreply.github.com"},
        "sender": {"login": owner},
    }


def unique(words: str) -> str:
    """Return a reason by which a build is known again."""
    return f"{words} {secrets.token_hex(4)}"


def _triggered(answer: requests.Response) -> int | None:
    """Return the item of the queue that a ping has made, or None if it has started nothing.

    The plugin answers for every job that has the token, each branch with its own trigger; 404 if none has it.
    """
    try:
        jobs = answer.json()["jobs"] or {}
    except (ValueError, KeyError, TypeError):
        assert answer.status_code >= 400, "a ping is not answered by the Generic Webhook Trigger: is it installed?"
        return None  # refused on the way to it
    broken = [f"{name}: {told}" for name, told in jobs.items() if isinstance(told, str)]
    assert not broken, f"the Generic Webhook Trigger fails: {'; '.join(broken)}"
    others = [name for name, told in jobs.items() if name != NAME and told["triggered"]]
    assert not others, f"a ping starts {', '.join(others)} too"
    told = jobs.get(NAME)
    return int(told["id"]) if told and told["triggered"] else None


def _has_started_nothing(controller: Controller, answer: requests.Response, reason: str) -> None:
    item = _triggered(answer)
    assert item is None, f"a ping that must start nothing has started {NAME} (item {item} of the queue)"
    made = controller.asked_for(reason)
    assert not made, f"a ping that has started nothing, as Jenkins answers, has made {made} build(s)"


def _is_taken(status: int) -> None:
    whose = "is GITHUB_WEBHOOK_SECRET the controller's?"
    assert status == 200, f"a push with the right signature is refused: Jenkins answers {status}; {whose}"


def _has(build: Build, given: dict[str, str]) -> None:
    for name, value in given.items():
        got = build.parameters.get(name)
        assert got == value, f"build {build.number} was asked for with {name}={value}, and has {got}; see {build.url}"


def _is_green(build: Build) -> None:
    assert build.result in GREEN, f"build {build.number} is {build.result}: see {build.url}console"


def _head(source: str) -> str:
    """Return the last commit of the branch in a repository.

    Raises:
        NotHere: git does not get in.
    """
    asked = subprocess.run(
        ["git", "ls-remote", source, f"refs/heads/{BRANCH}"],
        env=os.environ | {"GIT_TERMINAL_PROMPT": "0"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if asked.returncode or not asked.stdout:
        raise NotHere(f"git cannot see {BRANCH} of {source} from this machine")
    return asked.stdout.split()[0]
