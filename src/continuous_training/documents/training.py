"""The plan, the candidate, and the results of its behaviour tests."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar, Literal

from continuous_training.documents.data import Check
from continuous_training.documents.document import Document
from continuous_training.documents.holds import Hold
from continuous_training.documents.values import Value


class DriftEvidence(Value):
    """The drift that the monitor detected when it triggered this run, and where its evidence is."""

    model_version: str
    at: datetime
    message: str
    evidence: str


class Plan(Document):
    """Plan: whether to train, and the fingerprint of what would be trained.

    `resumed_run_id` is the MLflow run of a candidate that an interrupted run has trained already. `drift` is set if the
    monitor triggered the run. `hold` is the model's hold at that time.
    """

    stem: ClassVar[str] = "plan"
    command: ClassVar[str] = "plan"

    decision: Literal["train", "nothing", "duplicate"]
    reason: str
    fingerprint: str
    parts: dict[str, str]
    resumed_run_id: str | None = None
    drift: DriftEvidence | None = None
    hold: Hold | None = None


class TrialScore(Value):
    """The parameters of a trial, and its score on the validation rows."""

    parameters: dict[str, Any]
    score: float


class Trials(Value):
    """The trials of a grid or a search: how many there were, and the best ones, the best first."""

    metric: str
    complete: int
    pruned: int
    failed: int
    best: list[TrialScore]


class Candidate(Document):
    """Train: the MLflow run that holds the candidate, and the trials from which it was selected, if there were some."""

    stem: ClassVar[str] = "candidate"
    command: ClassVar[str] = "train"

    run_id: str
    model_uri: str
    fingerprint: str
    metrics: dict[str, float]
    trials: Trials | None = None


class ModelCheck(Document):
    """Check model: the behaviour tests of the candidate, one check per test."""

    stem: ClassVar[str] = "model_check"
    command: ClassVar[str] = "check-model"

    checks: list[Check]
