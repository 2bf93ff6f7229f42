"""Report: one page for a person, from whatever documents a run has left.

A run may have stopped anywhere, and a document may be broken or another run's: the page says so and shows the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from jinja2 import Environment, FileSystemLoader, StrictUndefined

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
AGAIN = "The next run takes it up again."
LEFT_BEHIND = {  # what a run that stopped at a stage leaves, where that is more than nothing
    "Train": "No candidate came of it, and whatever answered before still does.",
    "Compare": f"The candidate is kept in MLflow, but nobody has judged it. {AGAIN}",
    "Register": f"The candidate has won and is kept in MLflow. {AGAIN}",
    "Deploy": f"Where servers did not take the version up, the champion before it was put back. {AGAIN}",
}


@dataclass(frozen=True)
class Found:
    """What the stages of a run left in build/, and what is wrong with the documents that are left out here."""

    problems: list[str]
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
    documents: dict[str, Document] = {}
    problems = []
    for kind in STAGES.values():
        try:
            document = kind.find()
        except (Problem, OSError, ValueError) as error:  # not UTF-8, a folder, no permission
            problems.append(str(error) if isinstance(error, Problem) else f"{kind.path()} cannot be read: {error}")
            continue
        run = documents.get(Run.noun)
        if document and run and document.build_tag != run.build_tag:  # by hand, no BUILD_TAG told `find` so
            problems.append(f"{kind.path()} is of run {document.build_tag}, {Run.path()} is of run {run.build_tag}")
        elif document:
            documents[kind.noun] = document
    return Found(problems, **documents)  # type: ignore[arg-type] # each noun has its own kind


def render(found: Found) -> str:
    """Return the whole page."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"day": day, "duration": duration, "moment": moment, "number": number}
    metrics = found.verdict.metrics if found.verdict else []
    return environment.get_template("report.html.j2").render(
        found=found,
        outcome=outcome(found),
        stages=STAGES,
        starters=STARTERS,
        measures=[measure(metric) for metric in metrics],
        interval=plots.interval(metrics[0], _margin(found.verdict)) if found.verdict and metrics else None,
        plots=plots.plots(found.verdict.curves) if found.verdict else [],
        windows=plots.windows(found.run, found.snapshot) if found.run and found.snapshot else None,
        bars=plots.waterfall([*found.documents.values()]),
    )


def outcome(found: Found) -> Outcome:
    """Say what became of the run, from the last thing that it did."""
    if found.deployment:
        return _promoted(found.deployment)
    if found.verdict:
        return _rejected(found.verdict) if found.verdict.decision == "reject" else _won(found)
    if found.candidate:
        return _stopped(found)
    if found.plan and found.plan.decision == "nothing":
        why = found.plan.reason.removeprefix("nothing new to learn: ")
        meaning = "The same data, code, parameters and packages make the same model, so none was trained."
        return Outcome("calm", "Nothing new to learn", "", f"{why[:1].upper()}{why[1:]}. {meaning}")
    if failures := _failures(found):
        said = f"{_listed(failures)} failed, nothing was trained"
        return Outcome("bad", "Stopped", said, "Whatever answered before still does. What to mend is below.")
    return _stopped(found)


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
    decimals = next((places for limit, places in ((1000, 0), (100, 1), (10, 2)) if abs(value) >= limit), 4)
    said = f"{value:{'+' if signed else ''},.{decimals}f}"
    if value and not float(said.replace(",", "")):
        said = f"{value:{'+' if signed else ''}.1e}"
    return said.replace("-", "\N{MINUS SIGN}")


def duration(seconds: float) -> str:
    """Write how long something took."""
    if seconds < 60:
        return f"{seconds:.1f} s"
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
    if verdict.champion is None:
        return Outcome("held", "Rejected", "there is still no champion", f"Because {verdict.said}.")
    stays = f"the champion, version {verdict.champion}, stays"
    return Outcome("held", "Rejected", stays, f"Because {verdict.said}.")


def _won(found: Found) -> Outcome:
    """Say why a candidate that may replace the champion did not."""
    asked = found.run.promote if found.run else "auto"
    if asked == "auto":
        return _stopped(found)
    made = found.registration
    said = (
        f"version {made.model_version} is registered, but not deployed" if made else "the candidate won, but stays one"
    )
    why = {
        "never": "PROMOTE=never: this run may train and judge, but puts nothing into production.",
        "ask": "PROMOTE=ask: nobody has approved it, or the run stopped before it was deployed.",
    }
    return Outcome("held", "Held", said, f"{why[asked]} Whatever answered before still does.")


def _stopped(found: Found) -> Outcome:
    """Name the stage after the last one that left a document."""
    reached = [*found.documents]
    if not reached and not found.problems:
        return Outcome(
            "calm", "No run", "there is nothing to report", "build/ holds no documents: no run got that far."
        )
    titles = [*STAGES]
    after = titles[titles.index(reached[-1]) + 1 :] if reached else titles
    at = "Lint" if reached[-1:] == ["Test"] and not found.lint else after[0]
    parallel = at == "Lint" and not found.tests
    said = "Lint and Test" if parallel else at
    meaning = LEFT_BEHIND.get(at, "Nothing was trained, and whatever answered before still does.")
    return Outcome("bad", f"Stopped at {said}", _unfinished(found), f"{meaning} The console of the run says why.")


def _unfinished(found: Found) -> str:
    if found.registration:
        return f"version {found.registration.model_version} is registered, but does not answer"
    if found.candidate:
        return "the candidate is trained, but not registered"
    return "no candidate was trained"


def _failures(found: Found) -> list[str]:
    """Name what failed before the training."""
    failures = [tool.name for tool in found.lint.tools if not tool.passed] if found.lint else []
    if found.tests and found.tests.failed:
        failures.append(_counted(found.tests.failed, "test"))
    if found.data_check and found.data_check.failures:
        failures.append(_counted(len(found.data_check.failures), "data check"))
    return failures


def _margin(verdict: Verdict) -> float:
    """Return how much better the primary metric must be; the rule that asks for it is named after the metric."""
    asks = (rule.limit for rule in verdict.rules if rule.name == f"{verdict.metrics[0].name} improves")
    return next(asks, None) or 0.0


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
