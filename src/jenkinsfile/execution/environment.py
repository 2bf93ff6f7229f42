"""The environment of a build: the variables that Jenkins sets, the parameters, and `environment {}`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jenkinsfile.builds.processes import BUILD_COOKIE
from jenkinsfile.builds.results import StepError
from jenkinsfile.execution.evaluation import Symbol, evaluate
from jenkinsfile.expressions.values import to_string
from jenkinsfile.steps.credentials import environment_variables

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from jenkinsfile.builds.context import Build, Context
    from jenkinsfile.syntax.model import Variable

JOB_NAME = "ct"


def build_environment(build: Build, machine: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a build: the variables of this machine, those that Jenkins sets, the parameters."""
    number, branch = str(build.record.number), build.record.branch or ""
    git_variables = {
        "GIT_BRANCH": branch if build.record.commit else None,
        "GIT_COMMIT": build.record.commit,
        "GIT_PREVIOUS_COMMIT": build.previous.commit,
        "GIT_PREVIOUS_SUCCESSFUL_COMMIT": build.previous.successful_commit,
    }
    return {
        **{name: value for name, value in machine.items() if name not in git_variables},
        **{name: value for name, value in git_variables.items() if value},
        "BRANCH_NAME": branch,
        "BUILD_DISPLAY_NAME": f"#{number}",
        "BUILD_ID": number,
        "BUILD_NUMBER": number,
        "BUILD_TAG": f"{JOB_NAME}-{number}",
        "BUILD_URL": f"{build.folder.as_uri()}/",
        "CI": "true",
        "EXECUTOR_NUMBER": "0",
        "JOB_BASE_NAME": JOB_NAME,
        "JOB_NAME": JOB_NAME,
        "NODE_NAME": "built-in",
        "WORKSPACE": str(build.workspace),
        "WORKSPACE_TMP": str(build.folder / "tmp"),
        BUILD_COOKIE: build.record.cookie,
        **{name: to_string(value) for name, value in build.parameters.items()},
    }


def add_variables(context: Context, variables: Iterable[Variable]) -> Context:
    """Return the context with the variables of an `environment {}`. Each variable can use those before it."""
    for variable in variables:
        value = evaluate(context, variable.value)
        if isinstance(value, Symbol):
            if value.name != "credentials":
                raise StepError(f"the variable '{variable.name}' cannot be '{value.name}(...)'")
            identifier = value.arguments.get("id", "")
            values = environment_variables(variable.name, identifier, context.build.credentials)
            context = context.with_variables(values)
        else:
            context = context.with_variables({variable.name: to_string(value)})
    return context
