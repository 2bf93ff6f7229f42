"""The documents of a run in build/.

A run may have stopped at any stage, and a document may be malformed or belong to another run.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Any

from continuous_training.documents import (
    Candidate,
    DataCheck,
    Deployment,
    Document,
    FrameworkTests,
    Hold,
    HoldStatus,
    Lint,
    ModelCheck,
    Plan,
    Refit,
    Registration,
    Rollback,
    Run,
    Snapshot,
    Tests,
    Verdict,
)
from continuous_training.errors import UserError

STAGES: dict[str, type[Document]] = {
    "Set up": Run,
    "Lint": Lint,
    "Test": Tests,
    "Test the framework": FrameworkTests,
    "Snapshot": Snapshot,
    "Check data": DataCheck,
    "Plan": Plan,
    "Train": Candidate,
    "Check model": ModelCheck,
    "Compare": Verdict,
    "Refit": Refit,
    "Register": Registration,
    "Deploy": Deployment,
}
OPTIONAL = {"Test the framework"}  # runs only when its files have changed
ONLY_STAGES: dict[str, dict[str, type[Document]]] = {  # of a run that trains nothing, by its command
    "rollback": {"Set up": Run, "Roll back": Rollback},
    "hold": {"Set up": Run, "Hold": HoldStatus},
    "release": {"Set up": Run, "Release": HoldStatus},
}


@dataclass(frozen=True)
class RunDocuments:
    """The documents of a run, and an error for each document that cannot be read, by the title of its stage."""

    errors: dict[str, str]
    run: Run | None = None
    rollback: Rollback | None = None
    hold: HoldStatus | None = None
    lint: Lint | None = None
    tests: Tests | None = None
    framework_tests: FrameworkTests | None = None
    snapshot: Snapshot | None = None
    data_check: DataCheck | None = None
    plan: Plan | None = None
    candidate: Candidate | None = None
    model_check: ModelCheck | None = None
    verdict: Verdict | None = None
    refit: Refit | None = None
    registration: Registration | None = None
    deployment: Deployment | None = None

    @property
    def documents(self) -> dict[str, Document]:
        """The documents that exist, by the title of their stage, in the order of the Jenkinsfile."""
        by_title = {title: getattr(self, kind.stem) for title, kind in self.stages.items()}
        return {title: document for title, document in by_title.items() if document}

    @property
    def stages(self) -> dict[str, type[Document]]:
        """The stages of this kind of run: a rollback, a hold and a release have no others."""
        if self.run and self.run.only_command:
            return ONLY_STAGES[self.run.only_command]
        return {title: kind for title, kind in STAGES.items() if title not in OPTIONAL or getattr(self, kind.stem)}

    @property
    def active_hold(self) -> Hold | None:
        """The model's hold, as the last stage that looked for it has seen it."""
        stages = (self.hold, self.rollback, self.deployment, self.registration, self.plan)
        last = next((document for document in stages if document), None)
        return last.hold if last else None


def read_run_documents() -> RunDocuments:
    """Read every document in build/ that is readable and belongs to this run."""
    documents: dict[str, Any] = {}
    errors = {}
    for title, kind in reduce(or_, ONLY_STAGES.values(), STAGES).items():
        try:
            documents[kind.stem] = kind.find()
        except UserError as error:
            errors[title] = str(error)
        except (OSError, ValueError) as error:  # a folder, no permission, not UTF-8
            errors[title] = f"{kind.path()} cannot be read: {error}"
    return RunDocuments(errors, **documents)
