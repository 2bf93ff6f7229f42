"""The snapshot, and its checks."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from continuous_training.documents.document import Document
from continuous_training.documents.values import Scalar, Value


class SnapshotFile(Value):
    """One immutable Parquet file of a snapshot."""

    path: Path
    sha256: str
    rows: int = Field(gt=0)


class Snapshot(Document):
    """Snapshot: the rows of this run, split in time into training rows and fresh rows.

    `fresh_days_reason` says why the window of the fresh rows is as long as it is, if training.yaml leaves that open.
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
    fresh_days_reason: str = ""

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
