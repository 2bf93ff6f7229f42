"""Jenkins' credentials from the environment of this machine: the id `mlflow-tracking-uri` is `MLFLOW_TRACKING_URI`.

A Jenkinsfile with `MLFLOW_TRACKING_URI = credentials('mlflow-tracking-uri')` passes that variable through. If it is not
set on this machine, it is not set in the build either, so that the program's default applies. On a controller the
credential exists, and may be empty. Any other credential must be set.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from jenkinsfile.builds.results import StepError
from jenkinsfile.steps.arguments import StepArguments

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jenkinsfile.builds.context import Body, Context
    from jenkinsfile.builds.masking import Secrets

# The bindings of `withCredentials`, with their arguments.
BINDINGS = {
    "string": ("credentialsId", "variable"),
    "file": ("credentialsId", "variable"),
    "usernameColonPassword": ("credentialsId", "variable"),
    "usernamePassword": ("credentialsId", "usernameVariable", "passwordVariable"),
}
USERNAME_BINDINGS = frozenset({"usernamePassword", "usernameColonPassword"})


def variable_name(identifier: str) -> str:
    """Return the environment variable that holds a credential."""
    return re.sub(r"\W", "_", identifier).upper()


def variable_names(identifier: str) -> tuple[str, str, str]:
    """Return all variables that can hold a credential: the whole, its username and its password."""
    name = variable_name(identifier)
    return name, f"{name}_USR", f"{name}_PSW"


def is_pass_through(name: str, identifier: str) -> bool:
    """Return whether a variable of `environment {}` is the one that holds its credential on this machine."""
    return name == variable_name(identifier)


def missing_variables(identifier: str, environment: Mapping[str, str], *, has_username: bool | None) -> str | None:
    """Return which variables to set for a missing credential; None if it is set.

    `has_username`: whether the credential must be a username with password; None accepts a secret text as well.
    """
    whole, username, password = variable_names(identifier)
    value = environment.get(whole, "")
    if has_username is not False and environment.get(username) and environment.get(password):
        return None
    if has_username:
        return None if ":" in value else f"{username} and {password}, or {whole} as user:password"
    return None if value else whole


def mask_credential(
    identifier: str, environment: Mapping[str, str], secrets: Secrets, *, has_username: bool | None
) -> None:
    """Add the values of a credential to the secrets. A username alone is not secret."""
    secrets.add(environment.get(variable_name(identifier), ""))
    if has_username or (has_username is None and _has_username(identifier, environment)):
        username, password = _username_and_password(identifier, environment)
        secrets.add(f"{username}:{password}")
        secrets.add(password)


def environment_variables(name: str, identifier: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that `NAME = credentials('id')` sets: three for a username with password, else one."""
    if variables := missing_variables(identifier, environment, has_username=None):
        if is_pass_through(name, identifier):
            return {}
        raise StepError(f"the credential '{identifier}' is missing: set {variables}")
    if not _has_username(identifier, environment):
        return {name: environment[variable_name(identifier)]}
    username, password = _username_and_password(identifier, environment)
    return {name: f"{username}:{password}", f"{name}_USR": username, f"{name}_PSW": password}


def with_credentials(context: Context, arguments: StepArguments, body: Body) -> None:
    """Run the body with credentials in environment variables."""
    variables: dict[str, str] = {}
    for binding in arguments.items("bindings"):
        variables |= _binding_variables(StepArguments(binding.name, binding.arguments), context.build.credentials)
    body(context.with_variables(variables))


def _binding_variables(binding: StepArguments, environment: Mapping[str, str]) -> dict[str, str]:
    identifier = binding.text("credentialsId")
    has_username = binding.step in USERNAME_BINDINGS
    if variables := missing_variables(identifier, environment, has_username=has_username):
        raise StepError(f"the credential '{identifier}' is missing: set {variables}")
    if not has_username:
        return {binding.text("variable"): environment[variable_name(identifier)]}
    username, password = _username_and_password(identifier, environment)
    if binding.step == "usernameColonPassword":
        return {binding.text("variable"): f"{username}:{password}"}
    return {binding.text("usernameVariable"): username, binding.text("passwordVariable"): password}


def _has_username(identifier: str, environment: Mapping[str, str]) -> bool:
    """Return whether a credential is a username with password, and not a text such as the URL of a server."""
    whole, username, password = variable_names(identifier)
    value = environment.get(whole, "")
    return bool(environment.get(username) and environment.get(password)) or (":" in value and "://" not in value)


def _username_and_password(identifier: str, environment: Mapping[str, str]) -> tuple[str, str]:
    whole, username, password = variable_names(identifier)
    if environment.get(username) and environment.get(password):
        return environment[username], environment[password]
    username, _, password = environment[whole].partition(":")
    return username, password
