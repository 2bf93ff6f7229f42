"""casc.yaml: it is valid, contains no secret, and fits the Jenkinsfiles and the agent's image."""

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
SCHEMA = casc_schema.read(casc_schema.REDUCED)

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

SCHEDULES = re.findall(r"\[job: '([^']+)', schedule: '([^']+)', description: '[^']+'\]", JOBS)

VARIABLE = re.compile(r"\$\{([A-Z0-9_]+)(:-[^}]*)?\}")
LINE = re.compile(r"([A-Z0-9_]+) +(random|needed|optional) +[^\[\]]+?(?: \[([^\[\]]+)\])?")
SECRET_ATTRIBUTES = {"password", "secret"}
# Keys that a newer Jenkins than the schema's rejects or calls deprecated, which stops the boot
REMOVED_KEYS = {"agentProtocols", "excludeClientIPFromCrumb", "myViewsTabBar", "tunnel", "webSocket", "workDirSettings"}


def all_items(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield every key with its value, at any depth."""
    if isinstance(value, dict):
        yield from value.items()
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from all_items(inner)


VARIABLES = {
    (name, default[2:] if default else None)
    for _, value in all_items(CASC)
    if isinstance(value, str)
    for name, default in VARIABLE.findall(value)
}


def documented_variables() -> dict[str, tuple[str, str]]:
    """Read environment.txt: the kind of each variable, and its default."""
    variables: dict[str, tuple[str, str]] = {}
    for line in (ROOT / "jenkins/environment.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            match = LINE.fullmatch(line)
            assert match, line
            assert match[1] not in variables, line
            variables[match[1]] = (match[2], match[3] or "")
    return variables


class TestSchema:
    def test_casc_is_valid(self) -> None:
        assert list(casc_schema.find_errors(CASC, SCHEMA)) == []

    def test_all_roots_but_two_are_validated(self) -> None:
        assert CASC.keys() - SCHEMA.keys() == {"credentials", "jobs"}

    @pytest.mark.parametrize(
        ("break_casc", "message"),
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
    def test_an_error_that_would_stop_the_boot_is_reported(
        self, break_casc: Callable[[Any], None], message: str
    ) -> None:
        invalid_casc = copy.deepcopy(CASC)
        break_casc(invalid_casc)
        assert list(casc_schema.find_errors(invalid_casc, SCHEMA)) == [message]

    def test_no_key_is_removed_or_deprecated_in_a_newer_jenkins(self) -> None:
        assert not REMOVED_KEYS & {key for key, _ in all_items(CASC)}

    @pytest.mark.skipif(not casc_schema.COMPLETE.exists(), reason="the whole schema is not on this machine")
    def test_the_reduced_schema_is_that_of_the_controller(self) -> None:
        assert casc_schema.REDUCED.read_text() == casc_schema.reduce_data(json.loads(casc_schema.COMPLETE.read_text()))


class TestEnvironment:
    def test_environment_txt_lists_all_variables(self) -> None:
        assert documented_variables().keys() == {name for name, _ in VARIABLES}

    def test_only_optional_variables_have_a_default_as_listed(self) -> None:
        for name, default in VARIABLES:
            kind, documented_default = documented_variables()[name]
            assert (kind == "optional") == (default is not None), name
            assert bool(documented_default) == (kind == "optional"), name
            assert documented_default.startswith(default or ""), name

    def test_no_secret_is_in_the_file(self) -> None:
        secrets = [value for key, value in all_items(CASC) if key in SECRET_ATTRIBUTES]
        assert len(secrets) == len(USERS) + len(CREDENTIALS)
        assert all(VARIABLE.fullmatch(value) for value in secrets)

    def test_the_variable_of_a_secret_text_is_its_id_in_capitals(self) -> None:
        for kind, attributes in CREDENTIALS:
            if kind == "string":
                assert attributes["secret"].startswith(f"${{{variable_name(attributes['id'])}"), attributes["id"]


class TestPermissions:
    def permissions(self, user: str) -> list[str]:
        return next(entry["user"]["permissions"] for entry in ENTRIES if entry["user"]["name"] == user)

    def test_only_users_have_permissions(self) -> None:
        assert [entry["user"]["name"] for entry in ENTRIES] == list(USERS)

    def test_the_pinger_can_only_start_builds(self) -> None:
        assert self.permissions("pinger") == ["Overall/Read", "Job/Read", "Job/Build"]

    def test_the_agent_can_only_connect(self) -> None:
        assert self.permissions("agent") == ["Overall/Read", "Agent/Connect"]

    @pytest.mark.parametrize("user", ["viewer", "approver"])
    def test_viewers_and_approvers_can_only_read(self, user: str) -> None:
        assert {permission.partition("/")[2] for permission in self.permissions(user)} <= {"Read", "View"}

    def test_only_the_administrator_can_administer_and_configure(self) -> None:
        assert self.permissions("admin") == ["Overall/Administer"]
        others = {permission for user in USERS if user != "admin" for permission in self.permissions(user)}
        assert not [
            permission for permission in others if permission.endswith(("Administer", "Configure", "Create", "Delete"))
        ]

    def test_the_submitters_are_users_who_can_see_the_run(self) -> None:
        lists = re.findall(r"submitter: '([^']+)'", JENKINSFILES[0].read_text())
        submitters = [user for names in lists for user in names.split(",")]
        assert submitters == ["admin", "approver"]
        assert set(submitters) <= USERS.keys()
        assert {"Overall/Read", "Job/Read"} <= set(self.permissions("approver"))


class TestCredentials:
    def ids(self) -> list[str]:
        return [attributes["id"] for _, attributes in CREDENTIALS]

    def test_all_credentials_in_use_exist_and_no_others(self) -> None:
        credentials_in_use = {value for key, value in all_items(CASC) if key == "credentialsId"}
        credentials_in_use |= set(re.findall(r"\bcredentials(?:Id)?\('([^']+)'\)", JOBS))
        for path in JENKINSFILES:
            credentials_in_use |= set(re.findall(r"(?:\bcredentials\(|tokenCredentialId: )'([^']+)'", path.read_text()))
        assert credentials_in_use == set(self.ids())
        assert len(self.ids()) == len(credentials_in_use)

    def test_builds_cannot_use_the_credentials_of_the_controller(self) -> None:
        scopes = {attributes["id"]: attributes["scope"] for _, attributes in CREDENTIALS}
        assert {name for name, scope in scopes.items() if scope == "SYSTEM"} == {
            "github-webhook-secret",
            "repository-token",
        }
        assert set(scopes.values()) == {"GLOBAL", "SYSTEM"}

    def test_the_attributes_of_credentials_are_valid(self) -> None:
        for kind, attributes in CREDENTIALS:
            assert attributes.keys() <= SCHEMA["jenkins"][kind]["properties"].keys()


class TestController:
    def test_builds_run_on_the_agent_only(self) -> None:
        assert JENKINS["numExecutors"] == 0
        assert AGENT["numExecutors"] > 1  # one run may wait for an approval

    def test_the_agent_is_that_of_the_image(self) -> None:
        image = (ROOT / "Dockerfile.jenkins").read_text()
        variables = dict(re.findall(r"\b(JENKINS_AGENT_\w+|JENKINS_WEB_SOCKET)=(\S+)", image))
        assert variables["JENKINS_AGENT_NAME"] == AGENT["name"]
        assert variables["JENKINS_AGENT_WORKDIR"] == AGENT["remoteFS"]
        assert variables["JENKINS_AGENT_USER"] in USERS
        assert variables["JENKINS_WEB_SOCKET"] == "true"
        assert JENKINS["slaveAgentPort"] == -1
        assert USERS[variables["JENKINS_AGENT_USER"]]["password"] == "${JENKINS_AGENT_PASSWORD}"

    def test_the_quiet_period_merges_pings(self) -> None:
        assert JENKINS["quietPeriod"] >= 10

    def test_pushes_must_be_signed(self) -> None:
        hooks = CASC["unclassified"]["gitHubPluginConfig"]["hookSecretConfigs"]
        assert [hook["credentialsId"] for hook in hooks] == ["github-webhook-secret"]


class TestJobs:
    """The Job DSL, as far as it can be read without its plugin."""

    def test_the_script_uses_all_provided_variables(self) -> None:
        assert [set(item) for item in CASC["jobs"]] == [{"providedEnv"}, {"script"}]
        [variables] = [item["providedEnv"] for item in CASC["jobs"] if "providedEnv" in item]
        assert set(re.findall(r"\b[A-Z]+_[A-Z]+\b", re.sub(r"'[^'\n]*'", "", JOBS))) == set(variables)

    def test_the_script_contains_no_variable_of_casc(self) -> None:
        assert "${" not in JOBS

    def test_there_is_a_job_for_every_jenkinsfile(self) -> None:
        assert re.findall(r"^ *(\w+Job)\(([^)]+)\) \{", JOBS, re.MULTILINE) == [
            ("multibranchPipelineJob", "'model'"),
            ("pipelineJob", "config.job"),
        ]
        assert "scriptPath('jenkins/' + config.job + '.Jenkinsfile')" in JOBS
        assert {ROOT / f"jenkins/{job}.Jenkinsfile" for job, _ in SCHEDULES} == {*JENKINSFILES[1:]}

    def test_the_schedule_of_a_job_is_that_of_its_jenkinsfile(self) -> None:
        assert re.findall(r"spec\((.+)\)", JOBS) == ["config.schedule"]
        for job, schedule in SCHEDULES:
            path = ROOT / f"jenkins/{job}.Jenkinsfile"
            [cron] = [call for call in parse(path.read_text(), path.name).triggers if call.name == "cron"]
            assert cron.arguments[0].value.text == f"'{schedule}'"

    @pytest.mark.parametrize("source", ["github", "git"])
    def test_branch_sources_have_valid_attributes(self, source: str) -> None:
        before, traits = block_of(JOBS, source).split("traits {")
        names, known = set(re.findall(r"^ *(\w+)\(", before, re.MULTILINE)), SCHEMA["unclassified"]
        assert {"id", "credentialsId"} <= names <= known[source]["properties"].keys()
        assert set(re.findall(r"\w+Discovery", traits)) <= known.keys()

    def test_pull_requests_from_forks_are_not_built(self) -> None:
        assert "ForkDiscovery" not in JOBS


def block_of(text: str, name: str) -> str:
    """Return the text between the braces of the first `name {`."""
    start = re.search(rf"\b{name} \{{", text)
    assert start, name
    depth, position = 1, start.end()
    while depth:
        depth += {"{": 1, "}": -1}.get(text[position], 0)
        position += 1
    return text[start.end() : position - 1]
