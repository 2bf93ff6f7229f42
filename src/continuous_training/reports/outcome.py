"""The outcome of a run, as a headline and a sentence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from continuous_training.formatting import join_names, pluralize
from continuous_training.settings import BRANCH

if TYPE_CHECKING:
    from continuous_training.documents import Deployment, HoldStatus, Refit, Rollback, Verdict
    from continuous_training.reports.run_documents import RunDocuments

UNCHANGED = "Production is unchanged."
RESUMED = "The next run continues with it."
STOP_MESSAGES = {  # by the stage at which a run stopped; before Train nothing was trained
    "Hold": ("the model may not be on hold", "Hold it again."),
    "Release": ("the model may still be on hold", "Release it again."),
    "Roll back": ("the champion may not have changed", "Run the rollback again to complete it."),
    "Check model": ("the candidate was not compared", f"It is kept in MLflow. {RESUMED}"),
    "Compare": ("the candidate was not compared", f"It is kept in MLflow. {RESUMED}"),
    "Refit": ("the candidate was not fitted once more", f"It was better and is kept in MLflow. {RESUMED}"),
    "Register": ("the candidate was not registered", f"It was better and is kept in MLflow. {RESUMED}"),
    "Deploy": ("the new version is not in production", f"Deploy restores the version before it. {RESUMED}"),
}

IDLE = {  # by the decision of a plan that trains nothing
    "nothing": (
        "Nothing new to train",
        "The same data, code, parameters and packages give the same model, so none was trained.",
    ),
    "duplicate": ("Repeated ping", "The same ping within the cool-down trains nothing. Set FORCE to train anyway."),
}


@dataclass(frozen=True)
class Outcome:
    """The outcome: a word, a message, and what it means."""

    tone: Literal["good", "calm", "held", "bad"]
    word: str
    message: str
    meaning: str

    @property
    def headline(self) -> str:
        """The word and the message in one line."""
        return f"{self.word}: {self.message}" if self.message else self.word


def outcome(documents: RunDocuments) -> Outcome:
    """Return the outcome of the run, from its last document."""
    if documents.rollback:
        return _describe_rollback(documents.rollback)
    if documents.hold:
        return _describe_hold(documents.hold)
    if documents.deployment:
        return _describe_promotion(documents.deployment, documents.refit)
    if documents.verdict and documents.verdict.decision == "reject":
        return _describe_rejection(documents.verdict)
    if documents.verdict or documents.registration:
        return _describe_unpromoted_candidate(documents) or _describe_stop(documents)
    if documents.candidate:
        return _describe_stop(documents)
    if documents.plan and documents.plan.decision in IDLE:
        word, meaning = IDLE[documents.plan.decision]
        why = documents.plan.reason
        return Outcome("calm", word, "", f"{why[:1].upper()}{why[1:]}. {meaning}")
    if failures := _failures(documents):
        message = f"{join_names(failures)} failed, nothing was trained"
        return Outcome("bad", "Stopped", message, f"What to correct is below. {UNCHANGED}")
    return _describe_checked_branch(documents) or _describe_stop(documents)


def _describe_rollback(rollback: Rollback) -> Outcome:
    message = (
        f"version {rollback.model_version} is in production again, in place of version {rollback.rolled_back_version}"
    )
    meaning = f"Reason: {rollback.reason}. Version {rollback.rolled_back_version} is not promoted again without FORCE."
    if rollback.hold:
        meaning += f" {rollback.hold_message[:1].upper()}{rollback.hold_message[1:]}."
    return Outcome("held", "Rolled back", message, meaning)


def _describe_hold(status: HoldStatus) -> Outcome:
    if status.hold:
        meaning = f"Runs train and compare, but promote no version by themselves. {UNCHANGED}"
        return Outcome("held", "On hold", status.message, meaning)
    meaning = f"The next run promotes a better version, and one that waits without a second training. {UNCHANGED}"
    return Outcome("good", "Released", status.message, meaning)


def _describe_promotion(deployment: Deployment, refit: Refit | None) -> Outcome:
    previous = deployment.previous_version
    instead = f"in place of version {previous}" if previous else "the first model"
    servers = pluralize(len(deployment.servers), "server")
    meaning = (
        f"It is live on {servers}, where {deployment.golden_predictions} golden predictions equal the offline ones."
    )
    if refit:
        meaning += f" It is {refit.message}."
    if deployment.hold_message:
        meaning += f" {deployment.hold_message}."
    as_judged = "without a refit, " if refit and refit.decision == "judged" else ""
    message = f"version {deployment.model_version} is in production, {as_judged}{instead}"
    return Outcome("good", "Promoted", message, meaning)


def _describe_rejection(verdict: Verdict) -> Outcome:
    if loss := verdict.lost_champion:
        message = "the candidate was not compared, because the champion is lost"
        return Outcome("bad", "Stopped at Compare", message, f"{loss[:1].upper()}{loss[1:]}")
    stays = f"the champion, version {verdict.champion}, stays" if verdict.champion else "there is still no champion"
    return Outcome("held", "Rejected", stays, f"Reason: {verdict.message}.")


def _describe_unpromoted_candidate(documents: RunDocuments) -> Outcome | None:
    """Return the outcome of a better candidate that PROMOTE or a hold keeps from production."""
    promote = documents.run.promote if documents.run else None
    if promote == "never" and documents.registration:
        message = f"version {documents.registration.model_version} is registered, but not deployed"
        return Outcome("held", "Held", message, f"PROMOTE=never: this run promotes nothing. {UNCHANGED}")
    if documents.registration and documents.registration.decision == "hold":
        message = documents.registration.hold_message or ""
        return Outcome("held", "Held", message, f"It is registered, and waits without another training. {UNCHANGED}")
    if promote == "ask" and not documents.registration:
        meaning = f"PROMOTE=ask: the run ended without approval, or before Register. {UNCHANGED} {RESUMED}"
        return Outcome("held", "Held", "the candidate is better, but was not approved", meaning)
    return None


def _describe_checked_branch(documents: RunDocuments) -> Outcome | None:
    """Return the outcome of a complete run on a branch that does not train."""
    is_complete = documents.lint and documents.tests and not documents.snapshot
    if not (is_complete and documents.run and documents.run.branch not in {"", BRANCH}):
        return None
    message = f"{documents.run.branch} passes Lint and Test"
    return Outcome("good", "Checked", message, f"Only {BRANCH} trains, so the run ends here. {UNCHANGED}")


def _describe_stop(documents: RunDocuments) -> Outcome:
    """Name the stage after the last one that left a document."""
    titles_with_document = [*documents.documents]
    if not titles_with_document and not documents.errors:
        return Outcome("calm", "No run", "there is nothing to report", "No run has left a document in build/.")
    titles = [*documents.stages]
    stage = titles[titles.index(titles_with_document[-1]) + 1] if titles_with_document else titles[0]
    if stage == "Snapshot" and not documents.lint:
        stage = "Lint"
    if stage in documents.errors or not titles_with_document:
        message = f"the document of {stage} in build/ is malformed or of another run"
        return Outcome("bad", "Unclear", message, "The errors are below. See the console for the cause.")
    both = stage == "Lint" and not documents.tests
    message, meaning = STOP_MESSAGES.get(stage, ("nothing was trained", UNCHANGED))
    return Outcome(
        "bad", f"Stopped at {'Lint and Test' if both else stage}", message, f"{meaning} See the console for the cause."
    )


def _failures(documents: RunDocuments) -> list[str]:
    """Name the checks that failed before the training."""
    failures = [tool.name for tool in documents.lint.tools if not tool.passed] if documents.lint else []
    suites = (documents.tests, documents.framework_tests)
    failures += [pluralize(tests.failed, "test") for tests in suites if tests and tests.failed]
    if documents.data_check and documents.data_check.failures:
        failures.append(pluralize(len(documents.data_check.failures), "data check"))
    return failures
