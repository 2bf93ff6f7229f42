"""Everything that a local run supports: steps, options, `when` and `post` conditions, parameters, with arguments.

Add a step here: its name in the Jenkinsfile, the function that implements it, its arguments (a single unnamed argument
is the first one), and whether it has a body of other steps in braces.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jenkinsfile.steps import control_flow, credentials, files, input_step, reports, shell

if TYPE_CHECKING:
    from collections.abc import Callable

    from jenkinsfile.builds.context import Body, Context
    from jenkinsfile.steps.arguments import StepArguments


@dataclass(frozen=True)
class StepDefinition:
    """One step: its implementation, its arguments, and whether it has a body."""

    run: Callable[[Context, StepArguments, Body], Any]
    arguments: tuple[str, ...] = ()
    body: bool = False


JUNIT_ARGUMENTS = (
    *("testResults", "allowEmptyResults", "skipMarkingBuildUnstable", "skipPublishingChecks", "checksName"),
    *("healthScaleFactor", "keepLongStdio", "keepTestNames", "keepProperties", "skipOldReports", "stdioRetention"),
)
ARCHIVE_ARGUMENTS = (
    *("artifacts", "excludes", "allowEmptyArchive", "onlyIfSuccessful", "fingerprint", "caseSensitive"),
    *("defaultExcludes", "followSymlinks"),
)
CLEAN_ARGUMENTS = (
    *("cleanWhenAborted", "cleanWhenFailure", "cleanWhenNotBuilt", "cleanWhenSuccess", "cleanWhenUnstable"),
    *("cleanupMatrixParent", "deleteDirs", "disableDeferredWipeout", "notFailBuild", "patterns", "skipWhenFailed"),
)

STEPS = {
    "addBadge": StepDefinition(reports.add_badge, ("text", "icon", "id", "link", "cssClass", "style", "target")),
    "archiveArtifacts": StepDefinition(reports.archive_artifacts, ARCHIVE_ARGUMENTS),
    "catchError": StepDefinition(
        control_flow.catch_error, ("message", "buildResult", "stageResult", "catchInterruptions"), body=True
    ),
    "checkout": StepDefinition(files.checkout, ("scm",)),
    "cleanWs": StepDefinition(files.delete_directory, CLEAN_ARGUMENTS),
    "deleteDir": StepDefinition(files.delete_directory),
    "dir": StepDefinition(files.change_directory, ("path",), body=True),
    "echo": StepDefinition(control_flow.echo, ("message",)),
    "error": StepDefinition(control_flow.error, ("message",)),
    "fileExists": StepDefinition(files.file_exists, ("file",)),
    "input": StepDefinition(input_step.wait_for_input, ("message", "id", "ok", "submitter", "submitterParameter")),
    "isUnix": StepDefinition(shell.is_unix),
    "junit": StepDefinition(reports.junit, JUNIT_ARGUMENTS),
    "publishHTML": StepDefinition(reports.publish_html, ("target",)),
    "pwd": StepDefinition(shell.pwd, ("tmp",)),
    "readFile": StepDefinition(files.read_file, ("file", "encoding")),
    "retry": StepDefinition(control_flow.retry, ("count",), body=True),
    "sh": StepDefinition(shell.sh, ("script", "label", "returnStatus", "returnStdout", "encoding")),
    "sleep": StepDefinition(control_flow.sleep, ("time", "unit")),
    "stash": StepDefinition(files.stash, ("name", "includes", "excludes", "allowEmpty", "useDefaultExcludes")),
    "timeout": StepDefinition(control_flow.timeout, ("time", "unit"), body=True),
    "unstable": StepDefinition(control_flow.unstable, ("message",)),
    "unstash": StepDefinition(files.unstash, ("name",)),
    "warnError": StepDefinition(control_flow.warn_error, ("message", "catchInterruptions"), body=True),
    "withCredentials": StepDefinition(credentials.with_credentials, ("bindings",), body=True),
    "withEnv": StepDefinition(control_flow.with_environment, ("overrides",), body=True),
    "writeFile": StepDefinition(files.write_file, ("file", "text", "encoding")),
}

# Calls that describe an argument of a step or an option, and do nothing themselves.
SYMBOLS: dict[str, tuple[str, ...]] = {
    **credentials.BINDINGS,
    "credentials": ("id",),
    "logRotator": ("numToKeepStr", "daysToKeepStr", "artifactNumToKeepStr", "artifactDaysToKeepStr"),
}

# Options that a local run implements, and those that have no effect on one machine.
OPTIONS: dict[str, tuple[str, ...]] = {
    "ansiColor": ("colorMapName",),
    "buildDiscarder": ("strategy",),
    "disableConcurrentBuilds": (),
    "disableResume": (),
    "durabilityHint": ("hint",),
    "newContainerPerStage": (),
    "overrideIndexTriggers": ("enableTriggers",),
    "parallelsAlwaysFailFast": (),
    "preserveStashes": ("buildCount",),
    "quietPeriod": ("value",),
    "rateLimitBuilds": ("throttle",),
    "retry": ("count",),
    "skipDefaultCheckout": ("value",),
    "skipStagesAfterUnstable": (),
    "timeout": ("time", "unit"),
    "timestamps": (),
}
STAGE_OPTIONS = frozenset({"retry", "timeout", "timestamps", "skipDefaultCheckout", "ansiColor"})

CONDITIONS: dict[str, tuple[str, ...]] = {
    "branch": ("pattern", "comparator"),
    "buildingTag": (),
    "changeRequest": ("id", "target", "branch", "fork", "url", "title", "author", "authorEmail", "comparator"),
    "changeset": ("pattern", "caseSensitive", "comparator"),
    "environment": ("name", "value"),
    "equals": ("expected", "actual"),
    "expression": (),
    "isRestartedRun": (),
    "tag": ("pattern", "comparator"),
    "triggeredBy": ("cause",),
}
COMPOSITE_CONDITIONS = frozenset({"allOf", "anyOf", "not"})

PARAMETERS: dict[str, tuple[str, ...]] = {
    "booleanParam": ("name", "defaultValue", "description"),
    "choice": ("name", "choices", "description"),
    "password": ("name", "defaultValue", "description"),
    "string": ("name", "defaultValue", "description", "trim"),
    "text": ("name", "defaultValue", "description", "trim"),
}

# In the order in which Jenkins evaluates them.
POST_CONDITIONS = (
    "always",
    "changed",
    "fixed",
    "regression",
    "aborted",
    "failure",
    "success",
    "unstable",
    "unsuccessful",
    "cleanup",
)
