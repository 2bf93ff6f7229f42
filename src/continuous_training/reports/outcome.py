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
    said: str
    meaning: str

    @property
    def headline(self) -> str:
        """The word and the few more, in one line."""
        return f"{self.word}: {self.said}" if self.said else self.word


def outcome(found: Found) -> Outcome:
    """Say what became of the run, from the last thing that it did."""
    if found.rollback:
        return _rolled_back(found.rollback)
    if found.deployment:
        return _promoted(found.deployment)
    if found.verdict and found.verdict.decision == "reject":
        return _rejected(found.verdict)
    if found.verdict or found.registration:
        return _held(found) or _stopped(found)
    if found.candidate:
        return _stopped(found)
    if found.plan and found.plan.decision in IDLE:
        word, meaning = IDLE[found.plan.decision]
        why = found.plan.reason
        return Outcome("calm", word, "", f"{why[:1].upper()}{why[1:]}. {meaning}")
    if failures := _failures(found):
        said = f"{listed(failures)} failed, nothing was trained"
        return Outcome("bad", "Stopped", said, f"What to mend is below. {STILL}")
    return _checked(found) or _stopped(found)


def _rolled_back(done: Rollback) -> Outcome:
    said = f"version {done.model_version} answers again, in place of version {done.rolled_back}"
    meaning = f"Because {done.reason}. Version {done.rolled_back} is not promoted again without FORCE."
    return Outcome("held", "Rolled back", said, meaning)


def _promoted(deployed: Deployment) -> Outcome:
    instead = f"in place of version {deployed.previous}" if deployed.previous else "the first model in production"
    servers = counted(len(deployed.servers), "server")
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
    titles = [*found.stages]
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
        failures.append(counted(found.tests.failed, "test"))
    if found.data_check and found.data_check.failures:
        failures.append(counted(len(found.data_check.failures), "data check"))
    return failures
