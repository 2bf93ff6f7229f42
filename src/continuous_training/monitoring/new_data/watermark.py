"""What a version's snapshot had of each day, kept with its MLflow run from the moment it is trained."""

from __future__ import annotations

import hashlib
import tempfile
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import ibis
from pydantic import ValidationError

from continuous_training.documents import Value, first_error
from continuous_training.errors import UserError
from continuous_training.monitoring.new_data.counted import Day, counted
from continuous_training.registry import connection

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from continuous_training.documents import Snapshot
    from continuous_training.registry.model_versions import Version
    from continuous_training.settings import Data

FILE = "watermark.json"


class Watermark(Value):
    """The rows of a snapshot by day; `by` tells the query and the columns that they were counted by from others."""

    by: str
    since: datetime
    until: datetime
    newest: datetime
    days: dict[date, Day]

    @property
    def rows(self) -> int:
        """All rows."""
        return sum(day.rows for day in self.days.values())


def of(snapshot: Snapshot, data: Data) -> Watermark:
    """Count the rows of a snapshot, train and fresh ones."""
    database = ibis.duckdb.connect()
    try:
        found = counted(database.read_parquet([snapshot.train.path, snapshot.fresh.path]), data, snapshot.until)
    finally:
        database.disconnect()
    return Watermark(
        by=counted_by(data), since=snapshot.since, until=snapshot.until, newest=snapshot.newest, days=found.before
    )


def counted_by(data: Data) -> str:
    """Hash what rows are counted by: the query, and which columns are of which type."""
    columns = [(name, column.type) for name, column in data.columns.items()]
    return hashlib.sha256(repr((data.query or data.source, data.time, columns)).encode()).hexdigest()


def keep(client: MlflowClient, run_id: str, watermark: Watermark) -> None:
    """Log it to a candidate's MLflow run."""
    client.log_text(run_id, watermark.model_dump_json(), FILE)


def kept(client: MlflowClient, version: Version) -> Watermark | None:
    """Return what was kept with a version, or None if nothing was.

    Raises:
        UserError: it is there and cannot be read.
    """
    run = f"MLflow run {version.run_id}"
    files = connection.none_if_missing(lambda: client.list_artifacts(version.run_id), run) or []
    if FILE not in {file.path for file in files}:
        return None
    with tempfile.TemporaryDirectory() as folder:
        try:
            text = Path(client.download_artifacts(version.run_id, FILE, folder)).read_bytes()
            return Watermark.model_validate_json(text)
        except ValidationError as error:
            raise UserError(
                f"the watermark of version {version.number} is of another make: {first_error(error)}"
            ) from error
        except Exception as error:
            raise UserError(f"the watermark of version {version.number} cannot be read: {error}") from error
