"""A document of a stage: how it is written, read, and deleted when its stage or an earlier one runs again."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, ValidationError

from continuous_training.documents.acceptance import Acceptance
from continuous_training.documents.values import Value
from continuous_training.errors import UserError
from continuous_training.git import current_commit

BUILD = Path("build")
VERDICT_TEXT = BUILD / "verdict.txt"
REFIT_TEXT = BUILD / "refit.txt"
APPROVED_BY = BUILD / "approved_by.txt"
# What the stages that cost money write, in the order of the stages
COSTLY_FILES = (
    *(BUILD / f"{stem}.json" for stem in ("snapshot", "data_check", "plan", "candidate", "model_check", "verdict")),
    *(
        VERDICT_TEXT,
        BUILD / "refit.json",
        REFIT_TEXT,
        APPROVED_BY,
        BUILD / "registration.json",
        BUILD / "deployment.json",
    ),
)

Trigger = Literal["push", "cron", "drift", "data", "manual"]


class Document(Value):
    """The result of one stage: `scripts/ct <command>` writes it to build/<stem>.json."""

    stem: ClassVar[str]
    command: ClassVar[str]

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
        for path in COSTLY_FILES[COSTLY_FILES.index(cls.path()) :]:
            path.unlink(missing_ok=True)
        return Stopwatch(run.build_tag)

    def write(self) -> None:
        """Write the document atomically."""
        write_atomically(self.path(), self.model_dump_json(indent=2) + "\n")


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
    hold: Literal["", "hold", "release"] = ""
    acceptance: Acceptance | None = None
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
    def only_command(self) -> str | None:
        """The command after Set up that is all of this run; None for a run that trains."""
        return "rollback" if self.rollback else self.hold or None

    def is_held(self, *, on_hold: bool) -> bool:
        """Whether this run promotes nothing: with PROMOTE=never, or because the model is on hold.

        A person decides in spite of a hold: by FORCE, or by the approval that PROMOTE=ask needs.
        """
        return self.promote == "never" or (on_hold and not self.force and self.promote != "ask")

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


def is_run_of(command: str, build_tag: str) -> bool:
    """Whether build/ belongs to the run that this command is all of; a person may call it in any workspace."""
    try:
        run = Run.find()
    except UserError:
        return False
    return run is not None and run.only_command == command and run.build_tag == build_tag


class Stopwatch:
    """Measures a stage from its start to the writing of its document."""

    def __init__(self, build_tag: str) -> None:
        self.build_tag = build_tag
        self.started = datetime.now(UTC)
        self._start = time.monotonic()

    @classmethod
    def of_environment(cls) -> Self:
        """Start a stopwatch for the build of BUILD_TAG, or for what a person does by hand."""
        return cls(os.environ.get("BUILD_TAG") or f"by-hand-{time.time():.0f}")

    def stop(self) -> dict[str, Any]:
        """Return the fields that all documents have in common."""
        seconds = round(time.monotonic() - self._start, 3)
        return {"build_tag": self.build_tag, "started": self.started, "seconds": seconds}


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
