"""The JSON documents in build/ that pass from stage to stage.

Each stage reads the documents of earlier stages and writes its own atomically. Nothing else passes between stages, so
any stage can be run again by hand.
"""

from continuous_training.documents.acceptance import Acceptance
from continuous_training.documents.code import FrameworkTests, Lint, Tests, Tool
from continuous_training.documents.data import Check, DataCheck, Snapshot, SnapshotFile
from continuous_training.documents.document import (
    APPROVED_BY,
    BUILD,
    COSTLY_FILES,
    REFIT_TEXT,
    VERDICT_TEXT,
    Document,
    Run,
    Stopwatch,
    Trigger,
    first_error,
    is_run_of,
    write_atomically,
)
from continuous_training.documents.holds import Hold, HoldStatus
from continuous_training.documents.inspection import (
    Confusion,
    CorrelatedFeatures,
    Curve,
    FeatureImportance,
    Importance,
    ModelRole,
)
from continuous_training.documents.looks import Look
from continuous_training.documents.production import Deployment, Registration, Rollback
from continuous_training.documents.refit import Recipe, Refit
from continuous_training.documents.training import Candidate, DriftEvidence, ModelCheck, Plan, Trials, TrialScore
from continuous_training.documents.values import Line, Scalar, Value
from continuous_training.documents.verdict import CHAMPION_OPENS, Metric, Rule, Verdict

__all__ = [
    "APPROVED_BY",
    "BUILD",
    "CHAMPION_OPENS",
    "COSTLY_FILES",
    "REFIT_TEXT",
    "VERDICT_TEXT",
    "Acceptance",
    "Candidate",
    "Check",
    "Confusion",
    "CorrelatedFeatures",
    "Curve",
    "DataCheck",
    "Deployment",
    "Document",
    "DriftEvidence",
    "FeatureImportance",
    "FrameworkTests",
    "Hold",
    "HoldStatus",
    "Importance",
    "Line",
    "Lint",
    "Look",
    "Metric",
    "ModelCheck",
    "ModelRole",
    "Plan",
    "Recipe",
    "Refit",
    "Registration",
    "Rollback",
    "Rule",
    "Run",
    "Scalar",
    "Snapshot",
    "SnapshotFile",
    "Stopwatch",
    "Tests",
    "Tool",
    "TrialScore",
    "Trials",
    "Trigger",
    "Value",
    "Verdict",
    "first_error",
    "is_run_of",
    "write_atomically",
]
