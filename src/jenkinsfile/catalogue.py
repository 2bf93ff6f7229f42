"""What a local run knows: every step, option, `when` and `post` condition and parameter, with its arguments.

Add a step here: its name in the Jenkinsfile, the function that does it, its arguments (the first is the one that a
single unnamed argument means) and whether steps stand between its braces.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jenkinsfile.steps import control_flow as flow
from jenkinsfile.steps import credentials, files, reports, shell
from jenkinsfile.steps import input as questions

if TYPE_CHECKING:
    from collections.abc import Callable

    from jenkinsfile.builds.context import Body, Context
    from jenkinsfile.steps.arguments import Given


@dataclass(frozen=True)
class Step:
    """One step: what does it, what it takes."""

    run: Callable[[Context, Given, Body], Any]
    arguments: tuple[str, ...] = ()
    body: bool = False


JUNIT = (
    *("testResults", "allowEmptyResults", "skipMarkingBuildUnstable", "skipPublishingChecks", "checksName"),
    *("healthScaleFactor", "keepLongStdio", "keepTestNames", "keepProperties", "skipOldReports", "stdioRetention"),
)
ARCHIVE = (
    *("artifacts", "excludes", "allowEmptyArchive", "onlyIfSuccessful", "fingerprint", "caseSensitive"),
    *("defaultExcludes", "followSymlinks"),
)
CLEAN = (
    *("cleanWhenAborted", "cleanWhenFailure", "cleanWhenNotBuilt", "cleanWhenSuccess", "cleanWhenUnstable"),
    *("cleanupMatrixParent", "deleteDirs", "disableDeferredWipeout", "notFailBuild", "patterns", "skipWhenFailed"),
)

STEPS = {
    "addBadge": Step(reports.add_badge, ("text", "icon", "id", "link", "cssClass", "style", "target")),
    "archiveArtifacts": Step(reports.archive_artifacts, ARCHIVE),
    "catchError": Step(flow.catch_error, ("message", "buildResult", "stageResult", "catchInterruptions"), body=True),
    "checkout": Step(files.checkout, ("scm",)),
    "cleanWs": Step(files.delete_directory, CLEAN),
    "deleteDir": Step(files.delete_directory),
    "dir": Step(files.change_directory, ("path",), body=True),
    "echo": Step(flow.echo, ("message",)),
    "error": Step(flow.error, ("message",)),
    "fileExists": Step(files.file_exists, ("file",)),
    "input": Step(questions.ask, ("message", "id", "ok", "submitter", "submitterParameter")),
    "isUnix": Step(shell.is_unix),
    "junit": Step(reports.junit, JUNIT),
    "publishHTML": Step(reports.publish_html, ("target",)),
    "pwd": Step(shell.pwd, ("tmp",)),
    "readFile": Step(files.read_file, ("file", "encoding")),
    "retry": Step(flow.retry, ("count",), body=True),
    "sh": Step(shell.sh, ("script", "label", "returnStatus", "returnStdout", "encoding")),
    "sleep": Step(flow.sleep, ("time", "unit")),
    "stash": Step(files.stash, ("name", "includes", "excludes", "allowEmpty", "useDefaultExcludes")),
    "timeout": Step(flow.timeout, ("time", "unit"), body=True),
    "unstable": Step(flow.unstable, ("message",)),
    "unstash": Step(files.unstash, ("name",)),
    "warnError": Step(flow.warn_error, ("message", "catchInterruptions"), body=True),
    "withCredentials": Step(flow.with_credentials, ("bindings",), body=True),
    "withEnv": Step(flow.with_environment, ("overrides",), body=True),
    "writeFile": Step(files.write_file, ("file", "text", "encoding")),
}

# What describes something to a step or an option, and does nothing itself.
SYMBOLS: dict[str, tuple[str, ...]] = {
    **credentials.BINDINGS,
    "credentials": ("id",),
    "logRotator": ("numToKeepStr", "daysToKeepStr", "artifactNumToKeepStr", "artifactDaysToKeepStr"),
}

# Options that a local run heeds, and those that mean nothing on one machine.
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
CONDITIONS_OF_CONDITIONS = frozenset({"allOf", "anyOf", "not"})

PARAMETERS: dict[str, tuple[str, ...]] = {
    "booleanParam": ("name", "defaultValue", "description"),
    "choice": ("name", "choices", "description"),
    "password": ("name", "defaultValue", "description"),
    "string": ("name", "defaultValue", "description", "trim"),
    "text": ("name", "defaultValue", "description", "trim"),
}

# In the order in which Jenkins looks at them.
POST = (
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
