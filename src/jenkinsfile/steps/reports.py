"""The steps that store results with the build: JUnit results, archived files, HTML reports, badges."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from jenkinsfile.builds.results import Result, StepError
from jenkinsfile.steps.arguments import StepArguments
from jenkinsfile.steps.file_patterns import find_files

if TYPE_CHECKING:
    from pathlib import Path

    from jenkinsfile.builds.context import Body, Context
    from jenkinsfile.expressions.values import Value


def junit(context: Context, arguments: StepArguments, _body: Body) -> dict[str, Value]:
    """Read JUnit XML files. A failed test makes the stage and the build UNSTABLE."""
    pattern = arguments.text("testResults")
    files = find_files(context.directory, pattern)
    if not files:
        if arguments.boolean("allowEmptyResults"):
            context.log(f"no test results in {pattern}")
            return {"totalCount": 0, "failCount": 0, "skipCount": 0, "passCount": 0}
        raise StepError(f"no test report matches {pattern}: check the pattern, or set allowEmptyResults")
    test_count = failure_count = skip_count = 0
    for file in files:
        for case in _parse_xml(file).iter("testcase"):
            test_count += 1
            failure_count += case.find("failure") is not None or case.find("error") is not None
            skip_count += case.find("skipped") is not None
    _copy(files, context.directory, context.build.folder / "junit")
    context.log(f"{test_count} tests: {failure_count} failed, {skip_count} skipped", "yellow" if failure_count else "")
    if failure_count and not arguments.boolean("skipMarkingBuildUnstable"):
        context.worsen(Result.UNSTABLE)
    return {
        "totalCount": test_count,
        "failCount": failure_count,
        "skipCount": skip_count,
        "passCount": test_count - failure_count - skip_count,
    }


def archive_artifacts(context: Context, arguments: StepArguments, _body: Body) -> None:
    """Copy files of the workspace to the `archive/` of the build."""
    pattern = arguments.text("artifacts")
    if arguments.boolean("onlyIfSuccessful") and context.build.result is not Result.SUCCESS:
        context.log("nothing archived: the build is not successful (onlyIfSuccessful)")
        return
    files = find_files(context.directory, pattern, arguments.text("excludes", ""))
    if not files and not arguments.boolean("allowEmptyArchive"):
        raise StepError(f"no artifact matches {pattern}: check the pattern, or set allowEmptyArchive")
    _copy(files, context.directory, context.build.folder / "archive")
    context.log(f"archived {len(files)} file(s)")


def add_badge(context: Context, arguments: StepArguments, _body: Body) -> None:
    """Log the text of a badge."""
    context.log(f"badge: {arguments.text('text')}")


def publish_html(context: Context, arguments: StepArguments, _body: Body) -> None:
    """Copy a folder to the `htmlreports/` of the build, and add its first page to the reports of the build."""
    target = arguments.values.get("target")
    if not isinstance(target, dict):
        raise StepError("'publishHTML' takes a map: publishHTML(target: [reportDir: 'out', reportFiles: 'index.html'])")
    report = StepArguments("publishHTML", target)
    name = report.text("reportName", "HTML Report")
    folder = report.path("reportDir", context)
    pages = [page.strip() for page in report.text("reportFiles", "index.html").split(",")]
    first = next((page for page in pages if (folder / page).is_file()), None)
    if first is None:
        if report.boolean("allowMissing"):
            context.log(f"no report {name}: {', '.join(pages)} not in {folder}")
            return
        raise StepError(f"the report {name} is missing: {', '.join(pages)} not in {folder}")
    copy = context.build.folder / "htmlreports" / re.sub(r"\W+", "_", name)
    _copy(find_files(folder, report.text("includes", "**/*")), folder, copy)
    context.build.reports.append((name, copy / first))
    context.log(f"published {name}")


def _parse_xml(file: Path) -> ElementTree.Element:
    try:
        return ElementTree.parse(file).getroot()  # noqa: S314 - written by the tests of this build
    except (OSError, ElementTree.ParseError) as error:
        raise StepError(f"{file} is not a JUnit report: {error}") from None


def _copy(files: list[Path], source: Path, target: Path) -> None:
    for file in files:
        copy = target / file.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copy2(file, copy)
        except OSError as error:
            raise StepError(f"cannot copy {file}: {error}") from None
