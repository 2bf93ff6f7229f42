"""The JSON documents that the stages of a run leave for one another in build/.

Each stage reads the documents of the stages before it and writes its own, whole or not at all. Nothing else passes
between stages, so any of them can be run again by hand.
"""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from continuous_training.errors import UserError

BUILD = Path("build")
IN_WORDS = BUILD / "verdict.txt"
APPROVED_BY = BUILD / "approved_by.txt"

Trigger = Literal["push", "cron", "drift", "data", "manual"]
Scalar = str | float | int | bool | None


class Value(BaseModel):
    """An immutable value: no unknown fields, no changes."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Document(Value):
    """What one stage found out: `verb` is the stage's script, and `noun` names the file, build/<noun>.json."""

    noun: ClassVar[str]
    verb: ClassVar[str]
    beside: ClassVar[tuple[Path, ...]] = ()  # files of the same stage that are not documents

    version: Literal[1] = 1
    build_tag: str
    started: datetime
    seconds: float = Field(ge=0)

    @classmethod
    def path(cls) -> Path:
        """Where the document lies, relative to the workspace."""
        return BUILD / f"{cls.noun}.json"

    @classmethod
    def read(cls) -> Self:
        """Read the document that this run's stage wrote; which run this is, build/run.json says.

        Raises:
            UserError: it is missing, is no such document, or belongs to another run.
        """
        found = cls.find()
        if found is None:
            raise UserError(f"{cls.path()} is missing: run scripts/ct {cls.verb} first")
        return found

    @classmethod
    def find(cls) -> Self | None:
        """Read the document if this run's stage wrote one; raises as `read` does if it is broken or foreign."""
        try:
            text = cls.path().read_bytes()
        except FileNotFoundError:
            return None
        try:
            document = cls.model_validate_json(text)
        except ValidationError as error:
            raise UserError(f"{cls.path()} is not a {cls.noun} document of this version: {first(error)}") from error
        if not isinstance(document, Run) and document.build_tag != (current := Run.read()).build_tag:
            raise UserError(
                f"{cls.path()} is of run {document.build_tag}, not {current.build_tag}: run the stage again"
            )
        return document

    @classmethod
    def begin(cls, run: Run) -> Stopwatch:
        """Time the stage that writes this, and forget what it and those after it have left before.

        So no verdict outlives its candidate, and no registration its verdict, whatever is run again from where.
        """
        for kind in SPENDING[SPENDING.index(cls) :]:
            for path in (kind.path(), *kind.beside):
                path.unlink(missing_ok=True)
        return Stopwatch(run.build_tag)

    def write(self) -> None:
        """Write the document so that a reader sees the whole of it or nothing."""
        write_atomically(self.path(), self.model_dump_json(indent=2) + "\n")


def first(error: ValidationError) -> str:
    """Say the first thing that pydantic found wrong, in one line: where, and what."""
    detail = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in detail["loc"]) or "the whole"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{where}: {detail['msg']}{more}"


def percent(share: float) -> str:
    """Write a share for people."""
    return f"{100 * share:.3g}%"


def write_atomically(path: Path, text: str) -> None:
    """Write a text file by way of a temporary neighbour and a rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


class Stopwatch:
    """Times a stage from its first line to the writing of its document."""

    def __init__(self, build_tag: str) -> None:
        self.build_tag = build_tag
        self.started = datetime.now(UTC)
        self._from = time.monotonic()

    def stop(self) -> dict[str, Any]:
        """Return the fields that every document starts with."""
        seconds = round(time.monotonic() - self._from, 3)
        return {"build_tag": self.build_tag, "started": self.started, "seconds": seconds}


class Run(Document):
    """Set up: what this run is, who asked for it and with which parameters."""

    noun: ClassVar[str] = "run"
    verb: ClassVar[str] = "setup"

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


class Tool(Value):
    """One program that looked at the code, and what it said."""

    name: str
    command: str
    passed: bool
    message: str


class Lint(Document):
    """Lint: what the linters and the type checker said."""

    noun: ClassVar[str] = "lint"
    verb: ClassVar[str] = "lint"

    tools: list[Tool]


class Tests(Document):
    """Test: how many tests ran, and which failed."""

    noun: ClassVar[str] = "tests"
    verb: ClassVar[str] = "test"
    __test__: ClassVar[bool] = False  # pytest: this is no class of tests

    passed: int
    failed: int
    skipped: int
    failures: list[str]


class Part(Value):
    """One immutable Parquet file of a snapshot."""

    path: Path
    sha256: str
    rows: int = Field(gt=0)


class Snapshot(Document):
    """Snapshot: the rows that the warehouse query returned, split in time into what trains and what judges."""

    noun: ClassVar[str] = "snapshot"
    verb: ClassVar[str] = "snapshot"

    hash: str
    train: Part
    fresh: Part
    since: datetime
    fresh_since: datetime
    until: datetime
    newest: datetime
    columns: dict[str, str]

    @property
    def rows(self) -> int:
        """All rows, those that train and those that judge."""
        return self.train.rows + self.fresh.rows

    @property
    def fresh_rows_per_day(self) -> float:
        """How many fresh rows there are for each day of their window."""
        return self.fresh.rows / ((self.until - self.fresh_since) / timedelta(days=1))


class Check(Value):
    """One check of the data: what was asked, what was found, and examples of the rows that failed it."""

    name: str
    column: str | None = None
    passed: bool
    message: str
    rows: list[dict[str, Scalar]] = []


class DataCheck(Document):
    """Check data: every check of the snapshot, those passed and those failed."""

    noun: ClassVar[str] = "data_check"
    verb: ClassVar[str] = "check-data"

    checks: list[Check]

    @property
    def failures(self) -> list[Check]:
        """The checks that failed."""
        return [check for check in self.checks if not check.passed]


class Drifted(Value):
    """What the monitor said of the champion when it asked for this run, and where its evidence is."""

    model_version: str
    at: datetime
    message: str
    evidence: str


class Plan(Document):
    """Plan: whether there is anything to learn, and the fingerprint of what would be learnt.

    A run that drift has started has what had `drifted`.
    """

    noun: ClassVar[str] = "plan"
    verb: ClassVar[str] = "plan"

    decision: Literal["train", "nothing", "answered"]
    reason: str
    fingerprint: str
    parts: dict[str, str]
    resumes: str | None = None
    drifted: Drifted | None = None


class Candidate(Document):
    """Train: the MLflow run that holds the candidate."""

    noun: ClassVar[str] = "candidate"
    verb: ClassVar[str] = "train"

    run_id: str
    model_uri: str
    fingerprint: str
    metrics: dict[str, float]


class ModelCheck(Document):
    """Check model: what the behaviour tests said of the candidate, one check for each test."""

    noun: ClassVar[str] = "model_check"
    verb: ClassVar[str] = "check-model"

    checks: list[Check]


class Rule(Value):
    """One rule of the comparison: what was observed, what was allowed, and whether it held."""

    name: str
    passed: bool
    observed: float | None
    limit: float | None
    message: str


class Metric(Value):
    """One scorer's value of both models on the fresh rows; more is better.

    A metric that decides has an interval of the difference, candidate less champion, and the margin that it must clear.
    """

    name: str
    candidate: float
    champion: float | None
    difference: tuple[float, float] | None = None
    margin: float | None = None


class Curve(Value):
    """Points of a plot of one model on the fresh rows."""

    kind: Literal["roc", "calibration"]
    model: Literal["candidate", "champion"]
    x: list[float]
    y: list[float]


class Verdict(Document):
    """Compare: `promote` or `reject`, with every number that led to it."""

    noun: ClassVar[str] = "verdict"
    verb: ClassVar[str] = "compare"
    beside: ClassVar[tuple[Path, ...]] = (IN_WORDS, APPROVED_BY)

    decision: Literal["promote", "reject"]
    message: str
    champion: str | None
    fresh_rows: int
    confidence: float
    metrics: list[Metric]
    rules: list[Rule]
    curves: list[Curve]

    @property
    def in_words(self) -> str:
        """What a person is told before a yes or a no, a line for each number."""
        lines = [f"Verdict: {self.decision}"]
        for metric in self.metrics:
            champion = "" if metric.champion is None else f"   champion {metric.champion:.4f}"
            lines.append(f"{metric.name:<20} candidate {metric.candidate:.4f}{champion}")
        lines += [f"{'✓' if rule.passed else '✗'} {rule.message}" for rule in self.rules]
        return "\n".join(lines)


class Registration(Document):
    """Register: the model version that the candidate became."""

    noun: ClassVar[str] = "registration"
    verb: ClassVar[str] = "register"

    name: str
    model_version: str


class Deployment(Document):
    """Deploy: which version the servers now answer with, which they answered with before, and what was seen of it.

    As `shadow` and as `canary` it stood beside the champion, if training.yaml says so and there was one; `watch` is of
    its first seconds as champion. The numbers are those of all servers together.
    """

    class Observed(Value):
        """What a version did in one role: its requests, the share that failed, and the 99th percentile of their times.

        Beside the champion its rows are compared, and `agreement` is the share on which both say the same. What there
        were too few to judge by is None.
        """

        requests: int = Field(ge=0)
        error_share: float | None
        milliseconds: float | None
        rows: int = Field(default=0, ge=0)
        agreement: float | None = None

        @property
        def in_words(self) -> str:
            """What was seen, in a line."""
            if self.error_share is None or self.milliseconds is None:
                message = f"{self.requests:,} requests, too few to judge by"
            else:
                failed, slow = percent(self.error_share), f"99% within {self.milliseconds:.3g} ms"
                message = f"{self.requests:,} requests, {failed} failed, {slow}"
            if self.agreement is not None:
                return f"{message}; it agrees with the champion on {percent(self.agreement)} of {self.rows:,} rows"
            return f"{message}; {self.rows:,} rows compared, too few to judge by" if self.rows else message

    noun: ClassVar[str] = "deployment"
    verb: ClassVar[str] = "deploy"

    name: str
    model_version: str
    previous: str | None
    servers: list[str]
    golden: int
    shadow: Observed | None = None
    canary: Observed | None = None
    watch: Observed | None = None


class Rollback(Document):
    """Roll back: which version answers again, which was taken back, and why."""

    noun: ClassVar[str] = "rollback"
    verb: ClassVar[str] = "rollback"

    name: str
    model_version: str
    rolled_back: str
    reason: str
    servers: list[str]


# What the stages from the first that costs money leave, in their order.
SPENDING: tuple[type[Document], ...] = (
    *(Snapshot, DataCheck, Plan, Candidate, ModelCheck),
    *(Verdict, Registration, Deployment),
)
