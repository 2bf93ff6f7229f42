"""Report: one page for a person, from whatever documents a run has left.

A run may have stopped anywhere, and a document may be broken or another run's: the page says so and shows the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from continuous_training import plots
from continuous_training.documents import (
    BUILD,
    Candidate,
    DataCheck,
    Deployment,
    Document,
    Lint,
    Metric,
    Plan,
    Registration,
    Run,
    Snapshot,
    Tests,
    Verdict,
    write_atomically,
)
from continuous_training.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

PAGE = BUILD / "report.html"
STAGES: dict[str, type[Document]] = {
    "Set up": Run,
    "Lint": Lint,
    "Test": Tests,
    "Snapshot": Snapshot,
    "Check data": DataCheck,
    "Plan": Plan,
    "Train": Candidate,
    "Compare": Verdict,
    "Register": Registration,
    "Deploy": Deployment,
}
STARTERS = {
    "push": "a push",
    "cron": "the schedule",
    "drift": "a ping about drift",
    "data": "a ping about new data",
    "manual": "a person",
}
BRANCH = "main"  # the one that trains; the Jenkinsfile ends a run of any other after Lint and Test
STILL = "Whatever answered before still does."
AGAIN = "The next run takes it up again."
STOPPED = {  # what it means that a run stopped at a stage; before Train nothing came of it
    "Compare": ("the candidate is not judged", f"It is kept in MLflow. {AGAIN}"),
    "Register": ("the candidate is not registered", f"It has won and is kept in MLflow. {AGAIN}"),
    "Deploy": ("the new version does not answer", f"Deploy puts back what answered before. {AGAIN}"),
}


@dataclass(frozen=True)
class Found:
    """What the stages of a run left in build/, and, by the title of the stage, what is wrong with what is left out."""

    problems: dict[str, str]
    run: Run | None = None
    lint: Lint | None = None
    tests: Tests | None = None
    snapshot: Snapshot | None = None
    data_check: DataCheck | None = None
    plan: Plan | None = None
    candidate: Candidate | None = None
    verdict: Verdict | None = None
    registration: Registration | None = None
    deployment: Deployment | None = None

    @property
    def documents(self) -> dict[str, Document]:
        """The documents that are there, by the title of their stage, in the order of the Jenkinsfile."""
        all_of_them = {title: getattr(self, kind.noun) for title, kind in STAGES.items()}
        return {title: document for title, document in all_of_them.items() if document}


@dataclass(frozen=True)
class Outcome:
    """What happened, in a word and a few more, and what it means."""

    tone: Literal["good", "calm", "held", "bad"]
    word: str
    said: str
    meaning: str


@dataclass(frozen=True)
class Measure:
    """A metric as people read it: a loss is positive, and an improvement is positive whichever way is better."""

    name: str
    lower_is_better: bool
    candidate: float
    champion: float | None
    improvement: float | None


def write() -> Path:
    """Write build/report.html, whole or not at all, and return its path."""
    write_atomically(PAGE, render(gather()))
    return PAGE


def gather() -> Found:
    """Read every document in build/ that can be read and is of this run."""
    documents: dict[str, Any] = {}
    problems = {}
    for title, kind in STAGES.items():
        try:
            documents[kind.noun] = kind.find()
        except Problem as problem:
            problems[title] = str(problem)
        except (OSError, ValueError) as error:  # a folder, no permission, not UTF-8
            problems[title] = f"{kind.path()} cannot be read: {error}"
    return Found(problems, **documents)


def render(found: Found) -> str:
    """Return the whole page."""
    metrics = found.verdict.metrics if found.verdict else []
    return _template().render(
        found=found,
        outcome=outcome(found),
        stages=STAGES,
        starters=STARTERS,
        measures=[measure(metric) for metric in metrics],
        interval=plots.interval(metrics[0]) if metrics else None,
        plots=plots.plots(found.verdict.curves) if found.verdict else [],
        windows=plots.windows(found.run, found.snapshot) if found.run and found.snapshot else None,
        bars=plots.waterfall([*found.documents.values()]),
    )


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"day": day, "duration": duration, "moment": moment, "number": number}
    return environment.get_template("report.html.j2")


def outcome(found: Found) -> Outcome:
    """Say what became of the run, from the last thing that it did."""
    if found.deployment:
        return _promoted(found.deployment)
    if found.verdict and found.verdict.decision == "reject":
        return _rejected(found.verdict)
    if found.verdict or found.registration:
        return _held(found) or _stopped(found)
    if found.candidate:
        return _stopped(found)
    if found.plan and found.plan.decision == "nothing":
        why = found.plan.reason
        meaning = "The same data, code, parameters and packages make the same model, so none was trained."
        return Outcome("calm", "Nothing new to learn", "", f"{why[:1].upper()}{why[1:]}. {meaning}")
    if failures := _failures(found):
        said = f"{_listed(failures)} failed, nothing was trained"
        return Outcome("bad", "Stopped", said, f"What to mend is below. {STILL}")
    return _checked(found) or _stopped(found)


def measure(metric: Metric) -> Measure:
    """Turn a scorer's value, of which more is better, into the metric that people know."""
    loss = metric.name.startswith("neg_")
    sign = -1 if loss else 1
    return Measure(
        name=metric.name.removeprefix("neg_"),
        lower_is_better=loss,
        candidate=sign * metric.candidate,
        champion=None if metric.champion is None else sign * metric.champion,
        improvement=None if metric.champion is None else metric.candidate - metric.champion,
    )


def number(value: float, *, signed: bool = False) -> str:
    """Write a number with as many digits as tell something."""
    if not value:
        return "0"
    decimals = next((places for limit, places in ((1000, 0), (100, 1), (10, 2)) if abs(value) >= limit), 4)
    style = f",.{decimals}f" if abs(value) >= 10**-decimals else ".1e"
    return f"{value:{'+' if signed else ''}{style}}".replace("-", "\N{MINUS SIGN}")


def duration(seconds: float) -> str:
    """Write how long something took."""
    if seconds < 60:
        return f"{seconds:.{1 if seconds >= 1 else 2}f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def day(at: datetime) -> str:
    """Write a date, with its time unless that is midnight."""
    time = f", {at:%H:%M}" if at.hour or at.minute else ""
    return f"{at.day} {at:%B %Y}{time}"


def moment(at: datetime) -> str:
    """Write a date and a time in UTC."""
    at = at.astimezone(UTC) if at.tzinfo else at
    return f"{at.day} {at:%B %Y, %H:%M} UTC"


def _promoted(deployed: Deployment) -> Outcome:
    instead = f"in place of version {deployed.previous}" if deployed.previous else "the first model in production"
    servers = _counted(len(deployed.servers), "server")
    meaning = f"It is live on {servers}, where {deployed.golden} golden predictions equal those made offline."
    return Outcome("good", "Promoted", f"version {deployed.model_version} now answers, {instead}", meaning)


def _rejected(verdict: Verdict) -> Outcome:
    stays = f"the champion, version {verdict.champion}, stays" if verdict.champion else "there is still no champion"
    return Outcome("held", "Rejected", stays, f"Because {verdict.said}.")


def _held(found: Found) -> Outcome | None:
    """Say who held a candidate back that has won, if anybody did."""
    asked = found.run.promote if found.run else None
    if asked == "never" and found.registration:
        said = f"version {found.registration.model_version} is registered, but not deployed"
        return Outcome("held", "Held", said, f"PROMOTE=never: this run puts nothing into production. {STILL}")
    if asked == "ask" and not found.registration:
        meaning = f"PROMOTE=ask: the run ended without a yes, or before Register. {STILL} {AGAIN}"
        return Outcome("held", "Held", "the candidate won, but was not approved", meaning)
    return None


def _checked(found: Found) -> Outcome | None:
    """Say that a run has done all it was to do on a branch that does not train."""
    ended = found.lint and found.tests and not found.snapshot
    if not (ended and found.run and found.run.branch not in {"", BRANCH}):
        return None
    said = f"{found.run.branch} passes Lint and Test"
    return Outcome("good", "Checked", said, f"Only {BRANCH} trains, so the run ends here. {STILL}")


def _stopped(found: Found) -> Outcome:
    """Name the stage after the last one that left a document."""
    reached = [*found.documents]
    if not reached and not found.problems:
        return Outcome("calm", "No run", "there is nothing to report", "No run has left a document in build/.")
    titles = [*STAGES]
    at = titles[titles.index(reached[-1]) + 1] if reached else titles[0]
    if at == "Snapshot" and not found.lint:
        at = "Lint"
    if at in found.problems or not reached:
        said = f"what {at} left in build/ is broken or of another run"
        return Outcome("bad", "Unclear", said, "What is left out is named below. The console says what happened.")
    both = at == "Lint" and not found.tests
    said, meaning = STOPPED.get(at, ("nothing was trained", STILL))
    return Outcome("bad", f"Stopped at {'Lint and Test' if both else at}", said, f"{meaning} The console says why.")


def _failures(found: Found) -> list[str]:
    """Name what failed before the training."""
    failures = [tool.name for tool in found.lint.tools if not tool.passed] if found.lint else []
    if found.tests and found.tests.failed:
        failures.append(_counted(found.tests.failed, "test"))
    if found.data_check and found.data_check.failures:
        failures.append(_counted(len(found.data_check.failures), "data check"))
    return failures


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
