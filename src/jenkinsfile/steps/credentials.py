"""Jenkins' credentials, from this machine's environment: the id `mlflow-tracking-uri` is `MLFLOW_TRACKING_URI`.

A Jenkinsfile that says `MLFLOW_TRACKING_URI = credentials('mlflow-tracking-uri')` only passes that variable on. If it
is not set here, it is not set in the run either, so that the default for a laptop holds; on a controller the credential
is there, and may be empty. Any other credential must be there.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from jenkinsfile.builds.results import StepError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jenkinsfile.builds.masking import Secrets
    from jenkinsfile.steps.arguments import Given

BINDINGS = {
    "string": ("credentialsId", "variable"),
    "file": ("credentialsId", "variable"),
    "usernameColonPassword": ("credentialsId", "variable"),
    "usernamePassword": ("credentialsId", "usernameVariable", "passwordVariable"),
}
PAIRS = frozenset({"usernamePassword", "usernameColonPassword"})


def variable(identifier: str) -> str:
    """Name the environment variable that holds a credential."""
    return re.sub(r"\W", "_", identifier).upper()


def sources(identifier: str) -> tuple[str, str, str]:
    """Name all variables that a credential can come from: itself, its user and its password."""
    name = variable(identifier)
    return name, f"{name}_USR", f"{name}_PSW"


def passes_on(name: str, identifier: str) -> bool:
    """Tell whether a variable of `environment {}` is the very one that its credential comes from."""
    return name == variable(identifier)


def missing(identifier: str, environment: Mapping[str, str], *, pair: bool | None) -> str | None:
    """Say what to set for a credential that is not there; None if it is.

    `pair`: whether a user with a password is wanted; None takes either.
    """
    whole, user, password = sources(identifier)
    value = environment.get(whole, "")
    if pair is not False and environment.get(user) and environment.get(password):
        return None
    if pair:
        return None if ":" in value else f"{user} and {password}, or {whole} as user:password"
    return None if value else whole


def hide(identifier: str, environment: Mapping[str, str], secrets: Secrets, *, pair: bool | None) -> None:
    """Mask whatever a credential holds; a user's name alone is no secret."""
    whole, _, _ = sources(identifier)
    secrets.add(environment.get(whole, ""))
    if pair or (pair is None and _is_pair(identifier, environment)):
        user, password = _pair(identifier, environment)
        secrets.add(f"{user}:{password}")
        secrets.add(password)


def for_environment(name: str, identifier: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Give the variables that `NAME = credentials('id')` sets: a user with a password sets three."""
    if reason := missing(identifier, environment, pair=None):
        if passes_on(name, identifier):
            return {}
        raise StepError(f"the credential «{identifier}» is missing: set {reason}")
    if not _is_pair(identifier, environment):
        return {name: environment[variable(identifier)]}
    user, password = _pair(identifier, environment)
    return {name: f"{user}:{password}", f"{name}_USR": user, f"{name}_PSW": password}


def for_binding(kind: str, given: Given, environment: Mapping[str, str]) -> dict[str, str]:
    """Give the variables that one binding of `withCredentials` sets."""
    identifier = given.text("credentialsId")
    pair = kind in PAIRS
    if reason := missing(identifier, environment, pair=pair):
        raise StepError(f"the credential «{identifier}» is missing: set {reason}")
    if not pair:
        return {given.text("variable"): environment[variable(identifier)]}
    user, password = _pair(identifier, environment)
    if kind == "usernameColonPassword":
        return {given.text("variable"): f"{user}:{password}"}
    return {given.text("usernameVariable"): user, given.text("passwordVariable"): password}


def _is_pair(identifier: str, environment: Mapping[str, str]) -> bool:
    """Tell a user with a password from a text, such as the address of a server."""
    whole, user, password = sources(identifier)
    value = environment.get(whole, "")
    return bool(environment.get(user) and environment.get(password)) or (":" in value and "://" not in value)


def _pair(identifier: str, environment: Mapping[str, str]) -> tuple[str, str]:
    whole, user, password = sources(identifier)
    if environment.get(user) and environment.get(password):
        return environment[user], environment[password]
    user, _, password = environment[whole].partition(":")
    return user, password
