"""What the stages of a run have left in build/.

A run may have stopped anywhere, and a document may be broken or another run's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from continuous_training.documents import (
    Candidate,
    DataCheck,
    Deployment,
    Document,
    Lint,
    ModelCheck,
    Plan,
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
    "Snapshot": Snapshot,
    "Check data": DataCheck,
    "Plan": Plan,
    "Train": Candidate,
    "Check model": ModelCheck,
    "Compare": Verdict,
    "Register": Registration,
    "Deploy": Deployment,
}
ROLLING_BACK: dict[str, type[Document]] = {"Set up": Run, "Roll back": Rollback}


@dataclass(frozen=True)
class Found:
    """What the stages of a run left in build/, and, by the title of the stage, what is wrong with what is left out."""

    problems: dict[str, str]
    run: Run | None = None
    rollback: Rollback | None = None
    lint: Lint | None = None
    tests: Tests | None = None
    snapshot: Snapshot | None = None
    data_check: DataCheck | None = None
    plan: Plan | None = None
    candidate: Candidate | None = None
    model_check: ModelCheck | None = None
    verdict: Verdict | None = None
    registration: Registration | None = None
    deployment: Deployment | None = None

    @property
    def documents(self) -> dict[str, Document]:
        """The documents that are there, by the title of their stage, in the order of the Jenkinsfile."""
        all_of_them = {title: getattr(self, kind.stem) for title, kind in self.stages.items()}
        return {title: document for title, document in all_of_them.items() if document}

    @property
    def stages(self) -> dict[str, type[Document]]:
        """The stages that a run of this kind has: one that rolls back has no others."""
        if self.run and self.run.rollback:
            return ROLLING_BACK
        return STAGES


def gather() -> Found:
    """Read every document in build/ that can be read and is of this run."""
    documents: dict[str, Any] = {}
    problems = {}
    for title, kind in (STAGES | ROLLING_BACK).items():
        try:
            documents[kind.stem] = kind.find()
        except UserError as problem:
            problems[title] = str(problem)
        except (OSError, ValueError) as error:  # a folder, no permission, not UTF-8
            problems[title] = f"{kind.path()} cannot be read: {error}"
    return Found(problems, **documents)
