"""What became of a run, in a headline and a sentence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from continuous_training.reports.words import counted, listed
from continuous_training.settings import BRANCH

if TYPE_CHECKING:
    from continuous_training.documents import Deployment, Rollback, Verdict
    from continuous_training.reports.found import Found

STILL = "Whatever answered before still does."
AGAIN = "The next run takes it up again."
STOPPED = {  # what it means that a run stopped at a stage; before Train nothing came of it
    "Roll back": ("the champion may still be the one to take back", "The same once more ends it."),
    "Check model": ("the candidate is not judged", f"It is kept in MLflow. {AGAIN}"),
    "Compare": ("the candidate is not judged", f"It is kept in MLflow. {AGAIN}"),
    "Register": ("the candidate is not registered", f"It has won and is kept in MLflow. {AGAIN}"),
    "Deploy": ("the new version does not answer", f"Deploy puts back what answered before. {AGAIN}"),
}

IDLE = {  # what a plan says that trains nothing
    "nothing": (
        "Nothing new to learn",
        "The same data, code, parameters and packages make the same model, so none was trained.",
    ),
    "answered": ("Answered already", "A ping that says the same again so soon trains nothing. FORCE does."),
}


@dataclass(frozen=True)
class Outcome:
    """What happened, in a word and a few more, and what it means."""

    tone: Literal["good", "calm", "held", "bad"]
    word: str
    message: str
    meaning: str

    @property
    def headline(self) -> str:
        """The word and the few more, in one line."""
        return f"{self.word}: {self.message}" if self.message else self.word


def outcome(documents: Found) -> Outcome:
    """Say what became of the run, from the last thing that it did."""
    if documents.rollback:
        return _rolled_back(documents.rollback)
    if documents.deployment:
        return _promoted(documents.deployment)
    if documents.verdict and documents.verdict.decision == "reject":
        return _rejected(documents.verdict)
    if documents.verdict or documents.registration:
        return _held(documents) or _stopped(documents)
    if documents.candidate:
        return _stopped(documents)
    if documents.plan and documents.plan.decision in IDLE:
        word, meaning = IDLE[documents.plan.decision]
        why = documents.plan.reason
        return Outcome("calm", word, "", f"{why[:1].upper()}{why[1:]}. {meaning}")
    if failures := _failures(documents):
        message = f"{listed(failures)} failed, nothing was trained"
        return Outcome("bad", "Stopped", message, f"What to mend is below. {STILL}")
    return _checked(documents) or _stopped(documents)


def _rolled_back(done: Rollback) -> Outcome:
    message = f"version {done.model_version} answers again, in place of version {done.rolled_back_version}"
    meaning = f"Because {done.reason}. Version {done.rolled_back_version} is not promoted again without FORCE."
    return Outcome("held", "Rolled back", message, meaning)


def _promoted(deployed: Deployment) -> Outcome:
    instead = f"in place of version {deployed.previous}" if deployed.previous else "the first model in production"
    servers = counted(len(deployed.servers), "server")
    meaning = f"It is live on {servers}, where {deployed.golden} golden predictions equal those made offline."
    return Outcome("good", "Promoted", f"version {deployed.model_version} now answers, {instead}", meaning)


def _rejected(verdict: Verdict) -> Outcome:
    stays = f"the champion, version {verdict.champion}, stays" if verdict.champion else "there is still no champion"
    return Outcome("held", "Rejected", stays, f"Because {verdict.message}.")


def _held(documents: Found) -> Outcome | None:
    """Say who held a candidate back that has won, if anybody did."""
    asked = documents.run.promote if documents.run else None
    if asked == "never" and documents.registration:
        message = f"version {documents.registration.model_version} is registered, but not deployed"
        return Outcome("held", "Held", message, f"PROMOTE=never: this run puts nothing into production. {STILL}")
    if asked == "ask" and not documents.registration:
        meaning = f"PROMOTE=ask: the run ended without a yes, or before Register. {STILL} {AGAIN}"
        return Outcome("held", "Held", "the candidate won, but was not approved", meaning)
    return None


def _checked(documents: Found) -> Outcome | None:
    """Say that a run has done all it was to do on a branch that does not train."""
    ended = documents.lint and documents.tests and not documents.snapshot
    if not (ended and documents.run and documents.run.branch not in {"", BRANCH}):
        return None
    message = f"{documents.run.branch} passes Lint and Test"
    return Outcome("good", "Checked", message, f"Only {BRANCH} trains, so the run ends here. {STILL}")


def _stopped(documents: Found) -> Outcome:
    """Name the stage after the last one that left a document."""
    reached = [*documents.documents]
    if not reached and not documents.problems:
        return Outcome("calm", "No run", "there is nothing to report", "No run has left a document in build/.")
    titles = [*documents.stages]
    at = titles[titles.index(reached[-1]) + 1] if reached else titles[0]
    if at == "Snapshot" and not documents.lint:
        at = "Lint"
    if at in documents.problems or not reached:
        message = f"what {at} left in build/ is broken or of another run"
        return Outcome("bad", "Unclear", message, "What is left out is named below. The console says what happened.")
    both = at == "Lint" and not documents.tests
    message, meaning = STOPPED.get(at, ("nothing was trained", STILL))
    return Outcome("bad", f"Stopped at {'Lint and Test' if both else at}", message, f"{meaning} The console says why.")


def _failures(documents: Found) -> list[str]:
    """Name what failed before the training."""
    failures = [tool.name for tool in documents.lint.tools if not tool.passed] if documents.lint else []
    if documents.tests and documents.tests.failed:
        failures.append(counted(documents.tests.failed, "test"))
    if documents.data_check and documents.data_check.failures:
        failures.append(counted(len(documents.data_check.failures), "data check"))
    return failures
