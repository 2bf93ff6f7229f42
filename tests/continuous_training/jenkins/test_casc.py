"""casc.yaml: a controller would accept it, it holds no secret, and it fits the Jenkinsfiles and the agent's image."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

import casc_schema
from conftest import ROOT
from jenkinsfile.steps.credentials import variable_name
from jenkinsfile.syntax.parser import parse

CASC = yaml.safe_load((ROOT / "casc.yaml").read_text())
KNOWN = casc_schema.read(casc_schema.CUT)

JENKINS = CASC["jenkins"]
USERS = {user["id"]: user for user in JENKINS["securityRealm"]["local"]["users"]}
ENTRIES = JENKINS["authorizationStrategy"]["globalMatrix"]["entries"]
[AGENT] = [node["permanent"] for node in JENKINS["nodes"]]
CREDENTIALS = [
    (kind, attributes)
    for domain in CASC["credentials"]["system"]["domainCredentials"]
    for credential in domain["credentials"]
    for kind, attributes in credential.items()
]
[JOBS] = [item["script"] for item in CASC["jobs"] if "script" in item]
JENKINSFILES = [ROOT / "Jenkinsfile", *sorted((ROOT / "jenkins").glob("*.Jenkinsfile"))]

SCHEDULED = re.findall(r"\[job: '([^']+)', schedule: '([^']+)', description: '[^']+'\]", JOBS)

FROM_OUTSIDE = re.compile(r"\$\{([A-Z0-9_]+)(:-[^}]*)?\}")
LISTED = re.compile(r"([A-Z0-9_]+) +(random|needed|optional) +[^\[\]]+?(?: \[([^\[\]]+)\])?")
SECRETS = {"password", "secret"}  # attributes that hold one
# A newer Jenkins than the schema's refuses these, or calls them deprecated, which stops the boot as well.
GONE = {"agentProtocols", "excludeClientIPFromCrumb", "myViewsTabBar", "tunnel", "webSocket", "workDirSettings"}


def pairs(given: Any) -> Iterator[tuple[str, Any]]:
    """Give every key with its value, at any depth."""
    if isinstance(given, dict):
        yield from given.items()
    for inner in given.values() if isinstance(given, dict) else given if isinstance(given, list) else ():
        yield from pairs(inner)


TAKEN = {
    (name, default[2:] if default else None)
    for _, value in pairs(CASC)
    if isinstance(value, str)
    for name, default in FROM_OUTSIDE.findall(value)
}


def listed() -> dict[str, tuple[str, str]]:
    """Read environment.txt: of each variable its kind, and what holds if it is empty."""
    found: dict[str, tuple[str, str]] = {}
    for line in (ROOT / "jenkins/environment.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            read = LISTED.fullmatch(line)
            assert read, line
            assert read[1] not in found, line
            found[read[1]] = (read[2], read[3] or "")
    return found


class TestSchema:
    def test_a_controller_would_accept_what_is_there(self) -> None:
        assert list(casc_schema.refused(CASC, KNOWN)) == []

    def test_every_root_is_held_against_the_schema_but_the_two_that_it_is_wrong_about(self) -> None:
        assert CASC.keys() - KNOWN.keys() == {"credentials", "jobs"}

    @pytest.mark.parametrize(
        ("spoil", "message"),
        [
            (lambda casc: casc["jenkins"].update(numExecutor=0), "jenkins: «numExecutor» is unknown"),
            (lambda casc: casc["jenkins"].update(numExecutors="none"), "jenkins.numExecutors: «none» is no integer"),
            (lambda casc: casc["jenkins"].update(nodes={}), "jenkins.nodes: «{}» is no array"),
            (lambda casc: casc["jenkins"].update(crumbIssuer="strict"), "jenkins.crumbIssuer: «strict» is unknown"),
            (
                lambda casc: casc["jenkins"].update(crumbIssuer={"standard": {"excludeClientIPFromCrumb": True}}),
                "jenkins.crumbIssuer.standard: «excludeClientIPFromCrumb» is unknown",
            ),
            (
                lambda casc: casc["jenkins"]["nodes"][0]["permanent"].update(mode="EXCLUDED"),
                "jenkins.nodes[0].permanent.mode: «EXCLUDED» is none of NORMAL, EXCLUSIVE",
            ),
            (
                lambda casc: casc["jenkins"]["nodes"][0]["permanent"].update(launcher={"inbound": {"websocket": True}}),
                "jenkins.nodes[0].permanent.launcher.inbound: «websocket» is unknown",
            ),
            (
                lambda casc: casc["jenkins"]["securityRealm"]["local"]["users"][1].update(passwd=""),
                "jenkins.securityRealm.local.users[1]: «passwd» is unknown",
            ),
        ],
    )
    def test_what_would_stop_the_boot_is_found(self, spoil: Callable[[Any], None], message: str) -> None:
        spoiled = copy.deepcopy(CASC)
        spoil(spoiled)
        assert list(casc_schema.refused(spoiled, KNOWN)) == [message]

    def test_nothing_in_it_is_gone_or_deprecated_in_a_newer_jenkins(self) -> None:
        assert not GONE & {key for key, _ in pairs(CASC)}

    @pytest.mark.skipif(not casc_schema.WHOLE.exists(), reason="the whole schema is not on this machine")
    def test_the_copy_is_what_a_controller_gave(self) -> None:
        assert casc_schema.CUT.read_text() == casc_schema.cut(json.loads(casc_schema.WHOLE.read_text()))


class TestEnvironment:
    def test_all_that_comes_from_outside_is_listed_and_nothing_else(self) -> None:
        assert listed().keys() == {name for name, _ in TAKEN}

    def test_what_is_optional_has_the_default_that_is_listed_and_the_rest_has_none(self) -> None:
        for name, default in TAKEN:
            kind, instead = listed()[name]
            assert (kind == "optional") == (default is not None), name
            assert bool(instead) == (kind == "optional"), name
            assert instead.startswith(default or ""), name

    def test_no_secret_stands_in_it(self) -> None:
        given = [value for key, value in pairs(CASC) if key in SECRETS]
        assert len(given) == len(USERS) + len(CREDENTIALS)
        assert all(FROM_OUTSIDE.fullmatch(value) for value in given)

    def test_a_secret_text_is_its_id_in_capitals_as_it_is_in_a_run_without_jenkins(self) -> None:
        for kind, attributes in CREDENTIALS:
            if kind == "string":
                assert attributes["secret"].startswith(f"${{{variable_name(attributes['id'])}"), attributes["id"]


class TestWhoMayDoWhat:
    def permissions(self, user: str) -> list[str]:
        return next(entry["user"]["permissions"] for entry in ENTRIES if entry["user"]["name"] == user)

    def test_only_users_that_there_are_may_do_anything(self) -> None:
        assert [entry["user"]["name"] for entry in ENTRIES] == list(USERS)

    def test_the_service_that_starts_runs_may_do_no_more(self) -> None:
        assert self.permissions("pinger") == ["Overall/Read", "Job/Read", "Job/Build"]

    def test_the_agent_may_do_nothing_but_connect(self) -> None:
        assert self.permissions("agent") == ["Overall/Read", "Agent/Connect"]

    @pytest.mark.parametrize("user", ["viewer", "approver"])
    def test_who_reads_changes_nothing(self, user: str) -> None:
        assert {permission.partition("/")[2] for permission in self.permissions(user)} <= {"Read", "View"}

    def test_only_the_administrator_may_administer_configure_and_answer_for_others(self) -> None:
        assert self.permissions("admin") == ["Overall/Administer"]
        everybody = {permission for user in USERS if user != "admin" for permission in self.permissions(user)}
        assert not [one for one in everybody if one.endswith(("Administer", "Configure", "Create", "Delete"))]

    def test_who_may_approve_is_a_user_who_sees_the_run(self) -> None:
        named = re.findall(r"submitter: '([^']+)'", JENKINSFILES[0].read_text())
        submitters = [user for names in named for user in names.split(",")]
        assert submitters == ["admin", "approver"]
        assert set(submitters) <= USERS.keys()
        assert {"Overall/Read", "Job/Read"} <= set(self.permissions("approver"))


class TestCredentials:
    def ids(self) -> list[str]:
        return [attributes["id"] for _, attributes in CREDENTIALS]

    def test_every_one_that_is_used_is_there_and_every_one_that_is_there_is_used(self) -> None:
        used = {value for key, value in pairs(CASC) if key == "credentialsId"}
        used |= set(re.findall(r"\bcredentials(?:Id)?\('([^']+)'\)", JOBS))
        for path in JENKINSFILES:
            used |= set(re.findall(r"(?:\bcredentials\(|tokenCredentialId: )'([^']+)'", path.read_text()))
        assert used == set(self.ids())
        assert len(self.ids()) == len(used)

    def test_runs_do_not_see_what_only_the_controller_needs(self) -> None:
        scopes = {attributes["id"]: attributes["scope"] for _, attributes in CREDENTIALS}
        assert {name for name, scope in scopes.items() if scope == "SYSTEM"} == {
            "github-webhook-secret",
            "repository-token",
        }
        assert set(scopes.values()) == {"GLOBAL", "SYSTEM"}

    def test_their_attributes_are_those_of_the_plugins(self) -> None:
        for kind, attributes in CREDENTIALS:
            assert attributes.keys() <= KNOWN["jenkins"][kind]["properties"].keys()


class TestController:
    def test_builds_run_on_the_agent_only(self) -> None:
        assert JENKINS["numExecutors"] == 0
        assert AGENT["numExecutors"] > 1  # one run may wait for an approval

    def test_the_agent_is_the_one_that_the_image_comes_in_as(self) -> None:
        image = (ROOT / "Dockerfile.jenkins").read_text()
        stated = dict(re.findall(r"\b(JENKINS_AGENT_\w+|JENKINS_WEB_SOCKET)=(\S+)", image))
        assert stated["JENKINS_AGENT_NAME"] == AGENT["name"]
        assert stated["JENKINS_AGENT_WORKDIR"] == AGENT["remoteFS"]
        assert stated["JENKINS_AGENT_USER"] in USERS
        assert stated["JENKINS_WEB_SOCKET"] == "true"
        assert JENKINS["slaveAgentPort"] == -1
        assert USERS[stated["JENKINS_AGENT_USER"]]["password"] == "${JENKINS_AGENT_PASSWORD}"

    def test_pings_wait_for_each_other(self) -> None:
        assert JENKINS["quietPeriod"] >= 10

    def test_pushes_must_be_signed(self) -> None:
        hooks = CASC["unclassified"]["gitHubPluginConfig"]["hookSecretConfigs"]
        assert [hook["credentialsId"] for hook in hooks] == ["github-webhook-secret"]


class TestJobs:
    """The Job DSL, as far as it can be read without its plugin."""

    def test_it_is_given_as_text_with_its_variables(self) -> None:
        assert [set(item) for item in CASC["jobs"]] == [{"providedEnv"}, {"script"}]
        [provided] = [item["providedEnv"] for item in CASC["jobs"] if "providedEnv" in item]
        assert set(re.findall(r"\b[A-Z]+_[A-Z]+\b", re.sub(r"'[^'\n]*'", "", JOBS))) == set(provided)

    def test_nothing_in_it_is_taken_for_a_variable_of_casc(self) -> None:
        assert "${" not in JOBS

    def test_its_jobs_run_the_jenkinsfiles_that_are_there(self) -> None:
        assert re.findall(r"^ *(\w+Job)\(([^)]+)\) \{", JOBS, re.MULTILINE) == [
            ("multibranchPipelineJob", "'model'"),
            ("pipelineJob", "config.job"),
        ]
        assert "scriptPath('jenkins/' + config.job + '.Jenkinsfile')" in JOBS
        assert {ROOT / f"jenkins/{job}.Jenkinsfile" for job, _ in SCHEDULED} == {*JENKINSFILES[1:]}

    def test_the_clock_of_a_job_is_its_jenkinsfiles_own(self) -> None:
        assert re.findall(r"spec\((.+)\)", JOBS) == ["config.schedule"]
        for job, clock in SCHEDULED:
            path = ROOT / f"jenkins/{job}.Jenkinsfile"
            [cron] = [call for call in parse(path.read_text(), path.name).triggers if call.name == "cron"]
            assert cron.arguments[0].value.text == f"'{clock}'"

    @pytest.mark.parametrize("source", ["github", "git"])
    def test_where_branches_come_from_is_said_in_the_plugins_words(self, source: str) -> None:
        before, traits = inner(JOBS, source).split("traits {")
        message, known = set(re.findall(r"^ *(\w+)\(", before, re.MULTILINE)), KNOWN["unclassified"]
        assert {"id", "credentialsId"} <= message <= known[source]["properties"].keys()
        assert set(re.findall(r"\w+Discovery", traits)) <= known.keys()

    def test_nothing_is_run_of_a_strangers_pull_request(self) -> None:
        assert "ForkDiscovery" not in JOBS


def inner(text: str, name: str) -> str:
    """Give what stands between the braces of the first `name {`."""
    start = re.search(rf"\b{name} \{{", text)
    assert start, name
    depth, at = 1, start.end()
    while depth:
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        at += 1
    return text[start.end() : at - 1]
