"""The JSON documents in build/ that pass from stage to stage.

Each stage reads the documents of earlier stages and writes its own atomically. Nothing else passes between stages, so
any stage can be run again by hand.
"""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, ValidationError

from continuous_training.errors import UserError
from continuous_training.formatting import format_percent
from continuous_training.git import current_commit
from continuous_training.inspection import Confusion, Curve, Importance
from continuous_training.scorers import format_score, is_error, plain_name
from continuous_training.values import Value as Value  # also for those that define documents of their own

BUILD = Path("build")
VERDICT_TEXT = BUILD / "verdict.txt"
APPROVED_BY = BUILD / "approved_by.txt"

Trigger = Literal["push", "cron", "drift", "data", "manual"]
Scalar = str | float | int | bool | None


class Document(Value):
    """The result of one stage: `scripts/ct <command>` writes it to build/<stem>.json."""

    stem: ClassVar[str]
    command: ClassVar[str]
    other_files: ClassVar[tuple[Path, ...]] = ()  # that the same stage writes

    version: Literal[1] = 1
    build_tag: str
    started: datetime
    seconds: float = Field(ge=0)

    @classmethod
    def path(cls) -> Path:
        """Return the path of the document, relative to the workspace."""
        return BUILD / f"{cls.stem}.json"

    @classmethod
    def read(cls) -> Self:
        """Read the document of the run in build/run.json.

        Raises:
            UserError: the document is missing, malformed, or belongs to another run.
        """
        document = cls.find()
        if document is None:
            raise UserError(f"{cls.path()} is missing: run scripts/ct {cls.command} first")
        return document

    @classmethod
    def find(cls) -> Self | None:
        """Read the document if there is one; raises as `read` does if it is malformed or belongs to another run."""
        try:
            text = cls.path().read_bytes()
        except FileNotFoundError:
            return None
        try:
            document = cls.model_validate_json(text)
        except ValidationError as error:
            raise UserError(
                f"{cls.path()} is not a {cls.stem} document of this version: {first_error(error)}"
            ) from error
        if not isinstance(document, Run) and document.build_tag not in (run := Run.read()).build_tags:
            raise UserError(f"{cls.path()} is of run {document.build_tag}, not {run.build_tag}: run the stage again")
        return document

    @classmethod
    def begin(cls, run: Run) -> Stopwatch:
        """Start the stage's stopwatch, and delete what this stage and later ones wrote before.

        So no verdict outlives its candidate, and no registration its verdict, whichever stage is run again.
        """
        for kind in COSTLY_STAGES[COSTLY_STAGES.index(cls) :]:
            for path in (kind.path(), *kind.other_files):
                path.unlink(missing_ok=True)
        return Stopwatch(run.build_tag)

    def write(self) -> None:
        """Write the document atomically."""
        write_atomically(self.path(), self.model_dump_json(indent=2) + "\n")


def first_error(error: ValidationError) -> str:
    """Return the first error that pydantic reports as one line: the location and the message."""
    detail = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in detail["loc"]) or "the document"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{where}: {detail['msg']}{more}"


def write_atomically(path: Path, text: str) -> None:
    """Write a text file atomically: to a temporary file beside it, then by a rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


class Stopwatch:
    """Measures a stage from its start to the writing of its document."""

    def __init__(self, build_tag: str) -> None:
        self.build_tag = build_tag
        self.started = datetime.now(UTC)
        self._start = time.monotonic()

    def stop(self) -> dict[str, Any]:
        """Return the fields that all documents have in common."""
        seconds = round(time.monotonic() - self._start, 3)
        return {"build_tag": self.build_tag, "started": self.started, "seconds": seconds}


class Run(Document):
    """Set up: the identity of the run, its trigger and its parameters.

    `restarted_builds` are the builds that this one continues, when Jenkins or `ct run --from` restarts from a stage.
    """

    stem: ClassVar[str] = "run"
    command: ClassVar[str] = "setup"

    model: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    as_of: datetime
    compute: Literal["local", "ec2"]
    force: bool
    rollback: bool = False
    promote: Literal["auto", "ask", "never"]
    trigger: Trigger
    reason: str
    branch: str
    commit: str
    build_url: str
    lock: str
    python: str
    restarted_builds: tuple[str, ...] = ()

    @property
    def build_tags(self) -> set[str]:
        """The builds whose documents belong to this run."""
        return {self.build_tag, *self.restarted_builds}

    @classmethod
    def read(cls) -> Self:
        """Read build/run.json, of a run whose code is still the code of the work tree.

        In a restarted build, the document gets the identity of that build, so that the lineage of what it makes is
        true.

        Raises:
            UserError: the document is missing or malformed, or the work tree is at another commit.
        """
        run = super().read()
        commit = current_commit()
        if run.commit and commit and run.commit != commit:
            raise UserError(
                f"the run began at commit {run.commit[:12]} and the work tree is at {commit[:12]}: start again with "
                f"scripts/ct {cls.command}"
            )
        build_tag = os.environ.get("BUILD_TAG") or run.build_tag
        if build_tag != run.build_tag:
            restarted = (*run.restarted_builds, run.build_tag)
            identity = {"build_tag": build_tag, "build_url": os.environ.get("BUILD_URL", "")}
            run = run.model_copy(update=identity | {"restarted_builds": restarted})
            run.write()
        return run


class Tool(Value):
    """One linter, and its output."""

    name: str
    command: str
    passed: bool
    output: str


class Lint(Document):
    """Lint: the results of the linters and the type checker."""

    stem: ClassVar[str] = "lint"
    command: ClassVar[str] = "lint"

    tools: list[Tool]
    earlier_run: str | None = None  # which linted the same code; then no tool ran in this one


class Tests(Document):
    """Test: the number of tests, and the names of those that failed."""

    stem: ClassVar[str] = "tests"
    command: ClassVar[str] = "test"
    __test__: ClassVar[bool] = False  # pytest: not a class of tests

    passed: int
    failed: int
    skipped: int
    failures: list[str]
    earlier_run: str | None = None  # which tested the same code, and whose counts these are


class FrameworkTests(Tests):
    """Test the framework: the same of the tests of the framework and the Jenkinsfile tool."""

    stem: ClassVar[str] = "framework_tests"


class SnapshotFile(Value):
    """One immutable Parquet file of a snapshot."""

    path: Path
    sha256: str
    rows: int = Field(gt=0)


class Snapshot(Document):
    """Snapshot: the rows of this run, split in time into training rows and fresh rows.

    `without_target` is the number of rows that were left out because their target is null.
    """

    stem: ClassVar[str] = "snapshot"
    command: ClassVar[str] = "snapshot"

    hash: str
    train: SnapshotFile
    fresh: SnapshotFile
    since: datetime
    fresh_since: datetime
    until: datetime
    newest: datetime
    columns: dict[str, str]
    without_target: int = 0

    @property
    def rows(self) -> int:
        """The number of all rows."""
        return self.train.rows + self.fresh.rows

    @property
    def fresh_rows_per_day(self) -> float:
        """The number of fresh rows per day of their window."""
        return self.fresh.rows / ((self.until - self.fresh_since) / timedelta(days=1))


class Check(Value):
    """One check: its name, its result, and examples of the rows that failed it."""

    name: str
    column: str | None = None
    passed: bool
    message: str
    rows: list[dict[str, Scalar]] = Field(default_factory=list)


class DataCheck(Document):
    """Check data: every check of the snapshot, passed or failed."""

    stem: ClassVar[str] = "data_check"
    command: ClassVar[str] = "check-data"

    checks: list[Check]

    @property
    def failures(self) -> list[Check]:
        """The checks that failed."""
        return [check for check in self.checks if not check.passed]


class DriftEvidence(Value):
    """The drift that the monitor detected when it triggered this run, and where its evidence is."""

    model_version: str
    at: datetime
    message: str
    evidence: str


class Plan(Document):
    """Plan: whether to train, and the fingerprint of what would be trained.

    `resumed_run_id` is the MLflow run of a candidate that an interrupted run has trained already. `drift` is set if the
    monitor triggered the run.
    """

    stem: ClassVar[str] = "plan"
    command: ClassVar[str] = "plan"

    decision: Literal["train", "nothing", "duplicate"]
    reason: str
    fingerprint: str
    parts: dict[str, str]
    resumed_run_id: str | None = None
    drift: DriftEvidence | None = None


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


class Rule(Value):
    """One rule of the comparison: the value, its limit, and whether the rule holds."""

    name: str
    passed: bool
    value: float | None
    limit: float | None
    message: str


class Metric(Value):
    """One scorer of both models on the fresh rows; higher is better. `scorers` has the natural sign of errors.

    The deciding metric has a confidence interval of the difference, candidate minus champion, and the margin that the
    interval must clear.
    """

    name: str
    candidate: float
    champion: float | None
    difference: tuple[float, float] | None = None
    margin: float | None = None


CHAMPION_OPENS = "the champion can be opened"  # the rule that fails if it cannot; it is listed only then


class Verdict(Document):
    """Compare: `promote` or `reject`, with every number behind the decision.

    `curves`, `confusion` and `importance` decide nothing: the report shows them.
    """

    stem: ClassVar[str] = "verdict"
    command: ClassVar[str] = "compare"
    other_files: ClassVar[tuple[Path, ...]] = (VERDICT_TEXT, APPROVED_BY)

    decision: Literal["promote", "reject"]
    message: str
    champion: str | None
    fresh_rows: int
    confidence: float
    metrics: list[Metric]
    rules: list[Rule]
    curves: list[Curve]
    confusion: list[Confusion] = Field(default_factory=list)
    importance: Importance | None = None

    @property
    def lost_champion(self) -> str | None:
        """Why the champion cannot be compared with, and the command that ends this; None if it can."""
        return next((rule.message for rule in self.rules if rule.name == CHAMPION_OPENS and not rule.passed), None)

    @property
    def summary(self) -> str:
        """The verdict as text for the approver and the console, one line per number."""
        lines = [f"Verdict: {self.decision}"]
        width = max(20, *(len(plain_name(metric.name)) for metric in self.metrics)) if self.metrics else 0
        for metric in self.metrics:
            line = f"{plain_name(metric.name):<{width}} candidate {format_score(metric.candidate, metric.name)}"
            if metric.champion is not None:
                line += f"   champion {format_score(metric.champion, metric.name)}"
            lines.append(line + ("   lower is better" if is_error(metric.name) else ""))
        lines += self.importance.sentences if self.importance else []
        lines += [f"{'✓' if rule.passed else '✗'} {rule.message}" for rule in self.rules]
        return "\n".join(lines)


class Registration(Document):
    """Register: the model version made from the candidate."""

    stem: ClassVar[str] = "registration"
    command: ClassVar[str] = "register"

    name: str
    model_version: str


class Deployment(Document):
    """Deploy: the version in production, the version before it, and the traffic observed during the rollout.

    `shadow` and `canary` are observed while the version runs beside the champion, if training.yaml asks for it and
    there is a champion; `watch` covers its first seconds as champion. All numbers are totals over all servers.
    """

    class Observation(Value):
        """The traffic of a version in one role: requests, error share, and the 99th percentile of latency.

        `agreement` is the share of compared rows on which the version and the champion agree. A value is None if there
        were too few requests or rows.
        """

        requests: int = Field(ge=0)
        error_share: float | None
        milliseconds: float | None
        rows: int = Field(default=0, ge=0)
        agreement: float | None = None

        @property
        def summary(self) -> str:
            """The observation as one line."""
            if self.error_share is None or self.milliseconds is None:
                message = f"{self.requests:,} requests, too few to evaluate"
            else:
                errors, latency = format_percent(self.error_share), f"99% within {self.milliseconds:.3g} ms"
                message = f"{self.requests:,} requests, {errors} failed, {latency}"
            if self.agreement is not None:
                share = format_percent(self.agreement)
                return f"{message}; it agrees with the champion on {share} of {self.rows:,} rows"
            return f"{message}; {self.rows:,} rows compared, too few to evaluate" if self.rows else message

    stem: ClassVar[str] = "deployment"
    command: ClassVar[str] = "deploy"

    name: str
    model_version: str
    previous_version: str | None
    servers: list[str]
    golden_predictions: int
    shadow: Observation | None = None
    canary: Observation | None = None
    watch: Observation | None = None


class Rollback(Document):
    """Roll back: the version in production again, the version rolled back, and the reason."""

    stem: ClassVar[str] = "rollback"
    command: ClassVar[str] = "rollback"

    name: str
    model_version: str
    rolled_back_version: str
    reason: str
    servers: list[str]


# The documents of the stages that cost money, in the order of the stages
COSTLY_STAGES: tuple[type[Document], ...] = (
    *(Snapshot, DataCheck, Plan, Candidate, ModelCheck),
    *(Verdict, Registration, Deployment),
)
