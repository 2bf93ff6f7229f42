"""The environment that Jenkins gives to a build, and what `environment {}` adds to it."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from jenkinsfile.builds.processes import BUILD_COOKIE
from jenkinsfile.builds.results import StepError
from jenkinsfile.execution.evaluation import Symbol, evaluate
from jenkinsfile.expressions.values import text
from jenkinsfile.steps import credentials

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from jenkinsfile.builds.context import Build, Context
    from jenkinsfile.syntax.model import Variable

JOB = "ct"


def of_build(build: Build, branch: str, machine: Mapping[str, str], *, terminal: bool) -> dict[str, str]:
    """Give the whole environment of a build: this machine's, Jenkins' own variables, and the parameters."""
    number = str(build.record.number)
    return {
        **machine,
        **({"GIT_COMMIT": build.record.commit, "GIT_BRANCH": branch} if build.record.commit else {}),
        "BRANCH_NAME": branch,
        "BUILD_DISPLAY_NAME": f"#{number}",
        "BUILD_ID": number,
        "BUILD_NUMBER": number,
        "BUILD_TAG": f"{JOB}-{number}",
        "BUILD_URL": f"{build.folder.as_uri()}/",
        "CI": "true",
        "EXECUTOR_NUMBER": "0",
        "JOB_BASE_NAME": JOB,
        "JOB_NAME": JOB,
        "NODE_NAME": "built-in",
        "WORKSPACE": str(build.workspace),
        "WORKSPACE_TMP": str(build.folder / "tmp"),
        BUILD_COOKIE: build.record.cookie,
        **({"CT_PROGRESS": "1"} if terminal else {}),
        **{name: text(value) for name, value in build.parameters.items()},
    }


def with_declared(context: Context, variables: Iterable[Variable]) -> Context:
    """Give the context with the variables of an `environment {}`; each sees those before it."""
    for variable in variables:
        value = evaluate(context, variable.value)
        if isinstance(value, Symbol):
            if value.name != "credentials":
                raise StepError(f"«{variable.name}» cannot be «{value.name}»")
            found = credentials.for_environment(variable.name, value.named.get("id", ""), context.build.credentials)
            context = context.with_variables(found)
        else:
            context = context.with_variables({variable.name: text(value)})
    return context


def commit(workspace: Path) -> str | None:
    """Give the commit that is checked out; None outside a repository."""
    try:
        asked = subprocess.run(
            ["git", "rev-parse", "--verify", "HEAD"],
            cwd=workspace,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return asked.stdout.strip()
