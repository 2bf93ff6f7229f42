"""The steps that keep what a build made: JUnit results, archived files, published HTML."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from jenkinsfile.builds.results import Result, StepError
from jenkinsfile.steps import file_patterns as patterns
from jenkinsfile.steps.arguments import Given

if TYPE_CHECKING:
    from pathlib import Path

    from jenkinsfile.builds.context import Body, Context
    from jenkinsfile.expressions.values import Value


def junit(context: Context, given: Given, _body: Body) -> dict[str, Value]:
    """Read JUnit's XML files: a failed test makes the stage and the build UNSTABLE."""
    wanted = given.text("testResults")
    files = patterns.find(context.directory, wanted)
    if not files:
        if given.flag("allowEmptyResults"):
            context.say(f"no test results in {wanted}")
            return {"totalCount": 0, "failCount": 0, "skipCount": 0, "passCount": 0}
        raise StepError(f"no test report files were found in {wanted}: configuration error?")
    total = failed = skipped = 0
    for file in files:
        for case in _root(file).iter("testcase"):
            total += 1
            failed += case.find("failure") is not None or case.find("error") is not None
            skipped += case.find("skipped") is not None
    _copy(files, context.directory, context.build.folder / "junit")
    context.say(f"{total} tests: {failed} failed, {skipped} skipped", "yellow" if failed else "")
    if failed and not given.flag("skipMarkingBuildUnstable"):
        context.unstable(Result.UNSTABLE)
    return {"totalCount": total, "failCount": failed, "skipCount": skipped, "passCount": total - failed - skipped}


def archive_artifacts(context: Context, given: Given, _body: Body) -> None:
    """Copy files of the workspace to the build's `archive/`."""
    wanted = given.text("artifacts")
    if given.flag("onlyIfSuccessful") and context.build.result is not Result.SUCCESS:
        context.say("archived nothing: the build is not successful")
        return
    files = patterns.find(context.directory, wanted, given.text("excludes", ""))
    if not files and not given.flag("allowEmptyArchive"):
        raise StepError(f"no artifacts found that match {wanted}: configuration error?")
    _copy(files, context.directory, context.build.folder / "archive")
    context.say(f"archived {len(files)} file(s)")


def add_badge(context: Context, given: Given, _body: Body) -> None:
    """Show a word beside the build."""
    context.say(f"badge: {given.text('text')}")


def publish_html(context: Context, given: Given, _body: Body) -> None:
    """Copy a folder to the build's `htmlreports/`, and remember the address of its first page."""
    target = given.values.get("target")
    if not isinstance(target, dict):
        raise StepError("«publishHTML» takes a map: publishHTML(target: [reportDir: 'out', reportFiles: 'index.html'])")
    report = Given("publishHTML", target)
    name = report.text("reportName", "HTML Report")
    folder = report.path("reportDir", context)
    pages = [page.strip() for page in report.text("reportFiles", "index.html").split(",")]
    first = next((page for page in pages if (folder / page).is_file()), None)
    if first is None:
        if report.flag("allowMissing"):
            context.say(f"no report {name}: {', '.join(pages)} not in {folder}")
            return
        raise StepError(f"the report {name} is missing: {', '.join(pages)} not in {folder}")
    copy = context.build.folder / "htmlreports" / re.sub(r"\W+", "_", name)
    _copy(patterns.find(folder, report.text("includes", "**/*")), folder, copy)
    context.build.reports.append((name, copy / first))
    context.say(f"published {name}")


def _root(file: Path) -> ElementTree.Element:
    try:
        return ElementTree.parse(file).getroot()  # noqa: S314 - a file that this build's own tests wrote
    except (OSError, ElementTree.ParseError) as error:
        raise StepError(f"{file} is no JUnit report: {error}") from None


def _copy(files: list[Path], source: Path, target: Path) -> None:
    for file in files:
        copy = target / file.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copy2(file, copy)
        except OSError as error:
            raise StepError(f"cannot copy {file}: {error}") from None
